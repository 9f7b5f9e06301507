# `make repro` sets everything up and runs the benchmark; `make test` sets everything up and runs the tests.
# Needs Python 3.11 or newer, make and git. Choose the interpreter with `make PYTHON=python3.12 repro`.

SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
export DVC_NO_ANALYTICS := 1

.DEFAULT_GOAL := help

.PHONY: help
help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-12s %s\n", $$1, $$2}' Makefile

.PHONY: setup
setup: .venv/ready  ## create the environment from the lock file

.venv/ready: requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, found " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	@touch $@

# With PROFILE=paper, `make repro` and `make params` replace params.yaml by profiles/paper.yaml first.
PROFILE ?=

.PHONY: params
params: setup  ## switch params.yaml to a profile: make params PROFILE=paper, and back: PROFILE=default
	@python -m stages.profile --name $(or $(PROFILE),default)

.PHONY: repro
repro: setup $(if $(PROFILE),params)  ## run every stage that is out of date
	@trap 'python -m warm stop' EXIT; echo python -m runner repro; python -m runner repro
	@echo; echo "COSE in percent (metrics/table1.csv):"; cat metrics/table1.csv

# One thread for each of the processes that share the tests out, a file at a time.
.PHONY: test
test: setup  ## run the tests
	COSE_THREADS=1 OMP_NUM_THREADS=1 python -m pytest -n $$(nproc 2>/dev/null || echo 2) --dist loadfile --no-loadscope-reorder

.PHONY: test-fast
test-fast: setup  ## run the quick tests, in less than two minutes on two cores
	COSE_THREADS=1 OMP_NUM_THREADS=1 python -m pytest -n $$(nproc 2>/dev/null || echo 2) --dist load -m 'not slow and not full'

.PHONY: test-full
test-full: setup  ## run the tests of every model of the paper at its real size, and of killed runs (about fifteen minutes)
	python -m pytest -m full

.PHONY: verify
verify: setup  ## read all that DVC keeps and name what is damaged; REPAIR=1 mends it
	@python -m runner.verify $(if $(REPAIR),--repair)

.PHONY: estimate
estimate: setup  ## say what `make repro` would take: rows, evaluations, disk, hours; PROFILE=paper for another profile
	@python -m stages.estimate $(if $(PROFILE),--profile $(PROFILE))

.PHONY: warm-status
warm-status: setup  ## say which preloaded interpreters start the stages (COSE_WARM=0 for none)
	@python -m warm status

.PHONY: compare
compare: setup  ## lay our COSE and accuracies beside the paper's, and say what is missing
	@python -m stages.compare

.PHONY: choose
choose: setup  ## rank methods, layers, settings on pictures of yours: make choose IMAGE=cat.jpg (docs/choose.md)
	@python -m stages.choose --image '$(IMAGE)' $(if $(MODEL),--model '$(MODEL)') $(if $(CLASS),--class '$(CLASS)') \
		$(if $(METHODS),--methods '$(METHODS)') $(if $(LAYERS),--layers '$(LAYERS)') \
		$(if $(METRIC),--metric '$(METRIC)') $(if $(SIZE),--size $(SIZE)) $(if $(OUT),--out '$(OUT)')

.PHONY: readme
readme: setup  ## bring the README's table and picture up to the last run; CELL=name for another cell than the first
	@python -m stages.readme $(if $(CELL),--cell '$(CELL)')

.PHONY: bench
bench: setup  ## measure speed against the libraries (a quarter of an hour), or with AGAINST=HEAD~1 against a revision
	$(if $(AGAINST),python -m benchmarks.against '$(AGAINST)',python -m benchmarks.speed && python -m benchmarks.faithfulness)

.PHONY: lint
lint: setup  ## format, lint, types and layers, as pre-commit runs them
	ruff format --check .
	ruff check .
	mypy
	lint-imports

.PHONY: format
format: setup  ## format the code
	ruff format .
	ruff check --fix .

.PHONY: data-docs
data-docs: setup  ## build Great Expectations' pages on every table into docs/data-docs
	python -m stages.data_docs
