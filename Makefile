# Everything is made here: `make run` and `make test` need python3 (>= 3.11), python3-venv, git and make, nothing else.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
PIP    := $(BIN)/python -m pip --disable-pip-version-check

# What the tests run against, as program:package. `make test` installs what is missing.
SERVICES := mosquitto:mosquitto mosquitto_sub:mosquitto-clients mariadbd:mariadb-server mariadb:mariadb-client \
            redis-server:redis-server chromium:chromium systemd-analyze:systemd openssl:openssl
# What a booted systemd in a container needs, in addition.
BOOT     := systemd-nspawn:systemd-container debootstrap:debootstrap
# Whom the benchmarks measure beside us.
PEERS    := collectd:collectd-core

N       ?= 200
ARGS    ?=
# The tests mostly wait for servers, so two of them at a time; `make test ARGS=-n0` for one, as with --pdb.
WORKERS ?= 2

.DEFAULT_GOAL := help
.PHONY: help run test check fmt bench chaos test-systemd lock clean services
.DELETE_ON_ERROR:

help: ## these lines
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 22

run: $(STAMP) ## broker, collector, dashboard and agent on this machine, until Ctrl-C
	@$(BIN)/tocsin up $(ARGS)

test: $(STAMP) services ## every test but the booted container; ARGS="-k spool" for some
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile -m "not systemd" $(ARGS)

test-systemd: $(STAMP) ## the wheel, the units and the watchdog in a really booted systemd (root only)
	@tests/install-services $(BOOT)
	@$(BIN)/python -m pytest -m systemd tests/systemd $(ARGS)

check: $(STAMP) ## style, types, layers, sizes: what CI checks before it tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python .ci/house.py

fmt: $(STAMP) ## format, and fix what can be fixed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP) services ## the agent beside its peers, the collector beside its floor
	@tests/install-services $(PEERS)
	@$(BIN)/python -m benchmarks $(ARGS)

chaos: $(STAMP) services ## N=200 kills of agent, broker and collector; 0 lost, 0 duplicated
	@$(BIN)/python -m tests.chaos --cycles $(N) $(ARGS)

lock: $(STAMP) ## resolve anew: requirements.lock
	@test -x $(BIN)/uv || $(PIP) install -qq uv
	@echo '# Every package of every extra and of the tools, pinned with hashes. Written by `make lock`.' > $(VENV)/lock
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --upgrade --generate-hashes --no-header --no-annotate \
	    --no-emit-index-url --no-emit-find-links --all-extras --group build --group dev pyproject.toml -o $(VENV)/pins
	@cat $(VENV)/lock $(VENV)/pins > requirements.lock

clean: ## everything that was made here
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .tocsin

services:
	@tests/install-services $(SERVICES)

# The environment: the pinned packages, then this tree itself, editable. Made anew when a pin or pyproject.toml changes.
$(STAMP): pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "tocsin needs Python 3.11 or newer; here is $$($(PYTHON) --version 2>&1)" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || \
	    { echo "python3-venv is not installed: apt-get install python3-venv" >&2; exit 1; }
	@test -x $(BIN)/python && $(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@echo "installing the pinned packages into $(VENV) …"
	@$(PIP) install -qq --require-hashes --requirement requirements.lock
	@$(PIP) install -qq --no-build-isolation --no-deps --editable .
	@touch $@
