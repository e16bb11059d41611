PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
# Each test computes on one thread, so a process per core shares them out.
PARALLEL ?= -n auto --maxprocesses 8 --dist worksteal

.PHONY: demo test test-slow test-frameworks test-portable test-reliability test-wheel check bench docs site \
  clean

demo: $(READY)
	$(BIN)/steadygrad demo

test: $(READY)
	$(BIN)/python -m pytest $(PARALLEL)

test-slow: $(READY)
	$(BIN)/python -m pytest -m slow

# A fault at every file operation, power cuts, fuzzed files, forks: what docs/reliability.md lists.
test-reliability: $(READY)
	$(BIN)/python -m pytest $(PARALLEL) -m "slow or not slow" tests/reliability

# Back ends under other arithmetic: narrower and wider vectors, other compilers, 64-bit Arm emulated.
test-portable: $(READY)
	$(BIN)/python -m tests.portable

# The frameworks get an environment of their own: they pin what they like.
FRAMEWORKS := lightning skorch pytorch-ignite transformers accelerate stable-baselines3 sb3-contrib \
  keras tensorboard wandb mlflow-skinny trackio opacus
test-frameworks:
	$(PYTHON) -m venv $(VENV)-frameworks
	$(VENV)-frameworks/bin/python -m pip install --quiet --disable-pip-version-check \
	  --editable . pytest pytest-xdist hypothesis
	$(VENV)-frameworks/bin/python -m pip install --quiet --disable-pip-version-check $(FRAMEWORKS)
	$(VENV)-frameworks/bin/python -m pytest tests/integrations

# The wheel alone, in a bare environment of this Python.
test-wheel:
	$(PYTHON) tests/portable/bare_wheel.py

check: $(READY)
	$(BIN)/ruff format --check src tests benchmarks examples docs
	$(BIN)/ruff check src tests benchmarks examples docs
	$(BIN)/clang-format --dry-run --Werror src/steadygrad/scan/backends/c/runtime/*.h
	$(BIN)/lint-imports
	$(BIN)/pyright

docs: $(READY)
	$(BIN)/python -m docs.cells
	$(BIN)/python -m docs.choose
	$(BIN)/python -m docs.faults
	$(BIN)/python -m docs.papers
	$(BIN)/python -m docs.leaderboard
	$(BIN)/python -m docs.pytorch
	$(BIN)/python -m docs.quantities
	$(BIN)/python -m docs.dependencies
	$(BIN)/python -m docs.remedies
	$(BIN)/python -m docs.architecture

# The pages as a site with search, in build/site; fails on a broken link.
site: $(READY)
	$(BIN)/mkdocs build --strict --clean

bench: $(READY)
	$(BIN)/python -m benchmarks.init_table
	$(BIN)/python -m benchmarks.watch_overhead
	$(BIN)/python -m benchmarks.layers
	$(BIN)/python -m benchmarks.clips

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $(READY)

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache
