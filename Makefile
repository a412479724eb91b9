# Two commands on a fresh machine (Python 3.11+ with venv, and make):
#   make up     set everything up, run the loop on the shipped example, serve on http://127.0.0.1:8700
#   make test   set up what the tests need and run them
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ASSAY := $(CURDIR)/$(BIN)/assay
EXAMPLE := examples/support
PORT ?= 8700
FRAMEWORKS := langgraph crewai openai_agents
.DEFAULT_GOAL := help

.PHONY: help
help:  ## List the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Assay needs Python 3.11 or newer; run: make PYTHON=/path/to/python3.11 up")'
	@echo "Making $(VENV)"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: requirements.lock pyproject.toml | $(BIN)/python
	@echo "Installing from requirements.lock"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.installed-dev: requirements-dev.lock $(VENV)/.installed
	@echo "Installing from requirements-dev.lock"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@

.PHONY: install
install: $(VENV)/.installed  ## Create .venv from the lock file

.PHONY: model
model: $(VENV)/.installed  ## Pull the local models' weights (once)
	@$(ASSAY) models pull

.PHONY: demo
demo: model  ## Run the loop on the shipped example and print the verdict
	@cd $(EXAMPLE) && $(ASSAY) demo

.PHONY: up
up: model  ## Set up, run the loop once, serve on http://127.0.0.1:8700 (make up PORT=8750: elsewhere)
	@$(BIN)/python -c 'import socket; socket.create_server(("127.0.0.1", $(PORT))).close()' 2>/dev/null || { echo "Port $(PORT) is taken; run: make up PORT=8750"; exit 1; }
	@cd $(EXAMPLE) && $(ASSAY) demo && exec $(ASSAY) up --port $(PORT)

.PHONY: test
test: $(VENV)/.installed-dev model  ## Set up what the tests need and run them
	$(BIN)/python -m pytest

.venvs/%/.installed: examples/frameworks/%.lock
	@echo "Installing from $<"
	@$(PYTHON) -m venv --clear .venvs/$*
	@.venvs/$*/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

.PHONY: frameworks
frameworks: $(VENV)/.installed-dev $(FRAMEWORKS:%=.venvs/%/.installed)  ## Run agents of other frameworks on the gateway
	$(BIN)/python -m pytest tests/frameworks -m frameworks

.PHONY: check
check: $(VENV)/.installed-dev  ## Linters, types, layers, generated docs
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python docs/generate.py --check
	$(BIN)/python tests/fidelity/matrix.py --check
	$(BIN)/python tests/compat/comply.py --check

.PHONY: docs
docs: $(VENV)/.installed-dev  ## Write the generated pages of docs/reference
	$(BIN)/python docs/generate.py
	$(BIN)/python tests/fidelity/matrix.py
	$(BIN)/python tests/faults/table.py
	$(BIN)/python tests/compat/comply.py

.PHONY: lock
lock:  ## Write the lock files again (needs uv)
	uv pip compile -q pyproject.toml --universal --python-version 3.11 --extra local --extra console --group build --generate-hashes --no-annotate --no-header -o requirements.lock
	uv pip compile -q pyproject.toml --universal --python-version 3.11 --extra local --extra console --group build --group dev --generate-hashes --no-annotate --no-header -c requirements.lock -o requirements-dev.lock
	for name in $(FRAMEWORKS); do uv pip compile -q examples/frameworks/$$name.in --universal --python-version 3.11 --generate-hashes --no-annotate --no-header -o examples/frameworks/$$name.lock; done

.PHONY: clean
clean:  ## Remove the environments and the example's store
	rm -rf $(VENV) .venvs $(EXAMPLE)/.assay
