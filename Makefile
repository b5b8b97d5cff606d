# Two commands do everything on a machine with Python >= 3.11 and make:
#   make search    the embedded quickstart under a budget of 20 ms (BUDGET=40% for another)
#   make test      style, types and tests
PYTHON ?= python3
VENV ?= .venv
BUDGET ?= 20ms
PYTEST_ARGS ?=

BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt
INPUTS := pyproject.toml constraints.txt autoprune/__init__.py

.PHONY: search test test-slow lint clean help

help:
	@sed -n '2,3s/^#//p' Makefile

search: $(VENV)/.installed
	@$(BIN)/autoprune search --budget '$(BUDGET)'; status=$$?; \
	case $$status in \
	  3) echo "autoprune ended with 3: no policy meets $(BUDGET) on this machine. That is an honest outcome (a slow machine), not a fault; the smallest budget that can be met stands above." >&2;; \
	  4) echo "autoprune ended with 4: this machine was too disturbed to decide. That is an honest outcome, not a fault; quieten it (autoprune doctor) and repeat." >&2;; \
	esac; exit $$status

test: lint
	$(BIN)/python -m pytest -m 'not slow' $(PYTEST_ARGS)

test-slow: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m slow $(PYTEST_ARGS)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/mypy --strict autoprune

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamps keep a second run from installing again; a change of the packaging files renews them.
$(VENV)/.installed: $(INPUTS) | $(BIN)/python
	$(INSTALL) -e .
	@touch $@

$(VENV)/.installed-dev: $(INPUTS) | $(BIN)/python
	$(INSTALL) -e '.[dev,postgres,mlflow,onnx]'
	@touch $(VENV)/.installed $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "autoprune needs Python 3.11 or newer; name one: make PYTHON=python3.11 ..." >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
	  { rm -rf $(VENV); echo "This Python cannot make virtual environments; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
