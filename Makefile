# One word per habit. `make quickstart` and `make test` do all their own set-up on a fresh machine.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help quickstart test test-long lint format bench fuzz clean

help:            ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

quickstart: $(VENV)/.train  ## train the starter model, record the run, label an article
	$(BIN)/python train/fit.py configs/starter.yaml
	@echo
	$(BIN)/duanti predict models/starter data/starter/article.txt --format table
	@echo
	@echo "How good the model is, and why:  models/starter.report.html"
	@echo "The run is recorded. To look at it:  $(BIN)/mlflow ui --backend-store-uri sqlite:///mlflow.db"

test: $(VENV)/.dev  ## run the tests
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

test-long: $(VENV)/.dev  ## run the tests that take minutes; needs DUANTI_CORPORA
	$(BIN)/python -m pytest -m long

lint: $(VENV)/.dev  ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.dev  ## put the code into its style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.dev  ## measure against peers; needs DUANTI_CORPORA
	$(BIN)/python train/fit.py configs/starter.yaml tracking.enabled=false
	$(BIN)/python benchmarks/starter.py
	$(BIN)/python benchmarks/text_path.py
	$(BIN)/python benchmarks/processes.py
	$(BIN)/python benchmarks/batch.py
	$(BIN)/python benchmarks/context.py
	$(BIN)/python benchmarks/accuracy.py
	$(BIN)/python benchmarks/serve.py

fuzz: $(VENV)/.dev  ## hold a million random strings, and all texts of DUANTI_CORPORA, against jieba (ten minutes)
	DUANTI_FUZZ_STRINGS=1000000 DUANTI_FUZZ_TEXTS=1000000 $(BIN)/python -m pytest -n auto tests/test_exactness.py

clean:           ## remove the environment and what tools left
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist

$(VENV)/.train: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[train]'
	@touch $@

$(VENV)/.dev: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@ $(VENV)/.train
