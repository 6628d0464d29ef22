# Every target installs what it needs, once, from hashed requirements; `make help` lists them.
# A set is installed again only when its requirements file changes.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: setup run run-sqlite run-postgres test check bench campaign clean help

# The first Python on PATH that is new enough. `make PY=/path/to/python test` overrides the search.
ifndef PY
PY := $(shell for python in python3.11 python3.12 python3.13 python3.14 python3 python; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
endif

VENV := .venv
BENCH_VENV := .venv-bench
WORKERS ?= auto
DB ?= sqlite

# The test suite compiles a small fault-injection library; a machine without a C compiler gets one from a wheel.
COMPILER := $(shell command -v cc || command -v gcc || command -v clang)
TEST_STAMPS := $(VENV)/.test $(if $(COMPILER),,$(VENV)/.zig)

setup: $(TEST_STAMPS) ## make .venv ready for an editor, the tests and the checks
	@echo "$(VENV) is ready"

run: run-$(DB) ## start the demo on an embedded log and say what to look at (ARGS=--no-wait to exit, DB=postgres)

run-sqlite: $(VENV)/.run
	@mkdir -p .everlog
	@$(VENV)/bin/everlog demo --store sqlite:///.everlog/demo.db $(ARGS)

run-postgres: $(VENV)/.postgres
	@$(VENV)/bin/python -m everlog.testing.postgres run --data .everlog/postgres -- \
		sh -c 'exec $(VENV)/bin/everlog demo --store "$$EVERLOG_STORE" $(ARGS)'

test: $(TEST_STAMPS) ## run the whole test suite (ARGS="-k relay" to narrow it, WORKERS=0 for one process)
	@$(VENV)/bin/python -m pytest -n $(WORKERS) $(ARGS)

check: $(VENV)/.test ## lint, formatting, types, and that imports only go down
	@$(VENV)/bin/ruff check
	@$(VENV)/bin/ruff format --check
	@$(VENV)/bin/mypy $(wildcard src examples benchmarks tests)
	@$(VENV)/bin/lint-imports --no-logo

bench: $(BENCH_VENV)/.bench ## measure against other libraries in one interleaved run
	@$(BENCH_VENV)/bin/python -m benchmarks $(ARGS)

campaign: $(TEST_STAMPS) ## the long fault-injection runs that `make test` leaves out
	@$(VENV)/bin/python -m tests.campaign $(ARGS)

clean: ## remove both environments, the caches and the demo's databases
	@rm -rf $(VENV) $(BENCH_VENV) $(VENV)-boot $(BENCH_VENV)-boot .everlog/demo.db* dist
	@rm -rf $(realpath .everlog/postgres) .everlog/postgres
	@rm -rf .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis/examples
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1|\2/p' Makefile | while IFS='|' read -r target does; do \
		printf '%-16s%s\n' "$$target" "$$does"; done

# One environment is filled one set after another, so that `make -j` never runs two installers in it.
$(VENV)/.run: requirements/run.txt | $(VENV)/.made
$(VENV)/.postgres: requirements/postgres.txt | $(VENV)/.run
$(VENV)/.test: requirements/test.txt | $(VENV)/.postgres
$(VENV)/.zig: requirements/zig.txt | $(VENV)/.test
$(BENCH_VENV)/.bench: requirements/bench.txt | $(BENCH_VENV)/.made

$(VENV)/.run $(VENV)/.postgres $(VENV)/.test $(VENV)/.zig $(BENCH_VENV)/.bench:
	@echo "Installing $< into $(@D) (this once; it may take a minute)"
	@$(@D)/bin/python -m pip install -qq --disable-pip-version-check --no-deps --require-hashes -r $<
	@touch $@

# The project is put on the path by hand: an editable install would have to fetch the build backend first.
# Where Python came without ensurepip (Debian's does), virtualenv brings its own pip.
$(VENV)/.made $(BENCH_VENV)/.made:
	@test -n "$(PY)" || { echo "everlog needs Python 3.11 or newer, and PATH has none" >&2; exit 1; }
	@rm -rf $(@D) $(@D)-boot
	@$(PY) -m venv $(@D) >/dev/null 2>&1 || { \
		rm -rf $(@D) && \
		$(PY) -m pip install -qq --disable-pip-version-check --target $(@D)-boot virtualenv && \
		PYTHONPATH=$(@D)-boot $(PY) -m virtualenv -q $(@D) && \
		rm -rf $(@D)-boot; } || { \
		echo "could not make $(@D): $(PY) has neither ensurepip nor pip (on Debian: python3-venv)" >&2; exit 1; }
	@echo ../../../../src > "$$($(@D)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/everlog.pth"
	@printf '%s\n' '#!/bin/sh' \
		"'''exec' \"\$$(dirname \"\$$0\")/python\" \"\$$0\" \"\$$@\"" \
		"'''" 'import sys' 'from everlog.cli import main' 'sys.exit(main())' > $(@D)/bin/everlog
	@chmod +x $(@D)/bin/everlog
	@touch $@
