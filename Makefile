# Everything a newcomer needs: `make demo` and `make test` do all the set-up themselves.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready-$(shell cat pyproject.toml constraints.txt 2>/dev/null | cksum | cut -d' ' -f1)
DEMO   := runs/demo-$(shell date +%Y%m%d-%H%M%S)

# One thread per process: the engine runs a process per core, and threads would only fight over them.
export OMP_NUM_THREADS ?= 1
export RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO ?= 0

.PHONY: help setup demo test test-fast check format bench clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(READY)  ## make the virtual environment with the tested versions

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("Alloysmith needs Python 3.11 or newer; set PYTHON=…") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check torch -c constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@mkdir -p $(VENV)/src && ln -sfn ../.. $(VENV)/src/alloysmith
	@rm -f $(VENV)/.ready-*
	@touch $@

demo: $(READY)  ## run a real campaign (NiFeCr, bulk modulus, LAMMPS) and write its report
	$(BIN)/alloysmith doctor
	$(BIN)/alloysmith run configs/nifecr_quickstart.yaml --run-dir $(DEMO)
	$(BIN)/alloysmith run configs/nifecr_quickstart.yaml --run-dir $(DEMO)-local-search --plain \
		--set surrogate=null --set 'generators={search: {kind: local_search}}' --set 'agent={kind: direct, generator: search}'
	$(BIN)/alloysmith report $(DEMO) --baseline $(DEMO)-local-search

test: $(READY)  ## all tests: the fast ones in parallel, then the slow ones
	$(BIN)/python -m pytest -n 2 -m "not slow and not ray" -q
	$(BIN)/python -m pytest -m "slow or ray" -q

test-fast: $(READY)  ## only the fast tests
	$(BIN)/python -m pytest -n 2 -m "not slow and not ray" -q

check: $(READY)  ## style, types and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --config pyproject.toml
	$(BIN)/mypy

bench: $(READY)  ## the benchmarks whose figures stand in benchmarks/README.md
	$(BIN)/python benchmarks/run_all.py

format: $(READY)  ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove the environment and build products (run directories stay)
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
