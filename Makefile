# The commands of this project; `make` alone lists them. Nothing but Python 3.11+ and make is needed.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

BIN := .venv/bin
TESTS ?= tests
BENCH ?=
WORKERS ?= 2
# mypy's Django plugin and the import checks read the settings; they start no server.
LINT_ENV := SECRET_KEY=lint DATABASE_URL=postgresql:///lint REDIS_URL=redis://127.0.0.1/0

.PHONY: help
help: ## What there is
	@grep -hE '^[a-z]+:.*## ' Makefile | sed -E 's/^([a-z]+):.*## (.*)/make \1|\2/' | column -t -s '|'

.PHONY: demo
demo: install ## The whole marketplace with real models: PORT=8123 moves it, DEMO_ONCE=1 ends after the walk
	@exec $(BIN)/python -m inframind.devstack demo

.PHONY: dev
dev: install ## The stack with reload, without seeding
	@exec $(BIN)/python -m inframind.devstack dev

.PHONY: test
test: install ## Every test, on real servers: TESTS=tests/journeys chooses, WORKERS=4 for more processes
	@$(BIN)/python -m inframind.devstack install
	@exec $(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup $(TESTS)

.PHONY: drill
drill: install ## The long failure drills
	@$(BIN)/python -m inframind.devstack install
	@exec $(BIN)/python -m pytest -m drill $(TESTS)

.PHONY: bench
bench: install ## The benchmarks, on a stack of their own: BENCH="gateway failover" chooses
	@exec $(BIN)/python -m inframind.devstack with -- $(CURDIR)/$(BIN)/python -m benchmarks $(BENCH)

.PHONY: contracts
contracts: install ## Compile billing/contracts/*.sol; a test compares what is committed
	@exec $(BIN)/python -m inframind.devstack contracts

.PHONY: lint
lint: install ## Format, ruff, mypy, import contracts
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(LINT_ENV) $(BIN)/mypy inframind billing marketplace curation tests benchmarks manage.py
	@$(LINT_ENV) $(BIN)/lint-imports

.PHONY: install
install: ## .venv with everything in it; takes no time while the requirements stay the same
	@wanted="$$(cat requirements.txt requirements-dev.txt pyproject.toml | cksum)"; \
	if [ "$$(cat .venv/requirements.stamp 2>/dev/null)" = "$$wanted" ]; then exit 0; fi; \
	python=""; \
	for candidate in python3 python3.14 python3.13 python3.12 python3.11; do \
	  if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    python="$$candidate"; break; \
	  fi; \
	done; \
	if [ -z "$$python" ]; then \
	  echo "Python 3.11 or newer is needed; python3 here is $$(python3 -V 2>&1 || echo missing)." >&2; \
	  echo "Install it so that python3 or python3.11 is on PATH (Debian 12: apt-get install python3-venv)." >&2; \
	  exit 1; \
	fi; \
	if ! [ -x $(BIN)/pip ]; then \
	  "$$python" -m venv .venv || { echo "Making .venv failed. On Debian: apt-get install python3-venv" >&2; exit 1; }; \
	fi; \
	echo "Installing into .venv (once for these requirements)"; \
	$(BIN)/pip install --quiet --no-input --disable-pip-version-check -r requirements-dev.txt; \
	PYTHONWARNINGS=ignore $(BIN)/pip install --quiet --no-input --disable-pip-version-check --no-deps -e .; \
	echo "$$wanted" > .venv/requirements.stamp
