# make app    starts HybridLab on http://localhost:8501 (installs it into .venv the first time)
# make test   runs every test, the browser's too   |   make check   format, lint, types, imports
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: help app test check format lock wheel bench faults dev python canvas canvas-check

VENV ?= .venv
BIN := $(VENV)/bin
PORT ?= 8501
ADDRESS ?= localhost
PIP_FLAGS ?=
PYTEST_FLAGS ?=
KILLS ?= 1000
SIGTERMS ?= 200
OOMS ?= 100
FULL_EVERY ?= 1
SEARCH_KILLS ?= 50
RAY_KILLS ?= 50
CANVAS := hybridlab/ui/canvas/frontend
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$p"; break; }; done)
INSTALL = $(BIN)/python -m pip install --disable-pip-version-check $(PIP_FLAGS) -c constraints.txt
# Only its data files are read (task time_series); its bound on pandas is below the version tested here, hence --no-deps.
SERIES := --no-deps sktime==1.2.0

help:
	@echo "make app     start HybridLab on http://$(ADDRESS):$(PORT)"
	@echo "make test    run all tests, with a browser       make check   format, lint, types and imports"
	@echo "make format  format and mend what can be mended  make wheel   build dist/hybridlab-*.whl"
	@echo "make bench   run the benchmarks                  make faults  kill trainings and searches at random moments"
	@echo "make canvas  build the canvas from its sources (needs Node 20 or newer)"
	@echo "make canvas-check    the canvas's own lint and tests; make check runs them too"
	@echo "make lock    resolve the dependencies again into constraints.txt"

app: $(VENV)/.app-installed
	@exec $(BIN)/hybridlab app --port $(PORT) --address $(ADDRESS)

test: dev
	@chromium="$$($(BIN)/python tests/journeys/chromium.py)"
	export HYBRIDLAB_CHROMIUM="$$chromium"
	$(BIN)/pytest -n 2 --dist loadgroup $(PYTEST_FLAGS)

check: dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(MAKE) --no-print-directory canvas-check

# The bundle is committed, so only those who change the canvas need Node; whether it is up to date is a Python test.
canvas:
	@cd $(CANVAS) && npm ci --no-audit --no-fund && npm run build

canvas-check:
	@if ! command -v npm >/dev/null; then
		echo "The canvas's lint and tests were left out: there is no Node here."
		exit 0
	fi
	cd $(CANVAS)
	[ -d node_modules ] || npm ci --no-audit --no-fund
	npm run -s lint && npm run -s test

format: dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: dev
	$(BIN)/python .ci/lock.py $(PIP_FLAGS)

wheel: dev
	$(BIN)/python -m build --wheel

bench: dev
	@failed=""
	for file in $$(grep -l __main__ benchmarks/*.py | grep -v -e /patterns.py -e /mad_ranking.py -e /trained_table.py); do
		echo "== $$file"
		$(BIN)/python "$$file" || failed="$$failed $$file"
	done
	if [ -n "$$failed" ]; then echo "lines not met:$$failed"; exit 1; fi

faults: dev
	export HYBRIDLAB_KILLS=$(KILLS) HYBRIDLAB_SIGTERMS=$(SIGTERMS) HYBRIDLAB_OOMS=$(OOMS)
	export HYBRIDLAB_FULL_EVERY=$(FULL_EVERY) HYBRIDLAB_SEARCH_KILLS=$(SEARCH_KILLS)
	export HYBRIDLAB_RAY_KILLS=$(RAY_KILLS)
	$(BIN)/pytest tests/faults -n 2 --dist loadgroup -rP $(PYTEST_FLAGS)

dev: $(VENV)/.dev-installed

# A stamp is newer than what it was installed from, so that the next start installs nothing.
$(VENV)/.app-installed: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing HybridLab into $(VENV); the first time takes some minutes."
	@$(INSTALL) -e .
	$(INSTALL) $(SERIES) || echo "The task time_series has no data: sktime could not be installed."
	touch $@

$(VENV)/.dev-installed: pyproject.toml constraints.txt | $(BIN)/python
	@$(INSTALL) -e '.[dev]'
	$(INSTALL) $(SERIES)
	touch $@ $(VENV)/.app-installed

$(BIN)/python: | python
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

python:
	@if [ -x $(BIN)/python ]; then exit 0; fi
	if [ -z "$(PYTHON)" ]; then
		echo "HybridLab needs Python 3.11 or newer, which is not on this machine: install it (on Debian or Ubuntu: apt install python3 python3-venv) and run this again."
		exit 1
	fi
	if ! $(PYTHON) -c 'import venv, ensurepip' 2>/dev/null; then
		echo "Python's venv module is missing: install it (on Debian or Ubuntu: apt install python3-venv) and run this again."
		exit 1
	fi
