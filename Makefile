# make profile     profile the energy of a pipeline, on sample photographs or DATA=your/folder PIPELINE=your/file.py:name
# make test        everything that must hold; what CI runs
# make check       the fast part of it, about two minutes
# make setup       only the set-up, which the others do by themselves; tries again what was left out
# make bench       greenload against hand-written pipelines; arguments in ARGS
# make bench-peers greenload against other loaders, each in an environment of its own; arguments in ARGS
# make picture     the README's picture, from a new profile of the sample photographs
# make tables      docs/backends.md from the tables of the backends, and the picture of the rooms from their imports
# make dist        a wheel, with the kernel in it
# make pin         resolve anew the versions in constraints.txt
# make clean       remove what was generated, except .venv, .peers and data/

PYTHON ?= python3
PIPELINE ?= imagenet:train
SAMPLE := data/sample
BIN := .venv/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Whatever the caller's environment says: else each process of the tests compiles the package and its tests anew.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: profile test check setup ready lint bench bench-peers picture tables dist pin clean

# Without DATA= a ready pipeline gets sample photographs; one from a file is taken to know its data.
ifndef DATA
ifeq ($(findstring .py:,$(PIPELINE)),)
DATA := $(SAMPLE)
profile: photographs
endif
endif

profile: ready
	$(BIN)/greenload profile "$(PIPELINE)" $(if $(DATA),--data "$(DATA)") --json report.json --html report.html

.PHONY: photographs
photographs: ready
	@grep -qs '"complete": true' $(SAMPLE)/.greenload-sample.json || $(BIN)/greenload sample $(SAMPLE) --images 512

# Two at a time, and one at a time those that judge times or idleness.
test: lint
	$(BIN)/pytest -n 2 --dist worksteal -m "not alone and not long"
	$(BIN)/pytest -m "alone and not long"

check: lint
	$(BIN)/pytest -n 2 --dist worksteal -m "not alone and not slow and not gpu and not long" --timeout 120

lint: ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

setup:
	@$(PYTHON) tools/set_up.py --retry

ready:
	@$(PYTHON) tools/set_up.py

bench:
	@$(PYTHON) tools/set_up.py --bench
	$(BIN)/python -m bench $(ARGS)
	$(if $(ARGS),,$(BIN)/pytest -m long --timeout 600)

bench-peers: ready
	$(BIN)/python -m bench.peers.environments
	$(BIN)/python -m bench.peers $(ARGS)

picture: photographs
	$(BIN)/python tools/picture.py $(ARGS)

tables: ready
	$(BIN)/python tools/tables.py
	$(BIN)/python tools/rooms.py

dist: ready
	GREENLOAD_KERNEL=required $(BIN)/pip wheel --no-deps --no-build-isolation --wheel-dir dist .

pin: ready
	$(BIN)/python tools/pin.py

clean:
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	rm -f report.json report.html
	find bench greenload pipelines tests tools -name __pycache__ -type d -exec rm -rf {} +
