# Two commands do everything on a fresh machine: make run, make test.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: run test lint reference reference-gls reference-nfe coverage benchmark-sliced benchmark-report torture overhead workers clean

run: $(VENV)/installed
	$(BIN)/priorbench run

test: $(VENV)/installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy priorbench plugins

# The tables and grids in results/reference, as the README shows them: the digits default, two to four minutes.
reference: $(VENV)/installed
	$(BIN)/priorbench run digits --fresh --output results/reference/digits
	$(BIN)/priorbench report results/reference/digits --figures svg,pdf --latex

# The Gaussian late start of Raya and Ambrogioni put to the test on MNIST.
reference-gls: $(VENV)/installed
	$(BIN)/priorbench run gls --fresh --output results/reference/gls
	$(BIN)/priorbench report results/reference/gls --figures svg,pdf --latex

# The best FID at every number of evaluations, over five seeds of digits and three of MNIST: an hour each, or more.
reference-nfe: $(VENV)/installed
	for name in digits-nfe mnist-nfe; do \
	  $(BIN)/priorbench run $$name --executor process --workers 2 --output results/reference/$$name && \
	  $(BIN)/priorbench report results/reference/$$name --figures svg,pdf --latex || exit 1; \
	done

# How often the intervals contain the true FID: about a quarter of an hour.
coverage: $(VENV)/installed
	$(BIN)/python benchmarks/coverage.py

# The sliced loss against POT's: a minute.
benchmark-sliced: $(VENV)/installed
	$(BIN)/python benchmarks/sliced.py

# The page of 500 rows and 60 grids: its size, how long it takes to build and to open. Needs a Chromium.
benchmark-report: $(VENV)/installed-dev
	$(BIN)/python benchmarks/report.py

# A run that is killed 50 times and one on a full disk: about ten minutes. The full disk needs root.
torture: $(VENV)/installed
	$(BIN)/python benchmarks/torture.py

# What the harness costs on the digits default, and what a second worker saves: two and four minutes.
overhead: $(VENV)/installed
	$(BIN)/python benchmarks/overhead.py

workers: $(VENV)/installed
	$(BIN)/python benchmarks/workers.py

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: pyproject.toml | $(VENV)/bin/python
	$(BIN)/pip install --editable .
	touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(BIN)/pip install --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache
