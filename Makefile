# Two commands on a fresh machine: `make run` and `make test`. Each makes the virtual environment it needs.
PYTHON ?= python3
VENV ?= .venv
WORKERS ?= 2
BIN := $(VENV)/bin
READY := $(VENV)/ready
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

.PHONY: run test test-fast check
unexport PYTHONDONTWRITEBYTECODE
# These start whole clusters or a browser, which take both cores, so they run one after the other.
ALONE := slurm or ray or torchrun or browser
# Each worker trains with one thread: with more, the workers would wait for one another.
test test-fast: export OMP_NUM_THREADS := 1

run: $(READY)
	$(BIN)/mlpx poly --degree 19 --epochs 1500

test: $(READY)
	$(PYTEST) -m 'not slow and not ($(ALONE))'
	$(BIN)/python -m pytest -m '($(ALONE)) and not slow' -rs

test-fast: $(READY)
	$(PYTEST) -m 'not slow and not real_data and not ($(ALONE)) and (smoke or not program)'

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $@
