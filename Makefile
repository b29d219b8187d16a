# The verbs: setup app test check bench fix. Continuous integration runs the same ones.
VENV := .venv
BIN := $(VENV)/bin
# The first Python here that the pinned packages run on (they have left 3.10, which the library supports);
# `make setup PYTHON=...` overrules it.
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null \
	&& echo $$python && break; done)
PIP_INSTALL := $(BIN)/python -m pip install --disable-pip-version-check

.PHONY: setup app test check bench fix

setup: $(VENV)/.installed

# Debian's Python comes without ensurepip; the pip beside it can fill an environment from outside.
# torch comes first and exactly pinned, so that nothing else pulls in another build of it.
$(VENV)/.installed: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11, 3.12 or 3.13 is needed; none was found." >&2; exit 1; }
	@echo "Setting up $(VENV) with $$($(PYTHON) --version); this takes some minutes, once."
	@$(PYTHON) -m venv $(VENV) >/dev/null 2>&1 || { \
		$(PYTHON) -m venv --without-pip --clear $(VENV) && \
		$(PYTHON) -m pip --python $(BIN)/python install --quiet pip; }
	@echo "1 of 2: torch"
	@$(PIP_INSTALL) "$$(grep '^torch==' constraints.txt)"
	@echo "2 of 2: everything else, and the m2v command"
	@$(PIP_INSTALL) -c constraints.txt -e '.[distill,app,eval,dev]'
	@touch $@
	@echo "Ready: $(BIN)/m2v --help"

app: setup
	$(BIN)/python app.py

# One worker per core, at most 8. A worker that runs out of tests takes some of another's.
test: setup
	$(BIN)/python -m pytest --numprocesses logical --maxprocesses 8 --dist worksteal

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest --quiet tests/test_imports.py tests/test_exported_members.py

bench: setup
	for script in benchmarks/*.py; do $(BIN)/python $$script || exit 1; done

fix: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
