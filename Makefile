# One command each. Everything is installed into .venv; PYTHON must be 3.10, 3.11 or 3.12.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Where a CPU build of torch comes from if the configured package index has none.
TORCH_CPU_INDEX ?= https://download.pytorch.org/whl/cpu

# Processes that test side by side. A file stays with one of them: no two runs with a rollout engine meet.
WORKERS ?= 2

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-fast test-long test-slow test-gpu-versions constraints bench gpu-check lint types check clean

help:  ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 12

setup: $(VENV)/.dev  ## Create .venv with everything for a machine without a GPU

# One stamp for each set of extras: what the demo needs, and what developing needs on top. One after
# the other, because pip takes many minutes to resolve both at once.
$(VENV)/.cpu $(VENV)/.dev: $(VENV)/.%: pyproject.toml .ci/setup_venv
	PYTHON="$(PYTHON)" VENV="$(VENV)" EXTRAS="$*" TORCH_CPU_INDEX="$(TORCH_CPU_INDEX)" sh .ci/setup_venv
	@touch $@
$(VENV)/.dev: $(VENV)/.cpu

demo: $(VENV)/.cpu  ## Collect, train three ways with three seeds, compare: `fpa-verl study demo`
	$(BIN)/fpa-verl study demo

# Of all tests so many, the slowest, are named at the end.
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder --durations 10

test: setup  ## The quick tests, an offline run and GRPO by real servers among them
	$(PYTEST) -m "not slow and not patient"

test-long: setup  ## Those that take seconds each: real runs of every kind, memory of whole models
	$(PYTEST) -m "patient and not slow"

# Mathematics, data, runs, reports, scorer: no Ray, no engine.
FAST := tests/objectives tests/rollouts tests/trees tests/data_check tests/evaluation tests/runs tests/report tests/study tests/reward

test-fast: setup  ## What of the tests takes under a minute: before every push
	$(BIN)/python -m pytest -q -m "not slow and not patient" -n $(WORKERS) --dist loadfile $(FAST) tests/test_*.py

# An environment of its own with the versions that GPU machines have. Its torch is a build for CUDA, and runs on a CPU.
GPU_VENV ?= .venv-gpu
$(GPU_VENV)/.gpu: pyproject.toml constraints-gpu.txt
	$(PYTHON) -m venv $(GPU_VENV)
	$(GPU_VENV)/bin/python -m pip install --quiet -c constraints-gpu.txt --editable ".[gpu]" pytest pytest-xdist hypothesis
	@touch $@

test-gpu-versions: $(GPU_VENV)/.gpu  ## The tests without a rollout engine on the GPU extra's versions (10 GB of disk)
	$(GPU_VENV)/bin/python -m pytest -m "not slow and not engine" -n $(WORKERS) --dist loadfile --no-loadscope-reorder

constraints: setup  ## Resolve the GPU extra anew: constraints-gpu.txt
	$(BIN)/python .ci/resolve_gpu

test-slow: setup  ## Longer tests: 10,800 damaged files; real MATH problems, where they are at hand
	$(BIN)/python -m pytest -m slow

bench: setup  ## What is measured and not asserted (an hour and more); exit status 1 where a goal is missed
	@missed=0; for name in import_cost dataset_reading report_speed scorer_errors scorer_throughput \
			reference_error step_cost trainer_step start_up collect_rate tree_rate grpo_step trl_throughput; do \
		echo "# $$name"; $(BIN)/python benchmarks/$$name.py || missed=1; \
	done; exit $$missed

gpu-check:  ## What only a GPU shows, in ten minutes; with PYTHON, which has torch and transformers
	$(PYTHON) benchmarks/gpu_check.py

lint: setup  ## ruff
	@! git grep -nE '^(<<<<<<<|>>>>>>>) '
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: setup  ## mypy
	$(BIN)/mypy

check: lint types test test-long  ## What CI runs

clean:  ## Remove the environments, not the runs
	rm -rf $(VENV) $(GPU_VENV)
