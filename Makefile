# Every target that needs the environment builds it first; the second time that is instant.
# Variables: PYTHON=python3.12 (which Python builds the environment), PROFILE=production and PROVIDER=arca (demo),
# PROCESSES=4 (how many share the tests), ARGS="..." (passed on).

VENV ?= .venv
BIN := $(VENV)/bin
PYTHON ?=
PROFILE ?= embedded
# sandbox, ameriabank, arca, idram, stripe or vpos: whose simulator the demo pays at.
PROVIDER ?= sandbox
PROCESSES ?= 4
ARGS ?=

# Services for what needs them: taken from the environment, found listening, started privately, installed, or a container.
WITH_SERVICES := $(BIN)/python -m tests.services run --application --

# For every Python and platform we support, and without the address of any package index.
COMPILE := $(BIN)/uv pip compile pyproject.toml --quiet --universal --python-version 3.11 --generate-hashes \
  --no-emit-index-url --no-emit-find-links --no-header --no-annotate

.DEFAULT_GOAL := help
.PHONY: help setup demo up test storm check format bench lock clean

help: ## list the targets
	@awk 'BEGIN { FS = ":.*## " } /^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: ## build .venv from the lock file (PYTHON=python3.12 chooses the Python)
	@PYTHON="$(PYTHON)" sh scripts/setup.sh "$(VENV)"

demo: setup ## run sample invoices through the pipeline and end with a table (PROFILE=production, PROVIDER=arca)
ifeq ($(PROFILE),production)
	@$(WITH_SERVICES) $(BIN)/paylinks demo --profile production --provider $(PROVIDER) $(ARGS)
else
	@$(BIN)/paylinks demo --provider $(PROVIDER) $(ARGS)
endif

up: setup ## the same as demo, but stay up and print the addresses
	@$(BIN)/paylinks demo --provider $(PROVIDER) --stay --port 8080 $(ARGS)

test: setup ## run every test; the tests bring their services (ARGS="-k name" narrows)
	@$(BIN)/python -m tests.services run -- $(BIN)/python -m pytest --numprocesses $(PROCESSES) \
	  --dist loadscope --no-loadscope-reorder $(ARGS)

storm: setup ## run the long storms of faults and load, and the demos of every provider
	@$(BIN)/python -m pytest -m storm --timeout 1800 $(ARGS)

check: setup ## format, lint, types, imports, exported contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check --no-cache .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/paylinks contracts export --check
	$(BIN)/python -m pytest -q tests/unit/test_contracts_asyncapi.py

format: setup ## write the format, and what lint can mend by itself
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

bench: setup ## measure side by side and print the table
	@$(WITH_SERVICES) $(BIN)/python -m bench $(ARGS)

lock: setup ## renew the lock files within the ranges of pyproject.toml (ARGS="--upgrade" for newer versions)
	@$(COMPILE) --extra dev --output-file requirements.lock $(ARGS)
	@$(COMPILE) --constraint requirements.lock --output-file deploy/requirements.lock
	@! grep -nE '(https?|file)://|^-' requirements.lock deploy/requirements.lock || { echo "a lock file names an address" >&2; exit 1; }

clean: ## remove the environment, caches and local data
	@rm -rf "$(VENV)" "$(VENV).lock" var build dist *.egg-info .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
