# `make` lists the targets. Each works on a machine that has Python >= 3.11, make and git.
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
export DO_NOT_TRACK = 1
export PREFECT_SERVER_ANALYTICS_ENABLED = false
# The temporary server's first start migrates its database: slow machines need the time.
export PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS = 120

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 18

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(if $(TORCH_INDEX),$(BIN)/python -m pip install --quiet --constraint constraints.txt \
	  --index-url $(TORCH_INDEX) torch torchvision)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[s3,dev]'
	@touch $(READY)

# TORCH_INDEX=<address of PyTorch's CPU index> saves gigabytes of CUDA where there is no GPU: the
# standard index has no CPU build, and a clone names no index.
setup: $(READY)  ## make the virtual environment

format: $(READY)  ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

check: $(READY)  ## lint, types, import contracts, spelling and dead code
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports
	$(BIN)/typos
	$(BIN)/vulture

test: check  ## what CI runs: checks and tests
	$(BIN)/python -m pytest -m 'not slow' -n logical --maxprocesses 4 --dist worksteal

coverage: $(READY)  ## the fast tests with coverage; prints what no test runs
	$(BIN)/coverage run -m pytest -m 'not slow' -n logical --maxprocesses 4 --dist worksteal
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

# ONLY names files or folders of tests; the log is of what was run last.
ONLY ?= tests
DRILLS := docs/lab/drills.log

drills: $(READY)  ## what takes minutes: kills, full disk, S3, Ray, a browser, the docs' long commands
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[s3,ray,kubernetes,dev]'
	@mkdir -p .operate
	@{ date -u '+make drills ONLY="$(ONLY)", %F %R'; \
	  ICLORA_CACHE=$(CURDIR)/.operate/cache $(BIN)/python -m pytest -m slow --no-header --verbose \
	  --color=no --disable-warnings --durations=0 --durations-min=1 $(ONLY); \
	  echo $$? > .operate/drills; } | tee $(DRILLS); exit $$(cat .operate/drills)

docs: $(READY)  ## write the generated pages anew
	$(BIN)/python docs/generate.py

demo: $(READY)  ## the whole chain on the miniature
	$(BIN)/iclora demo

bench-miniature: $(READY)  ## the miniature's table: base and adapter, measured
	$(BIN)/python benchmarks/bench_miniature.py store/bench-miniature

up: $(READY)  ## server with UI, pools, deployments and workers on this machine
	$(BIN)/python -m tasks.local_stack up

down: $(READY)  ## take all of it down; nothing is lost
	$(BIN)/python -m tasks.local_stack down

.PHONY: help setup format check test drills docs demo bench-miniature up down
