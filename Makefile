SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
# Test files that run at a time. They wait more than they work, so there may be more of them than processors.
JOBS ?= 4
# Minutes of a soak.
MINUTES ?= 10

# What the versions of dependencies make a difference to, in a few minutes.
SOME := tests/unit tests/integration/test_schema.py tests/integration/test_client.py tests/integration/test_cli.py \
	tests/integration/test_barrier.py tests/integration/test_transactional.py tests/acceptance/test_sagas.py

.DEFAULT_GOAL := help
.PHONY: help install constraints demo test test-lowest test-newest lint docs bench bench-check takeouts soak clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: .venv/.installed ## Create .venv with everything development needs

constraints: ## Take the newest versions into constraints/ci.txt, with which everything is installed
	$(PYTHON) -m venv --clear .venv-newest
	.venv-newest/bin/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@head -1 constraints/ci.txt > .venv-newest/ci.txt && .venv-newest/bin/pip freeze --exclude-editable >> .venv-newest/ci.txt
	@mv .venv-newest/ci.txt constraints/ci.txt

demo: install ## Watch a saga run, fail and be undone, on an embedded Postgres and broker
	$(BIN)/saga demo

test: install ## Run all the tests, some files at a time; PYTEST="-k name" narrows them
	$(BIN)/pytest --numprocesses=$(JOBS) --dist=loadfile $(PYTEST)

test-lowest: .venv-lowest/.installed ## Run some of the tests on the lowest versions that setup.cfg allows
	$(dir $<)bin/pytest --numprocesses=$(JOBS) --dist=loadfile $(SOME)

test-newest: ## Run the same on the newest versions, where they are not those of constraints/ci.txt
	$(PYTHON) -m venv --clear .venv-newest
	.venv-newest/bin/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@if .venv-newest/bin/pip freeze --exclude-editable | sort | diff <(tail -n +2 constraints/ci.txt | sort) - ; \
	then echo "constraints/ci.txt has the newest versions, and make test has run on them"; \
	else .venv-newest/bin/pytest --numprocesses=$(JOBS) --dist=loadfile $(SOME); fi

lint: install ## Check style, format and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

docs: .venv/.docs ## Build the documentation into docs/_build/html; a warning is an error
	$(BIN)/sphinx-build -W --keep-going -b html docs docs/_build/html

bench: .venv/.bench ## Measure sagas next to Celery's chains and to their peers; the results go to bench/results
	$(BIN)/python -m bench

bench-check: install ## See in a minute whether sagas are still faster than chains by what bench/floors.json says
	$(BIN)/python -m bench --check

takeouts: install ## Take each promised behaviour out of a copy of the code, and see its tests fail
	$(BIN)/python -m takeouts

soak: install ## Audit orders placed under chaos; MINUTES=10 is how long, SEED=7 repeats a plan
	$(BIN)/python -m soak --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))

clean: ## Remove .venv and whatever was built
	rm -rf .venv .venv-lowest .venv-newest build dist docs/_build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis

# The stamps rerun an installation only when what is to be installed has changed.
.venv/.installed: setup.cfg setup.py pyproject.toml constraints/ci.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints/ci.txt --editable '.[dev]'
	@touch $@

.venv-lowest/.installed: setup.cfg setup.py pyproject.toml constraints/lowest.txt
	$(PYTHON) -m venv --clear .venv-lowest
	.venv-lowest/bin/pip install --quiet --disable-pip-version-check --constraint constraints/lowest.txt --editable '.[dev]'
	@touch $@

.venv/.bench: .venv/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints/ci.txt --editable '.[bench]'
	@touch $@

.venv/.docs: .venv/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints/ci.txt --editable '.[docs]'
	@touch $@
