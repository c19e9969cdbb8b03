# The two commands of the README are `make quickstart` and `make test`; each makes .venv when it is not there.
#
# On a GPU machine nothing changes: the package index offers torch's CUDA build there.
# PYTHON picks the interpreter (3.11 or newer), EXTRAS what is installed, VENV where.

PYTHON ?= python3
EXTRAS ?= dev
VENV ?= .venv
BIN = $(VENV)/bin
STAMP = $(VENV)/.installed-$(EXTRAS)
WORKERS ?= 2
PYTEST = $(BIN)/python -m pytest

.PHONY: quickstart test test-full test-gpu check format docs bench install clean

quickstart: $(STAMP)
	$(BIN)/python -m axo.workflows.quickstart

test: $(STAMP)
	$(PYTEST) -m "not slow and not gpu" -n $(WORKERS) --dist worksteal

# With `make test-full EXTRAS=dev,gptq` those of GPTQ too (BUILD_CUDA_EXT=0 in the environment where there is no GPU).
test-full: $(STAMP)
	$(PYTEST) -m "not gpu" -n $(WORKERS) --dist worksteal

test-gpu: $(STAMP)
	$(PYTEST) -m gpu

check: $(STAMP)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(PYTEST) -q tests/unit/test_architecture.py

format: $(STAMP)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

# The reference page and the schema are made of the source; a test compares them with it.
docs: $(STAMP)
	$(BIN)/axo schema --format markdown --output docs/recipe.md
	$(BIN)/axo schema --output recipes/recipe.schema.json

bench: $(STAMP)
	$(BIN)/python benchmarks/help.py
	$(BIN)/python benchmarks/validate.py
	$(BIN)/python benchmarks/loop.py
	$(BIN)/python benchmarks/train.py
	$(BIN)/python benchmarks/first_step.py
	$(BIN)/python benchmarks/merge.py
	$(BIN)/python benchmarks/pack.py
	$(BIN)/python benchmarks/collate.py
	$(BIN)/python benchmarks/encode.py
	$(BIN)/python benchmarks/prepare.py
	$(BIN)/python benchmarks/warm.py
	$(BIN)/python benchmarks/balance.py

install: $(STAMP)

# torch goes first and alone, pinned by the constraints: no later step can then resolve another build of it.
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -c "import sys; assert sys.version_info >= (3, 11), 'axo needs Python 3.11 or newer: make PYTHON=python3.12'"
	@echo "installing into $(VENV): about 1.5 GB, a few minutes, once"
	$(BIN)/python -m pip install --quiet -c constraints.txt torch
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[$(EXTRAS)]"
	touch $(STAMP)

clean:
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .hypothesis
