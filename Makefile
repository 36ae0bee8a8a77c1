# Every target makes the environment it needs. `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

FLOORS := .venv-floors

# Two processes: one begins with all tests that start a cluster, the other with the rest (tests/conftest.py).
IN_PARALLEL := --numprocesses 2 --no-loadscope-reorder

.PHONY: help install demo test test-floors test-slow test-faults test-tex test-docs docs wheel test-gpu test-real bench bench-gpu bench-input bench-prefix bench-packs bench-growth bench-steps bench-scale bench-memory bench-driver check format clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "%-12s %s\n", $$1, $$2}'

$(VENV)/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, found " + sys.version.split()[0] + "; name another with: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

install: $(VENV)/.ready  ## make .venv with the exact versions of constraints.txt

demo: install  ## run the study `demo` and print where its report is
	$(BIN)/adaptertune run demo

test: install  ## run the tests (each under a minute)
	$(BIN)/python -m pytest $(IN_PARALLEL)

test-floors:  ## run the tests with the lowest versions that pyproject.toml allows (.venv-floors)
	$(PYTHON) -m venv $(FLOORS)
	$(FLOORS)/bin/python -m pip install --quiet --constraint floors.txt --editable '.[dev]'
	$(FLOORS)/bin/python -m pytest $(IN_PARALLEL)

test-slow: install  ## the tests that take over a minute
	$(BIN)/python -m pytest -m slow

test-faults: install  ## the tests that kill processes and nodes
	$(BIN)/python -m pytest -m faults

test-tex: install  ## the tests that compile LaTeX
	$(BIN)/python -m pytest -m tex

$(VENV)/.docs: $(VENV)/.ready
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,docs,cluster]'
	@touch $@

test-docs: $(VENV)/.docs  ## run the documentation's commands, programs and notebook, and build its site
	$(BIN)/python -m pytest -m docs --durations 0 --durations-min 10

docs: $(VENV)/.docs  ## build the documentation's site in build/docs; a broken link fails
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet -b html docs build/docs
	@echo build/docs/index.html

wheel: $(VENV)/.docs  ## build the wheel and the source archive in dist/
	$(BIN)/python -m build

test-gpu: install  ## the tests on a CUDA GPU
	$(BIN)/python -m pytest -m gpu

test-real: install  ## the tests on real weights and images (ADAPTERTUNE_REAL_DATA)
	$(BIN)/python -m pytest -m real

bench: install  ## whole sweeps beside the reference protocol and a tuned plain loop
	$(BIN)/python -m tests.performance.sweeps

bench-input: install  ## images/s of the input path beside a torchvision DataLoader, on 2 cores
	$(BIN)/python -m tests.performance.input_throughput

bench-prefix: install  ## trials with the frozen part's outputs kept, beside the same trials without
	$(BIN)/python -m tests.performance.prefix_cache

bench-gpu: install  ## trials and packs on a CUDA GPU beside plain loops
	$(BIN)/python -m tests.performance.on_gpu --compile

bench-scale: install  ## status, a rerun with nothing to do and report over 10,000 finished trials
	$(BIN)/python -m tests.performance.scale

bench-memory: install  ## memory of a training step, predicted by `plan` and measured
	$(BIN)/python -m tests.performance.memory

bench-driver: install  ## 1,000 tiny trials through one driver: overhead, memory, MLflow calls
	$(BIN)/python -m tests.performance.driver

bench-packs: install  ## trials in one pass, beside the same trials one after the other
	$(BIN)/python -m tests.performance.packs

bench-growth: install  ## how speed, memory and cost beside training grow with trials, workers and depth
	$(BIN)/python -m tests.performance.growth

bench-steps: install  ## steps of one trial beside a plain loop, and the share of the machine's rate
	$(BIN)/python -m tests.performance.steady_state

check: install  ## lint, types, import layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: install  ## rewrite the sources in the project's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove the environment and the default output folder
	rm -rf $(VENV) $(FLOORS) adaptertune-output
