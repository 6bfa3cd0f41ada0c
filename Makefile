# `make` alone lists the targets.
PYTHON ?= python3
VENV := .venv
OLDEST := .venv-oldest
NEWEST := .venv-newest
BIN := $(VENV)/bin
INSTALL := -m pip install --quiet --disable-pip-version-check
# What `make test-newest` takes for torch: torch==2.13.0 spares the GBs that the newest brings on Linux.
NEWEST_TORCH ?= torch

# What `make demo` shows: MODEL, or the calculator that was trained here, or the one of the repository; with the sums of
# the default model one click away, where it was trained.
SUMS := ../simple-llm-data/simple-llm-gpt2
is_trained = $(wildcard $(1)/manifest.json)
CALCULATOR = $(if $(call is_trained,../simple-llm-data/calculator),../simple-llm-data/calculator,models/calculator)
BOTH = --model $(CALCULATOR) $(if $(call is_trained,$(SUMS)),--also $(SUMS))
DEMO_MODELS = $(if $(MODEL),--model "$(MODEL)",$(BOTH))

.DEFAULT_GOAL := help

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

# Made again when a requirement changes.
$(VENV)/installed: constraints.txt $(wildcard requirements*.txt)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python $(INSTALL) -c constraints.txt -r requirements-dev.txt
	touch $@

# Made anew from .venv: its site-packages behind a few packages in the oldest versions that requirements.txt allows.
$(OLDEST)/installed: $(VENV)/installed
	rm -rf $(OLDEST)
	$(BIN)/python -m venv --without-pip $(OLDEST)
	sed -nE 's/^(transformers|tokenizers|huggingface_hub)>=([^,]+),.*/\1==\2/p' requirements.txt > $(OLDEST)/oldest.txt
	$(BIN)/python -m pip --python $(OLDEST)/bin/python install --quiet --disable-pip-version-check --no-deps -r $(OLDEST)/oldest.txt
	cd $(OLDEST)/lib/python*/site-packages && ls -d "$(CURDIR)"/$(VENV)/lib/python*/site-packages > rest.pth
	touch $@

install: $(VENV)/installed ## make .venv and install what is needed

quickstart: install ## data, tokenizer, training, evaluation, and one answer, in five to fifteen minutes
	$(BIN)/python data_generator.py
	$(BIN)/python tokenizer.py
	$(BIN)/python trainer.py
	$(BIN)/python evaluate.py
	$(BIN)/python inference.py "1342+879"

prove: install ## train a small model and check it on all 100,000,000 pairs of 4-digit numbers, in two minutes
	PYTHON=$(BIN)/python bash runs/prove_all_pairs.sh proved

plus-minus: install ## train one model of sums and signed differences and check it on all 2,000,000 of 3-digit numbers
	PYTHON=$(BIN)/python bash runs/prove_all_pairs.sh plus-minus 0 ../simple-llm-data/plus-minus 1

any-length: install ## train on 8 digits, prove every sum of any length, add two numbers of 10,000 digits; in three minutes
	PYTHON=$(BIN)/python bash runs/any_length.sh

calculator: install ## train one model of + - * / that works as on paper, and prove it for every length; in five minutes
	PYTHON=$(BIN)/python bash runs/calculator.sh

demo: install ## make the page of the calculator and the trained model (or of MODEL=DIR), and serve it here; needs npm
	$(BIN)/python -m web.build $(DEMO_MODELS) --serve

test: install ## ruff, then the test suite
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest

test-oldest: $(OLDEST)/installed ## the tests that touch transformers, with the oldest version that is allowed
	$(OLDEST)/bin/python -m pytest -m library

test-newest: ## the test suite with the newest of everything, in an environment of its own
	test -x $(NEWEST)/bin/python || $(PYTHON) -m venv $(NEWEST)
	sed -nE 's/^([A-Za-z0-9][A-Za-z0-9._-]*)[<>=~!].*/\1/p' requirements*.txt | sed 's/^torch$$/$(NEWEST_TORCH)/' > $(NEWEST)/newest.txt
	$(NEWEST)/bin/python $(INSTALL) --upgrade --upgrade-strategy eager -r $(NEWEST)/newest.txt
	$(NEWEST)/bin/python -m pytest

constraints: ## write constraints.txt anew, from what a fresh environment would get
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python $(INSTALL) --dry-run --ignore-installed --report $(VENV)/resolved.json -r requirements-dev.txt
	$(BIN)/python .ci/constraints.py $(VENV)/resolved.json constraints.txt

format: install ## format the code and mend what ruff can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove the environments and caches; data and models stay
	rm -rf $(VENV) $(OLDEST) $(NEWEST) .pytest_cache .ruff_cache .hypothesis .npm
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help install quickstart prove plus-minus any-length calculator demo test test-oldest test-newest constraints format clean
