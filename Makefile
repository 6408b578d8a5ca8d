# `make repro` makes every table, `make test` runs every test, `make lint` checks the code; each sets up `.venv` first where it is missing.
VENV ?= .venv
PYTHON ?= $(firstword $(foreach p,python3 python3.11 python3.12 python3.13 python3.14 python,$(shell $(p) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $(p))))
READY := $(VENV)/.ready
PAGES_READY := $(VENV)/.pages-ready
BOOK := artifacts/book
PROFILE ?=
EXTRAS ?=
NAME ?= mini
export PATH := $(abspath $(VENV))/bin:$(PATH)
export PYTHONUNBUFFERED = 1

.PHONY: repro quick test lint format setup profile lab book pages browser-test bench lock

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

book: $(PAGES_READY) ## docs, tables and executed notebooks as a site to read offline: artifacts/book/index.html
	python -m sphinx --quiet --fresh-env --conf-dir book --define profile=$(or $(PROFILE),mini) --doctree-dir $(BOOK).cache . $(BOOK)
	@python -m hgrl report $(or $(PROFILE),mini) --html $(BOOK)/report.html
	@echo "Open $(BOOK)/index.html"

pages: $(READY) ## the executed notebooks as Markdown for code hosts: notebooks/executed, which is committed
	python book/pages.py $(PROFILE)

browser-test: $(PAGES_READY) ## the notebooks, the explorer, the report and the book, used in Chromium; pictures in artifacts/browser
	python tests/browser/run.py $(NAMES)

$(PAGES_READY): requirements-pages.lock $(READY)
	@echo "Adding what makes and tests pages to $(VENV) (about 0.3 GB)"
	python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements-pages.lock
	@touch $@

bench: $(READY) ## speed and memory against what one would use instead: benchmarks/results.json and results.md
	python benchmarks/run.py

lock: ## renew requirements.lock from pyproject.toml (needs uv)
	uv pip compile pyproject.toml --constraint constraints.txt --extra test --extra dev --universal --fork-strategy fewest --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --no-annotate --no-header --output-file requirements.lock
	uv pip compile pyproject.toml --constraint requirements.lock --extra book --extra browser --universal --fork-strategy fewest \
	  --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header --output-file requirements-pages.lock \
	  $$(sed -n 's/^\([a-z0-9._-]*\)==.*/--no-emit-package \1/p' requirements.lock)
