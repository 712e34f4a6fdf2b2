# Two commands do everything: `make demo` and `make test`. The rest is for working on the project.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check --quiet

.PHONY: demo test lint types imports check bench clean

$(VENV)/core: requirements.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --require-hashes -r requirements.txt
	$(PIP) install --no-deps --no-build-isolation -e .
	touch $@

$(VENV)/dev: requirements-dev.txt $(VENV)/core
	$(PIP) install --require-hashes -r requirements-dev.txt
	touch $@

demo: $(VENV)/core
	$(BIN)/itstrace demo

test: $(VENV)/dev
	$(BIN)/coverage run -m pytest
	$(BIN)/coverage report --fail-under=90

lint: $(VENV)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/dev
	$(BIN)/mypy

imports: $(VENV)/dev
	$(BIN)/lint-imports

check: lint types imports test

bench: $(VENV)/dev
	$(BIN)/python tests/bench/bench.py

clean:
	rm -rf $(VENV) build dist .coverage .pytest_cache .mypy_cache .ruff_cache .hypothesis
