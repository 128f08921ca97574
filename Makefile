# `make demo` and `make test` do all the set-up they need, in a virtual environment of their own.
# The set-up is done once: a stamp in $(VENV) is newer than the files that say what to install.
#
#   PYTHON=/path/to/python3.12   the Python to make the environment with (3.11 or newer)
#   VENV=.venv                   where the environment goes
#   ARGS="-k cbd -x"             arguments for pytest
#   COVERAGE=yes                 `make test` counts the lines and branches that no test runs, as CI does:
#                                it takes almost twice as long, for Python 3.11 is slow where it is traced

VENV ?= .venv
PYTHON ?= python3
ARGS ?=
COVERAGE ?=

SHELL := /bin/sh
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
SPHINX := $(BIN)/sphinx-build -W --keep-going -n -b html
SPEC := setup.cfg pyproject.toml constraints.txt
VENV_STAMP := $(VENV)/.stamp-venv
RUN_STAMP := $(VENV)/.stamp-run
DEV_STAMP := $(VENV)/.stamp-dev
DOCS_STAMP := $(VENV)/.stamp-docs
# An environment whose Python has gone (a system upgrade) is made again.
VENV_GONE := $(shell [ -x '$(BIN)/python' ] || echo remake-venv)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo bench test speed lint format docs docs-test gallery package constraints clean remake-venv

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(RUN_STAMP) ## poison digits, train three classifiers, print a table, save a figure
	@# One thread: networks this small gain little from more, and crawl where a core is busy.
	OMP_NUM_THREADS=1 MPLBACKEND=Agg $(BIN)/python examples/plot_quick_start.py

test: $(DEV_STAMP) ## the tests
	$(BIN)/python -m pytest -q -n auto --dist worksteal $(if $(COVERAGE),--cov) $(or $(ARGS),-m 'not docs')

bench: $(DEV_STAMP) ## a table of three attacks and seven defences on digits, within ten minutes on two cores
	$(BIN)/antibackdoor bench quick --out build/bench-quick

speed: $(DEV_STAMP) ## time the parts of a fit, to compare before and after a change (benchmarks/speed_suite.py)
	$(PIP) install --quiet -c constraints.txt --group benchmark
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -p no:xdist benchmarks/speed_suite.py $(ARGS)

lint: $(DEV_STAMP) ## style, types and the import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(DEV_STAMP) ## put the code into the style that lint asks for
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

package: $(DEV_STAMP) ## sdist and wheel, tried as a stranger would
	$(PIP) install --quiet -c constraints.txt --group package
	.ci/package $(BIN)/python

docs: $(DOCS_STAMP) ## the documentation, in build/docs; a warning is an error
	$(SPHINX) -D plot_gallery=0 docs build/docs

docs-test: $(DEV_STAMP) ## the examples of docstrings and pages and the quick start, as tests
	$(BIN)/python -m pytest -q -n auto --dist worksteal -m docs

gallery: $(DOCS_STAMP) ## the same, with the examples run and their figures in it: minutes
	OMP_NUM_THREADS=1 $(SPHINX) docs build/gallery

constraints: $(DEV_STAMP) ## take the newest versions and write them to constraints.txt (then: make lint test)
	$(PIP) install --upgrade --upgrade-strategy eager -e '.[bench,distributed,plot,progress,persist]' --group test --group lint --group benchmark --group docs --group package
	{ sed -n '/^#/p' constraints.txt; \
	  $(PIP) freeze --exclude-editable --exclude antibackdoor \
	  | sed -e 's/+[A-Za-z0-9.]*$$//' \
	  | grep -E '^[A-Za-z0-9._-]+==' | grep -E -v '^(nvidia-|cuda-|triton=)'; } > constraints.new
	mv constraints.new constraints.txt
	touch $(VENV_STAMP) $(RUN_STAMP) $(DEV_STAMP) $(DOCS_STAMP)

clean: ## remove the environment, the caches and the builds
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	rm -rf .coverage htmlcov docs/gallery docs/generated docs/sg_execution_times.rst examples/demo
	find antibackdoor benchmarks docs examples tests -name __pycache__ -type d -prune -exec rm -rf {} +

define CHECK_PYTHON
import sys
if sys.version_info < (3, 11):
    sys.exit("antibackdoor needs Python 3.11 or newer, and %s is Python %d.%d. Name another one: make PYTHON=/path/to/python3.12" % ((sys.executable,) + sys.version_info[:2]))
try:
    import ensurepip, venv
except ImportError as error:
    sys.exit("%s cannot make virtual environments (%s). On Debian and Ubuntu: apt install python%d.%d-venv" % ((sys.executable, error) + sys.version_info[:2]))
endef
export CHECK_PYTHON

$(VENV_STAMP): $(VENV_GONE)
	@command -v '$(PYTHON)' >/dev/null || { \
	  echo "There is no '$(PYTHON)' here. antibackdoor needs Python 3.11 or newer: make PYTHON=/path/to/python3.12" >&2; \
	  exit 1; }
	@'$(PYTHON)' -c "$$CHECK_PYTHON"
	@$(BIN)/python -c "$$CHECK_PYTHON" 2>/dev/null && $(BIN)/python -m pip --version >/dev/null 2>&1 \
	  || { echo "Making $(VENV)"; '$(PYTHON)' -m venv --clear '$(VENV)'; }
	$(PIP) install --quiet --upgrade 'pip>=25.1'
	@touch $@

$(RUN_STAMP): $(SPEC) $(VENV_STAMP)
	@echo "Installing antibackdoor and what it needs into $(VENV) (once; PyTorch is large)"
	$(PIP) install -c constraints.txt -e '.[plot,progress]'
	@touch $@

# Holds all that the run environment holds, so `make demo` after it installs nothing.
$(DEV_STAMP): $(SPEC) $(VENV_STAMP)
	@echo "Installing antibackdoor, its tests and its checks into $(VENV) (once; PyTorch is large)"
	$(PIP) install -c constraints.txt -e '.[bench,distributed,plot,progress]' --group test --group lint
	@touch $(RUN_STAMP) $@

# Only what the pages need: who builds them need not run the tests, nor the other way round.
$(DOCS_STAMP): $(SPEC) $(VENV_STAMP)
	@echo "Installing what makes the pages into $(VENV) (once)"
	$(PIP) install -c constraints.txt -e '.[bench,plot,progress,persist]' --group docs
	@touch $@
