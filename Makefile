# The verbs: setup app test check bench fix. Continuous integration runs the same ones.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: setup app test check bench fix

setup: $(VENV)/.installed

# torch comes first and exactly pinned, so that nothing else pulls in another build of it.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check "$$(grep '^torch==' constraints.txt)"
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[distill,app,eval,dev]'
	touch $@

app: setup
	$(BIN)/python app.py

test: setup
	$(BIN)/python -m pytest

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: setup
	for script in benchmarks/*.py; do $(BIN)/python $$script || exit 1; done

fix: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
