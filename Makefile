# One command per target; `make help` lists them. Everything works in a fresh clone, as root or as an
# ordinary user: the first target that needs it makes .venv, and the stamps keep later runs quick.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

BIN := .venv/bin
PY := $(BIN)/python
CONFIG ?= config/quickstart.toml
# PYTEST_ARGS="-k backoff -x" narrows every pytest run below.
PYTEST := $(PY) -m pytest $(PYTEST_ARGS)
unexport PYTHONPATH PYTHONHOME

# -- set-up ---------------------------------------------------------------------------------------

RUN := .venv/.run
DEV := .venv/.dev

$(RUN): pyproject.toml .ci/setup
	@.ci/setup run
	@touch $@

$(DEV): pyproject.toml .ci/setup
	@.ci/setup dev
	@touch $(RUN) $@

.PHONY: setup
setup: $(DEV)               ## make .venv with the tools of the tests (others do this by themselves)

# -- run ------------------------------------------------------------------------------------------

.PHONY: run
run: $(RUN)                 ## start the quick start's services in the foreground; Ctrl-C stops them
	@exec $(BIN)/supervisord-pidfd run -c $(CONFIG)

# -- checks ---------------------------------------------------------------------------------------

.PHONY: check lint types layers unit pyright
check: lint types layers unit   ## what a commit must pass: lint, types, layers, unit tests

lint: $(DEV)                ## ruff, spelling, pyproject.toml
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/codespell
	$(BIN)/validate-pyproject pyproject.toml

types: $(DEV)               ## mypy, strict
	$(BIN)/mypy

pyright: $(DEV)             ## a second opinion on types, strict; needs node
	$(BIN)/pyright

layers: $(DEV)              ## who may import whom
	$(BIN)/lint-imports --no-logo

unit: $(DEV)                ## the tests without a system call
	$(PYTEST) tests/unit tests/architecture

# -- tests ----------------------------------------------------------------------------------------

.PHONY: test lanes tests parts fallback system user cover
test: lint types layers lanes   ## everything: checks, all tests, then again without pidfds and as an ordinary user

# Two at a time, each told as a whole when it is done: most of their time is waiting.
lanes: $(DEV)
	@$(MAKE) --jobs=2 --output-sync=target --keep-going system parts fallback user

tests: $(DEV)               ## all tests, as they are
	$(PYTEST)

parts: $(DEV)               ## all but the installed daemon as a process
	$(PYTEST) --ignore=tests/system

# The pidfd calls are forbidden by a real filter, as on Linux 4.19: the fallback is real or it is not there.
fallback: $(DEV)            ## the tests about processes, with the pidfd calls forbidden
	WITHOUT_PIDFD=1 $(PY) tests/support/seccomp.py kernel-4.19 -- $(PYTEST) -m "reaping and not pidfd and not once" tests

system: $(DEV)              ## the installed daemon as a process
	$(PYTEST) tests/system

user: $(DEV)                ## the system tests as an ordinary user, when we are root
	@if [ "$$(id -u)" != 0 ]; then echo "user: we are an ordinary user already"; \
	elif ! setpriv --reuid 65533 --regid 65533 --clear-groups test -r pyproject.toml -a -x $(PY); \
	then echo "user: left out, uid 65533 cannot read $(CURDIR)"; \
	else home=$$(mktemp -d); chown 65533:65533 "$$home"; trap 'rm -rf "$$home"' EXIT; \
	  HOME=$$home TMPDIR=$$home HYPOTHESIS_STORAGE_DIRECTORY=$$home PYTHONDONTWRITEBYTECODE=1 \
	  setpriv --reuid 65533 --regid 65533 --clear-groups $(PYTEST) -p no:cacheprovider -m "not once" tests/system; fi

cover: $(DEV)               ## branch coverage; core/ must have all of it
	$(PYTEST) --cov --cov-report= --ignore=tests/system tests
	$(BIN)/coverage report
	$(BIN)/coverage report --include='*/core/*,*/wire.py' --fail-under=100

# -- the rest -------------------------------------------------------------------------------------

.PHONY: docs bench soak fmt dist clean help
docs: $(DEV)                ## write what is generated; does the rest match the code?
	$(PY) -m tests.support.states > docs/states.md
	$(PY) -m supervisord_pidfd.gateway.reference > docs/metrics.md
	$(PY) -m tests.support.grafana > deploy/grafana/supervisord.json
	$(BIN)/supervisord-pidfd schema > docs/supervisord.schema.json
	$(PY) -m tests.support.manual docs/man
	$(PYTEST) tests/architecture/test_docs.py tests/architecture/test_states.py tests/architecture/test_manual.py \
	  tests/unit/gateway/test_reference.py tests/unit/test_config_schema.py tests/integration/test_deploy.py

bench: $(DEV)               ## restart latency and scale, beside floors and peers; BENCH=quick for two minutes
	PYTHON=$(PY) benchmarks/setup.sh
	$(PY) -m benchmarks.run $(or $(BENCH),all)

soak: $(DEV)                ## thousands of restarts, a hundred dead loggers: does anything leak, is anything lost?
	$(PY) -m benchmarks.run leaks
	LOGGER_KILLS=100 ENDLESS_MIB=1024 $(PYTEST) tests/integration/test_logger_pumps.py -k "outlives_the_logger or newline"

fmt: $(DEV)                 ## format, and fix what can be fixed
	$(BIN)/ruff check --fix --exit-zero --quiet
	$(BIN)/ruff format

dist: $(DEV)                ## sdist and wheel in dist/
	$(PY) -m build --outdir dist .

clean:                      ## remove what the other targets made
	rm -rf .venv build dist htmlcov .coverage .coverage.* .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache

help:                       ## this list
	@sed -nE 's/^([a-z]+):[^#]*## (.*)$$/\1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 12
