# `make run` and `make test` do everything on a fresh machine with Python 3.10+.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: run test slow check fmt docs clean

run: $(READY)  ## install, train on synthetic digits with CSG, test on real handwriting
	$(BIN)/synreal run --regularizer csg --task cls

test: $(READY)  ## the tests, two at a time
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadscope

slow: $(READY)  ## the tests that start several processes or whole grids
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadscope -m slow

check: $(READY)  ## lint, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fmt: $(READY)  ## format and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(READY)  ## build the documentation into site/, warnings are errors
	$(BIN)/mkdocs build --strict

clean:  ## remove the virtual environment and what was built
	rm -rf $(VENV) build dist site *.egg-info

# Plain torch resolves to a build that torchvision matches; no index is named on purpose.
$(READY): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "synreal needs Python 3.10 or newer: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --upgrade --quiet pip
	$(BIN)/python -m pip install --quiet --editable '.[dev,docs]'
	touch $(READY)
