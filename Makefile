# make demo [DOCS=~/papers] [ASK="a question"]   ingest real documents with a worker, an API and an embedded server
# make test [ARGS=...]        install what the tests need and run them
# make lint                   style, types, layers
# make fuzz [CASES=5000]      requests made from the OpenAPI document, and bytes that no polite client sends
# make chaos [ARGS=...]       thousands of jobs while workers and server are killed, frozen and restarted
# make deploy-check [DEPLOY_BASE_IMAGE=…]   build the images of a deployment with buildah, and run it from them
# make bench                  ratios against stock Celery, in one run

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: demo test lint fuzz chaos deploy-check bench clean

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'

$(VENV)/.dev: pyproject.toml examples/document_ingestion/requirements.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[dev]' --requirement examples/document_ingestion/requirements.txt
	touch $@

$(VENV)/.test: pyproject.toml $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --group test --group lint
	touch $@

demo: $(VENV)/.dev
	PYTHONPATH=examples $(BIN)/python -m document_ingestion.demo $(if $(ASK),--ask "$(ASK)") $(DOCS)

test: $(VENV)/.test
	$(BIN)/python -m pytest -n 3 --dist loadfile $(ARGS)

lint: $(VENV)/.test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fuzz: $(VENV)/.test
	AIJOBS_FUZZ_CASES=$(or $(CASES),5000) $(BIN)/python -m pytest tests/contract/test_schemathesis.py tests/contract/test_fuzz.py $(ARGS)

chaos: $(VENV)/.test
	$(BIN)/python -m tests.chaos $(ARGS)

deploy-check: $(VENV)/.test
	DEPLOY_CHECK=1 $(BIN)/python -m pytest tests/deploy -s $(ARGS)

bench: $(VENV)/.test
	$(BIN)/python -m benchmarks $(ARGS)

clean:
	rm -rf $(VENV)
