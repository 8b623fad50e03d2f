# Each target is the plain commands that the README shows; PYTHON chooses the interpreter (3.11 to 3.13).
PYTHON ?= python3
BIN := .venv/bin
# As who calls make finds it, and not that of a .venv that may be broken.
HOST := env PATH="$(PATH)" $(PYTHON)
export PATH := $(CURDIR)/$(BIN):$(PATH)
# From the locks: the versions and the bytes that were tested, of the whole tree. docs/supply-chain.md
LOCKS := .ci/locks
INSTALL := pip install --quiet --disable-pip-version-check --require-hashes

.PHONY: repro train train-all test test-all test-rare lint coverage mutation fuzz ci-repro pr-report lock audit sbom \
	licences clean FORCE

# make train PICTURES=folder [LABELS=table.csv] [SET='-S key=value']: a first leaderboard on one's own images, by the heads
# that take seconds; train-all: all models; repro: the same as params.yaml stands. The names reach the program as they are,
# for make and the shell would read `$`, quotes and blanks in them. Only a leading blank make drops itself: PICTURES='./ a'
unexport PICTURES LABELS
export DECANT_PICTURES := $(value PICTURES)
export DECANT_LABELS := $(value LABELS)
TRAIN := python -m app.train --folder="$$DECANT_PICTURES" --labels="$$DECANT_LABELS"
train: $(BIN)/.installed
	@exec $(TRAIN) $(SET)

train-all: $(BIN)/.installed
	@exec $(TRAIN) --all $(SET)

repro: train-all

# A file's tests stay in one process, which shares what they build. test-all has the slow proofs, too: processes killed at
# any moment, whole pipelines, fuzzing, a browser, what the pages tell the reader to type. test-rare is minutes for what
# seldom changes: sections of pages with many experiments, networks that differ from others by a row of a table alone.
PYTEST := pytest --numprocesses auto --dist loadfile --no-loadscope-reorder
test: $(BIN)/.installed-dev
	$(PYTEST) -m "not slow"

test-all: $(BIN)/.installed-dev
	$(PYTEST) -m "not rare"

test-rare: $(BIN)/.installed-dev
	$(PYTEST) -m rare

lint: $(BIN)/.installed-dev
	ruff format --check .
	ruff check .
	mypy

# Lines and branches of app/ and stages/ that the tests run, those in processes of their own too: at least 95%.
coverage: $(BIN)/.installed-dev
	coverage erase
	coverage run -m $(PYTEST) -m "not rare"
	coverage combine --quiet
	coverage report

# Small changes to the code that splits, hashes, names and measures; what no test notices is listed. Minutes on 2 cores.
MUTATED := common.stratification common.class_weights scoring.selection preparation.splits heads.folds \
	common.artifacts records.leakage scoring.metrics heads.calibration \
	extraction.feature_store networks.weights.x_locate networks.weights.x__in_package \
	evaluation.evaluation.x_write_evaluation evaluation.evaluation.x__check evaluation.evaluation.x_measure \
	evaluation.evaluation.x_rounded evaluation.evaluation.x_write_tables \
	extraction.extraction.x_covered extraction.extraction.x_fingerprint training.checkpoints.x_fingerprint \
	preparation.summary.*content
SCORE := import json, sys; n = json.load(open("mutants/mutmut-cicd-stats.json")); \
	noticed = n["killed"] + n["timeout"]; score = noticed / (noticed + n["survived"] + n["no_tests"]); \
	print(f"{score:.1%} of the changes were noticed"); sys.exit(score < 0.85)
mutation: $(BIN)/.installed-dev
	mutmut run $(patsubst %,"stages.library.%*",$(MUTATED))
	mutmut results
	mutmut export-cicd-stats
	python -c '$(SCORE)'

# Each reader of bytes from outside for SECONDS of CPU time; 1200 is the long run, of hours.
SECONDS ?= 60
fuzz: $(BIN)/.installed-dev
	python -m checks.fuzz --seconds $(SECONDS)

# repro on a machine that starts with nothing: docs/remotes.md.
ci-repro: $(BIN)/.installed
	$(if $(DVC_REMOTE_URL),$(INSTALL) -r $(LOCKS)/requirements-s3.txt)
	.ci/repro

# make pr-report BASE=main GATES='--max-drop top1_accuracy=0.01': docs/pull-requests.md
BASE ?= main
export BASE
pr-report: $(BIN)/.installed
	python -m app.pr_report --base "$$BASE" $(GATES)

# After a change of requirements*.txt; UPGRADE=--upgrade takes the newest release of what those leave open.
lock: $(BIN)/.installed-dev
	.ci/lock $(UPGRADE)

# Known vulnerabilities of what is locked. Where the service knows no release of pip, that is said and fails nothing.
# AUDIT='--vulnerability-service osv' SERVICE=https://api.osv.dev asks another one.
SERVICE ?= https://pypi.org/pypi/pip/24.0/json
LOCKED := $(addprefix --requirement=,$(wildcard $(LOCKS)/*.txt))
IGNORED := $(addprefix --ignore-vuln=,$(shell sed -n 's/^\([A-Z][^ ]*\) .*/\1/p' .ci/ignored-vulnerabilities.txt))
audit: $(BIN)/.installed-dev
	@if python -c 'import requests; requests.get("$(SERVICE)", timeout=20).raise_for_status()' 2> /dev/null; \
		then pip-audit --disable-pip --require-hashes --progress-spinner=off $(LOCKED) $(IGNORED) $(AUDIT); \
		else echo "warning: $(SERVICE) can't be asked, so nothing was audited"; fi

# What the pipeline runs on, as CycloneDX: sbom.cdx.json. LOCK= another one for more: requirements-web.txt
LOCK ?= requirements.txt
sbom: $(BIN)/.installed-dev
	cyclonedx-py requirements $(LOCKS)/$(LOCK) --pyproject pyproject.toml --output-reproducible --output-file sbom.cdx.json

# Under which terms the installed packages came: docs/licences.md
licences: $(BIN)/.installed-dev
	@pip-licenses --format=markdown --order=license

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find app checks stages tests -name __pycache__ -type d -prune -exec rm -rf {} +

# .venv is made anew where it is half made, its Python is gone, or PYTHON names another one.
VERSION := -c 'import sys; print(*sys.version_info[:2], sep=".")' 2> /dev/null
HAS := $(shell $(BIN)/python $(VERSION))
ASKED := $(if $(filter file,$(origin PYTHON)),$(HAS),$(shell $(HOST) $(VERSION)))
STALE := $(if $(HAS),$(filter-out $(HAS),$(ASKED)),yes)
FITS := import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14) and f"error: Decant needs Python 3.11 to 3.13, for \
	which there is TensorFlow. Received: {sys.version.split()[0]}. Run: make PYTHON=python3.13")
$(BIN)/.installed: $(LOCKS)/requirements.txt $(if $(STALE),FORCE)
	@if [ ! -e $@ ] || [ -n "$(STALE)" ]; then \
		$(HOST) -c '$(FITS)' && rm -rf .venv && $(HOST) -m venv .venv; fi
	$(INSTALL) -r $(LOCKS)/requirements.txt
	touch $@

$(BIN)/.installed-dev: $(BIN)/.installed $(LOCKS)/requirements-dev.txt
	$(INSTALL) -r $(LOCKS)/requirements-dev.txt
	touch $@
