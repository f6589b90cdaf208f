# Two commands do everything on a fresh machine: make run, make test.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: run test lint reference reference-mnist reference-gls reference-nfe coverage benchmark-sliced clean

run: $(VENV)/installed
	$(BIN)/priorbench run

test: $(VENV)/installed-dev
	$(BIN)/python -m pytest

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy priorbench plugins

# The tables and grids in results/reference, as the README shows them: the digits default, two to four minutes.
reference: $(VENV)/installed
	$(BIN)/priorbench run digits --fresh --output results/reference/digits

# The same on MNIST (about 35 minutes), and the Gaussian late start of Raya and Ambrogioni put to the test on it.
reference-mnist: $(VENV)/installed
	$(BIN)/priorbench run mnist --fresh --output results/reference/mnist

reference-gls: $(VENV)/installed
	$(BIN)/priorbench run gls --fresh --output results/reference/gls

# The best FID at every number of evaluations, over five seeds: hours.
reference-nfe: $(VENV)/installed
	$(BIN)/priorbench run digits-nfe --fresh --output results/reference/digits-nfe

# How often the intervals contain the true FID: about a quarter of an hour.
coverage: $(VENV)/installed
	$(BIN)/python benchmarks/coverage.py

# The sliced loss against POT's: a minute.
benchmark-sliced: $(VENV)/installed
	$(BIN)/python benchmarks/sliced.py

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
