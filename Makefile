# Every target sets up what it needs: a virtual environment in .venv with the package and its extras.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
FACES ?=

.PHONY: faces test soak docs check benchmarks clean

faces: $(VENV)/.plots  ## train on the AT&T faces (or drawn ones) and leave a run folder with pictures
	$(BIN)/python examples/att_faces.py $(FACES)

test: $(VENV)/.test  ## run all tests
	$(BIN)/python -m pytest --doctest-modules tests src

soak: $(VENV)/.test  ## run the long proofs, once before a release: some minutes on two cores
	$(BIN)/python -m pytest -m soak tests

check: $(VENV)/.check  ## format, lint, types, layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(VENV)/.docs  ## build the documentation into docs/_build/html
	$(BIN)/sphinx-build -W --keep-going -b html docs docs/_build/html
	$(BIN)/sphinx-build -W --keep-going -b doctest docs docs/_build/doctest

benchmarks: $(VENV)/.test  ## measure everything again: about an hour and a half on two cores
	$(BIN)/python benchmarks/losses.py
	$(BIN)/python benchmarks/loop.py
	$(BIN)/python benchmarks/micro_batch.py
	$(BIN)/python benchmarks/att_faces.py
	$(BIN)/python benchmarks/coverage.py
	$(BIN)/python benchmarks/operating.py
	$(BIN)/python benchmarks/retrieval.py
	$(BIN)/python benchmarks/verification.py
	$(BIN)/python benchmarks/calibration.py
	$(BIN)/python benchmarks/scale.py

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

# One stamp an extra: made again when pyproject.toml changes.
$(VENV)/.%: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable ".[$*]"
	touch $@

clean:
	rm -rf $(VENV) docs/_build docs/auto_examples dist .mypy_cache .ruff_cache .pytest_cache
