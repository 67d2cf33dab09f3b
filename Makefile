# What a developer types. `make help` lists it; every target that needs the environment makes it first.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z][a-z0-9-]*:.*## /{printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: venv
venv: ## Make the environment (.venv); nothing to do when its inputs are unchanged
	@PYTHON="$(PYTHON)" hack/venv.sh

.PHONY: crds
crds: venv ## Generate the CustomResourceDefinition and the chart's copy from the pydantic models
	@.venv/bin/python -m finetune_operator.api.crd

.PHONY: check-crds
check-crds: venv
	@.venv/bin/python -m pytest -q tests/unit/operator/test_crd.py

.PHONY: check
check: check-crds
