# Needs make, Python 3.11 or newer and a package index. `make help` says what there is.
SHELL := /bin/bash
PYTHON ?= $(shell for each in python3.11 python3.12 python3.13 python3; do \
	"$$each" -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && command -v "$$each" && break; done)
# cpu or cuda: which build of vLLM. Unset: the one installed already, else cpu.
EXTRA ?=
# Further flags: make serve ARGS="--model openai/gpt-oss-20b", make test ARGS="-k settings".
ARGS ?=
BIN := .venv/bin
STAGE := scripts/stage

.PHONY: help install install-dev serve test test-gpu test-clients lint load bench bench-gpu train dashboards pictures lock lock-clients fields chart image-check clean require-python

help:  ## Say what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' Makefile

require-python:
	@test -n "$(PYTHON)" || { echo "error: no Python 3.11 or newer found; install it (Debian, Ubuntu: apt install \
	python3.11-venv) or name it: make PYTHON=/path/to/python3.11" >&2; exit 1; }

install: require-python  ## Install into .venv; EXTRA=cuda for GPUs
	@"$(PYTHON)" scripts/install.py $(if $(EXTRA),--extra $(EXTRA))

install-dev: require-python
	@"$(PYTHON)" scripts/install.py $(if $(EXTRA),--extra $(EXTRA)) --dev

serve: install  ## Serve on 127.0.0.1:8000; SERVING_PORT=9000, ARGS="--model openai/gpt-oss-20b"
	@exec $(BIN)/serving up $(ARGS)

lint: install-dev  ## Style, format, types and which package imports which
	@$(STAGE) "ruff check" $(BIN)/ruff check .
	@$(STAGE) "ruff format" $(BIN)/ruff format --check .
	@$(STAGE) "mypy" $(BIN)/mypy
	@$(STAGE) "import-linter" $(BIN)/lint-imports --no-cache --no-logo

test: lint  ## Everything that must pass: lint, then all tests; ARGS="-k settings" for some
ifeq ($(ARGS),)
	@$(STAGE) "pytest, three at a time" $(BIN)/pytest -m "not e2e and not load and not property and not clients" --numprocesses 3 --dist worksteal
	@$(STAGE) "pytest, properties" $(BIN)/pytest -m "property and not e2e" --numprocesses 3 --dist worksteal
	@$(STAGE) "pytest, end to end" $(BIN)/pytest -m e2e tests/e2e
else
	@$(STAGE) "pytest" $(BIN)/pytest $(ARGS)
endif
	@$(BIN)/python -m tests.programs

test-clients: install-dev  ## Run real clients against the server, as they come: coding agents, SDKs, frameworks; needs npm
	@$(STAGE) "install clients" $(BIN)/python scripts/clients.py install
	@$(STAGE) "pytest, clients" $(BIN)/pytest -m clients tests/clients $(ARGS)

test-gpu: install-dev  ## Try the server on this machine's NVIDIA GPU, on made-up weights; within 10 minutes
	@$(BIN)/pytest -m gpu tests/gpu $(ARGS)

load: install-dev  ## Show on a live stack how teams share it under load; about 4 minutes on an idle machine
	@$(BIN)/pytest -m load

bench: install  ## Measure against bare vLLM, write benchmarks/RESULTS.md; QUICK=1 for a short form
	@exec $(BIN)/python -m benchmarks.compare $(if $(QUICK),--quick) $(ARGS)

bench-gpu: install  ## Measure against vLLM's Python and Rust front ends on a GPU; QUICK=1: within 9 minutes
	@exec $(BIN)/python -m benchmarks.gpu $(if $(QUICK),--quick) $(ARGS)

train: install  ## Train the embedded demo model again
	@exec $(BIN)/python -m training.train $(ARGS)

dashboards: install-dev  ## Write grafana/dashboards/*.json from the builders beside them
	@$(BIN)/python -m grafana

pictures: install-dev  ## Draw docs/pictures anew from a live stack under load; needs prometheus and chromium
	@mkdir -p docs/pictures && PICTURES=docs/pictures $(BIN)/pytest tests/e2e/test_dashboards.py -k drawn

lock: require-python  ## Write requirements/*.txt from pyproject.toml; ARGS=--upgrade for newer versions
	@"$(PYTHON)" scripts/lock.py $(ARGS)

lock-clients: install-dev  ## Write the pins of the clients that test-clients tries; ARGS=--upgrade for newer versions
	@$(BIN)/python scripts/clients.py lock $(ARGS)
	@$(BIN)/python -m tests.clients.registry

fields: install-dev  ## Write the tables of docs/api.md about fields that are known and not done
	@$(BIN)/python scripts/field_tables.py

chart: install-dev  ## Write the Helm chart's schema and README from its values and our settings
	@$(BIN)/python scripts/chart.py $(ARGS)

image-check: require-python  ## Build the image without docker, and run it; IMAGE=cuda for GPUs'; needs root, debootstrap
	@"$(PYTHON)" scripts/image_check.py $(if $(IMAGE),$(IMAGE)) $(ARGS)

clean:  ## Remove .venv, caches and builds
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
