# make demo [DOCS=~/papers] [ASK="a question"]   ingest real documents with a worker, an API and an embedded server
# make agent [ARGS=--once]    an agent on a page: it streams, waits for its provider, survives its worker
# make test [ARGS=...]        install what the tests need and run them
# make lint                   style, types, layers
# make fuzz [CASES=5000]      requests made from the OpenAPI document, and bytes that no polite client sends
# make continuity [DISCONNECTS=1000]   clients that leave and come back while workers and APIs are killed
# make chaos [ARGS=...]       thousands of jobs while workers and server are killed, frozen and restarted
# make deploy-check [DEPLOY_BASE_IMAGE=…]   build the images of a deployment with buildah, and run it from them
# make bench [ARGS=...]       ratios against stock Celery and other libraries, in one run

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: demo agent test lint fuzz continuity chaos deploy-check bench clean

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'

$(VENV)/.dev: pyproject.toml $(wildcard examples/*/requirements.txt) | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[dev,asyncio]' $(patsubst %,--requirement %,$(filter %.txt,$^))
	touch $@

$(VENV)/.test: pyproject.toml $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --group test --group lint
	touch $@

demo: $(VENV)/.dev
	PYTHONPATH=examples $(BIN)/python -m document_ingestion.demo $(if $(ASK),--ask "$(ASK)") $(DOCS)

agent: $(VENV)/.dev
	PYTHONPATH=examples $(BIN)/python -m agent.demo $(ARGS)

test: $(VENV)/.test
	$(BIN)/python -m pytest -n 4 --dist loadfile $(ARGS)

lint: $(VENV)/.test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fuzz: $(VENV)/.test
	AIJOBS_FUZZ_CASES=$(or $(CASES),5000) $(BIN)/python -m pytest tests/contract/test_schemathesis.py tests/contract/test_fuzz.py $(ARGS)

continuity: $(VENV)/.test
	TEST_DISCONNECTS=$(or $(DISCONNECTS),1000) $(BIN)/python -m pytest tests/contract/test_continuity.py tests/contract/test_output_continuity.py $(ARGS)

chaos: $(VENV)/.test
	$(BIN)/python -m tests.chaos $(ARGS)

deploy-check: $(VENV)/.test
	DEPLOY_CHECK=1 $(BIN)/python -m pytest tests/deploy -s $(ARGS)

bench: $(VENV)/.test
	$(BIN)/python -m benchmarks $(ARGS)

clean:
	rm -rf $(VENV) .venv-bench
