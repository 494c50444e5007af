# make demo       a virtual environment, the package, two prompts rewritten, and their pictures in demo.png
# make test       the test suite
# make rehearse   every config and documented command, on tiny models under the published names
# make lint       ruff, the floors of the house (lint-imports), the types of what it offers (pyright)
# With `uv` or another pip in INSTALL, or another interpreter in PYTHON, the same: make test PYTHON=python3.12

VENV ?= .venv
PYTHON ?= python3
INSTALL ?= $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-compile
# pip would do it on one core, and for the packages' own tests, too; they hold some files that no Python can read
COMPILE := $(VENV)/bin/python -m compileall -qq -j 0 -x '/tests?/' $(VENV)/lib || true

.PHONY: demo test rehearse lint clean

demo: $(VENV)/.package
	@HF_HUB_OFFLINE=1 $(VENV)/bin/python scripts/demo.py

test: $(VENV)/.dev
	HF_HUB_OFFLINE=1 $(VENV)/bin/python -m pytest -n auto --dist worksteal

rehearse: $(VENV)/.dev
	$(VENV)/bin/python scripts/rehearse.py

lint: $(VENV)/.dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/lint-imports --no-logo --no-cache
	$(VENV)/bin/basedpyright --project pyproject.toml --pythonpath $(VENV)/bin/python

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.package: pyproject.toml | $(VENV)/bin/python
	$(INSTALL) -e ".[images]"
	@$(COMPILE)
	@touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/bin/python
	$(INSTALL) -e ".[dev]"
	@$(COMPILE)
	@touch $@ $(VENV)/.package

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache
