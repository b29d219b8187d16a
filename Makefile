# The verbs: setup app test slow integrations check docs screenshots sanitize fuzz bench fix wheel. .ci/run runs most of them.
VENV := .venv
BIN := $(VENV)/bin
# The first supported Python found here; `make setup PYTHON=...` overrides it.
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null \
	&& echo $$python && break; done)
PIP_INSTALL := $(BIN)/python -m pip install --disable-pip-version-check
# A path in place of an import hook, which would cost every start some 20 ms.
EDITABLE := --config-settings editable_mode=compat

.PHONY: setup app test slow integrations check docs screenshots sanitize fuzz bench fix wheel

setup: $(VENV)/.installed $(VENV)/.built

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
	@$(PIP_INSTALL) -c constraints.txt $(EDITABLE) -e '.[app,offline,eval,docs,dev]'
	@touch $@
	@echo "Ready: $(BIN)/m2v --help"

# The extension module is built by the package's own build backend, and again when its sources change.
$(VENV)/.built: $(VENV)/.installed $(wildcard m2v_core/native/src/*)
	@$(PIP_INSTALL) --quiet --no-deps $(EDITABLE) -e .
	@touch $@

app: setup
	$(BIN)/python app.py

# One worker more than cores, as many tests wait for a process or a page; at most 8. One that runs out of tests takes
# some of another's.
IN_PARALLEL = --numprocesses $(shell $(PYTHON) -c "import os; print(min(8, os.cpu_count() + 1))") --dist worksteal
test: setup
	$(BIN)/python -m pytest $(IN_PARALLEL) -m "not slow"

# What takes minutes and seldom breaks: wheels in empty environments, rendered Spaces, the library without its kernels.
slow: setup
	$(BIN)/python -m pytest $(IN_PARALLEL) -m slow

# The snippets of docs/integrations.md, also those whose packages take long to install or to import.
integrations: setup
	M2V_INTEGRATIONS=1 $(BIN)/python -m pytest $(IN_PARALLEL) tests/contracts/test_integrations.py

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest --quiet tests/test_imports.py tests/test_exported_members.py

# The documentation site, in build/site; any warning is an error.
docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

# The pictures of the README and the documentation, taken from the running app.
screenshots: setup
	$(BIN)/python scripts/screenshots.py

# The tests of the encoder with a build that stops at any bad access to memory and any undefined behavior.
SANITIZE := -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -g
sanitize: setup fuzz
	rm -rf build/sanitize && mkdir -p build/sanitize
	cp -R m2v_core tests pyproject.toml README.md LICENSE build/sanitize
	rm -f build/sanitize/m2v_core/native/*.so
	sed -i '/^extra-link-args/d' build/sanitize/pyproject.toml  # reports name lines of the source
	cd build/sanitize && CFLAGS="$(SANITIZE)" $(CURDIR)/$(BIN)/python -c "import setuptools; setuptools.setup()" \
		--quiet build_ext --inplace
	cd build/sanitize && ASAN_OPTIONS=detect_leaks=0 LD_PRELOAD="$$($(CC) -print-file-name=libasan.so)" \
		$(CURDIR)/$(BIN)/python -m pytest $(IN_PARALLEL) --quiet -p no:cacheprovider tests/core/native/test_kernels.py \
		$(addprefix tests/core/encoder/test_,chunks.py subwords.py vectors.py sharing.py) \
		tests/core/encoder/test_parity.py::test_ids_are_those_of_whole_texts

# Random texts through the scanner and the table of chunks; longer with N=..., guided by coverage with CC=clang.
N ?= 300000
FUZZ_SOURCES := tests/core/native/fuzz/fuzz_reading.c \
	$(addprefix m2v_core/native/src/,chunks.c reading.c rows.c scan.c subwords.c)
fuzz:
	mkdir -p build
ifneq ($(findstring clang,$(CC)),)
	$(CC) -std=c11 -O1 $(SANITIZE) -fsanitize=fuzzer -DLIBFUZZER -Im2v_core/native/src $(FUZZ_SOURCES) -lm -o build/fuzz
	build/fuzz -runs=$(N) -max_len=512
else
	$(CC) -std=c11 -O1 $(SANITIZE) -Im2v_core/native/src $(FUZZ_SOURCES) -lm -o build/fuzz
	build/fuzz $(N)
endif

bench: setup
	for script in benchmarks/*.py; do $(BIN)/python $$script || exit 1; done

fix: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The wheel is built from the sdist, so an sdist that lacks a file fails here.
wheel: setup
	$(BIN)/python -m build
