# Two commands do everything on a fresh machine: make run, make test. While editing: make quick, or pytest tests/<room>.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: run test quick lint reference reference-gls reference-nfe reference-digits-nfe reference-mnist-nfe coverage check-cifar benchmark-extractor benchmark-few-steps benchmark-rivals benchmark-monge benchmark-sliced benchmark-chain benchmark-report benchmark-executors torture overhead workers gpu clean

# The digits default: five priors at three t_trunc, in three to ten minutes.
run: $(VENV)/installed
	$(BIN)/priorbench run

# All tests, with the 25 slowest listed: seven minutes on two cores.
test: $(VENV)/installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadscope --durations=25

# All but what is marked slow (a run, a process, a browser, a training): under a minute.
quick: $(VENV)/installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal -m "not slow"

# ruff check, ruff format and mypy --strict.
lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy priorbench plugins

# The tables and grids in results/reference, as the README shows them: the digits default, five to ten minutes.
reference: $(VENV)/installed
	$(BIN)/priorbench run digits --fresh --output results/reference/digits
	$(BIN)/priorbench report results/reference/digits --figures svg,pdf --latex

# The Gaussian late start of Raya and Ambrogioni put to the test on MNIST.
reference-gls: $(VENV)/installed
	$(BIN)/priorbench run gls --fresh --output results/reference/gls
	$(BIN)/priorbench report results/reference/gls --figures svg,pdf --latex

# The best FID at every NFE, five seeds of digits and of MNIST: four hours of a core and nine; `make -j2` runs both at once.
# It resumes where it was interrupted.
reference-nfe: reference-digits-nfe reference-mnist-nfe
reference-digits-nfe reference-mnist-nfe: reference-%: $(VENV)/installed
	OMP_NUM_THREADS=1 $(BIN)/priorbench run $* --output results/reference/$*
	$(BIN)/priorbench report results/reference/$* --figures svg,pdf --latex

# CIFAR-10 as a folder with train/<class>/ and test/<class>/, for the targets that need it.
CIFAR10 ?= data/cifar10-jpeg

# 64 samples of the backbone cifar10-small and what its full chain scores: an hour of a core.
check-cifar: $(VENV)/installed-dev
	$(BIN)/priorbench backbone check cifar10-small --dataset $(CIFAR10) --solver ddim --steps 100 \
	  --n-samples 2000 --batch-size 100 --grid results/reference/cifar10-small/backbone.png

# At which size EfficientNet-Lite0 should look at small images: an estimated hour of a core.
benchmark-extractor: $(VENV)/installed-dev
	$(BIN)/python benchmarks/extractor_size.py --dataset $(CIFAR10)

# Pure noise in 5, 10 and 20 steps of each solver with cifar10-small: an estimated two hours of a core, resumable.
benchmark-few-steps: $(VENV)/installed-dev
	$(BIN)/python benchmarks/few_steps.py --dataset $(CIFAR10) --backbone cifar10-small

# How often the intervals contain the true FID, and what whole runs say by chance: an hour.
coverage: $(VENV)/installed
	$(BIN)/python benchmarks/coverage.py

# The settings tried for the rivals `vae` and `gan`, on the validation split of digits and MNIST: two hours.
benchmark-rivals: $(VENV)/installed
	$(BIN)/python benchmarks/rivals.py

# How near the transport priors and POT's estimators come to a known optimal map: five minutes of a core.
benchmark-monge: $(VENV)/installed-dev
	$(BIN)/python benchmarks/monge.py

# The sliced loss against POT's: a minute.
benchmark-sliced: $(VENV)/installed
	$(BIN)/python benchmarks/sliced.py

# The chain under each setting beside a bare loop of diffusers, on the CPU: ten minutes.
benchmark-chain: $(VENV)/installed
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/chain.py

# What `priorbench tune` finds on digits, and what the whole grid does: half an hour.
benchmark-tuning: $(VENV)/installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/tuning.py

# The page of 500 rows and 60 grids: its size, how long it takes to build and to open. Needs a Chromium.
benchmark-report: $(VENV)/installed-dev
	$(BIN)/python benchmarks/report.py

# A run that is killed 50 times and one on a full disk: about ten minutes. The full disk needs root.
torture: $(VENV)/installed
	$(BIN)/python benchmarks/torture.py

# What the harness costs on the digits default: two minutes.
overhead: $(VENV)/installed
	$(BIN)/python benchmarks/overhead.py

# What a second worker saves: four minutes.
workers: $(VENV)/installed
	$(BIN)/python benchmarks/workers.py

# 64 short cells under each executor, three times, with one thread each: an estimated ten minutes.
benchmark-executors: $(VENV)/installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/workers.py --short --executors serial,process,ray --repeats 3

DEVICE ?= auto
GPU_PYTHON := $(if $(WHEELS),$(PYTHON),$(BIN)/python)

# What works on a GPU, how fast and how right: below ten minutes. DEVICE=cpu runs the same code in small, in one or two minutes.
# WHEELS=path installs what a machine without a network lacks; PYTHON is then the Python that has torch.
gpu: $(if $(WHEELS),build/site,$(VENV)/installed)
	PYTHONPATH=$(CURDIR):$(CURDIR)/plugins$(if $(WHEELS),:$(CURDIR)/build/site):$$PYTHONPATH \
	  $(GPU_PYTHON) benchmarks/gpu.py --device $(DEVICE)

build/site: $(wildcard $(WHEELS)/*.whl)
	$(PYTHON) -m pip install --quiet --no-index --no-deps --upgrade --target build/site $^

.PHONY: docs docs-links help

# The site, in build/docs: every warning is an error, and the internet is not needed.
docs: $(VENV)/installed-docs
	$(BIN)/python -m sphinx -E -W --keep-going -q -b html docs build/docs
	@echo 'The site is at build/docs/index.html.'

# Follows every link of the site that leads out of it. Needs the internet.
docs-links: $(VENV)/installed-docs
	$(BIN)/python -m sphinx -E -q -b linkcheck docs build/docs-links

# Lists the targets: the comment above each, or else its first command.
help:
	@awk '/^# / { said = said " " substr($$0, 3); next } \
	  /^[a-z-]+:/ { split($$0, part, ":"); name = part[1]; if (said) show(); next } \
	  /^\t/ && name { said = " " substr($$0, 2); show(); next } \
	  { said = "" } \
	  function show() { printf "%-18s%s\n", name, said; name = said = "" }' Makefile

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: pyproject.toml | $(VENV)/bin/python
	$(BIN)/pip install --editable .
	touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(BIN)/pip install --editable '.[dev]'
	touch $@

$(VENV)/installed-docs: $(VENV)/installed
	$(BIN)/pip install --editable '.[docs]'
	touch $@

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache
