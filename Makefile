# Each target is the plain commands that the README shows; PYTHON chooses the interpreter (3.11 or newer).
PYTHON ?= python3
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: repro test lint clean

repro: $(BIN)/.installed
	dvc repro
	@cat artifacts/report/leaderboard.md
	@echo
	@echo "Pictures and curves: artifacts/report/index.html and 'dvc plots show'. Compare runs: 'dvc metrics diff', 'dvc exp show'."

test: $(BIN)/.installed-dev
	pytest

lint: $(BIN)/.installed-dev
	ruff format --check .
	ruff check .
	mypy

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find app stages tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/.installed: requirements.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Decant needs Python 3.11 or newer: make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

$(BIN)/.installed-dev: $(BIN)/.installed requirements-dev.txt requirements-openvino.txt requirements-ray.txt requirements-export.txt
	pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@
