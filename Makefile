# Needs git, make and Python >= 3.11 with pip; everything else is fetched into this directory.

VENV := .venv
BIN := $(VENV)/bin
UV := .tools/uv/bin/uv
MODELS_LOCK := src/voxthread/engines/models.lock

.PHONY: help setup run test check bench docs lock clean
.DELETE_ON_ERROR:

help:
	@echo "make setup   make .venv with the voxthread command, fetch the bundled models"
	@echo "make run     set up, start the server on http://127.0.0.1:8080 (ARGS='--port 9000' for more)"
	@echo "make test    set up, run every test that can run on this machine"
	@echo "make check   lint, formatting, types, import law, sizes, lock file"
	@echo "make bench   measure spoken questions on this machine into benchmarks/"
	@echo "make docs    write docs/configuration.md anew from the code"
	@echo "make lock    resolve requirements/lock.txt anew from pyproject.toml"
	@echo "make clean   remove everything made here (models in the user's cache stay)"

setup: $(VENV)/.models

$(UV): requirements/uv.txt scripts/bootstrap_uv.sh
	@sh scripts/bootstrap_uv.sh
	@touch $@

$(VENV)/.synced: $(UV) requirements/lock.txt pyproject.toml scripts/sync_venv.sh
	@sh scripts/sync_venv.sh
	@touch $@

$(VENV)/.models: $(VENV)/.synced $(MODELS_LOCK)
	@$(BIN)/voxthread models pull
	@touch $@

run: setup
	@$(BIN)/voxthread serve $(ARGS)

test: setup
	@sh scripts/install_test_tools.sh
	@sh scripts/run_tests.sh $(ARGS)

check: $(VENV)/.synced
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy scripts
	$(BIN)/lint-imports --no-cache
	$(BIN)/python scripts/check_sizes.py
	$(BIN)/python scripts/check_locked.py
	$(BIN)/python scripts/check_tree.py
	$(BIN)/python scripts/write_configuration.py --check

bench: setup
	@$(BIN)/python benchmarks/latency.py $(ARGS)

docs: $(VENV)/.synced
	$(BIN)/python scripts/write_configuration.py

lock: $(UV)
	$(UV) pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	  --extra dev -o requirements/lock.txt pyproject.toml

clean:
	rm -rf $(VENV) .tools build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
