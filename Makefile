# `make repro` makes every table, `make test` runs every test, `make lint` checks the code; each sets up `.venv` first where it is missing.
VENV ?= .venv
PYTHON ?= $(firstword $(foreach p,python3 python3.11 python3.12 python3.13 python3.14 python,$(shell $(p) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $(p))))
READY := $(VENV)/.ready
PROFILE ?=
EXTRAS ?=
NAME ?= mini
export PATH := $(abspath $(VENV))/bin:$(PATH)
export PYTHONUNBUFFERED = 1

.PHONY: repro quick test lint format setup profile lab bench lock

repro: $(READY) ## every table and figure of the current profile, or of PROFILE; EXTRAS=1 adds the rows that are no rows of the paper
	@python -m hgrl repro $(if $(PROFILE),--profile $(PROFILE)) $(if $(EXTRAS),--extras)

quick: $(READY) ## less of the same, in a quarter of the time, into results/quick
	@python -m hgrl repro --quick

test: $(READY) ## all tests, and the seven notebooks
	python -m pytest tests notebooks --nbval-lax

lint: $(READY) ## ruff's rules and layout, as pyproject.toml sets them
	ruff check
	ruff format --check

format: $(READY) ## repair what ruff can repair
	ruff check --fix
	ruff format

setup: $(READY) ## only the environment

$(READY): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "No Python >= 3.11 found; install one, or run: make $(MAKECMDGOALS) PYTHON=/path/to/python" >&2; exit 1; }
	@echo "Setting up $(VENV) (about 7 GB, a few minutes)"
	$(PYTHON) -m venv $(VENV)
	python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

profile: $(READY) ## make profile NAME=photos: what `make repro` and `dvc repro` make from now on
	@python -m hgrl profile $(NAME)

lab: $(READY) ## the notebooks, in a browser
	jupyter lab notebooks

bench: $(READY) ## speed and memory against what one would use instead: benchmarks/results.json and results.md
	python benchmarks/run.py

lock: ## renew requirements.lock from pyproject.toml (needs uv)
	uv pip compile pyproject.toml --constraint constraints.txt --extra test --extra dev --universal --fork-strategy fewest --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --no-annotate --no-header --output-file requirements.lock
