"""Digests are kept in clusters: of a revision, of an evaluation, of what a stage was started with.

They say whether to train, to ask, to start again. A new field with a default must change none of them, so those of a
dozen manifests are written down in digests.json.

A digest that differs trains every model of that shape again: never correct one here, unless that is what you mean.
"""

import json
from typing import Any

import pytest
from finetune_operator import names
from finetune_operator.api.dataset import Dataset
from finetune_operator.api.v1alpha1 import FineTuneJobSpec, Training
from finetune_operator.finetunejob.desired.evaluation import evaluation_config, evaluation_id
from finetune_operator.finetunejob.observe import World
from finetune_operator.finetunejob.record import evaluation_key
from finetune_operator.finetunejob.stages import wanted
from finetune_operator.finetunejob.stages.base import Context
from finetune_operator.finetunejob.stages.host import Host
from finetune_operator.finetunejob.stages.job import JobStage
from finetune_operator.finetunejob.walk import begin
from paths import ROOT
from rendering import target

MODEL = {"source": "hf://org/model"}
ROWS = {"train": {"source": "s3://bucket/train.jsonl"}}
MANIFESTS: dict[str, dict[str, Any]] = {
    "the smallest": {},
    "a revision of the model": {"model": MODEL | {"revision": "v2", "trustRemoteCode": True}},
    "credentials": {"model": MODEL | {"credentials": {"secretRef": {"name": "hub"}}}},
    "splits": {"dataset": ROWS | {"validation": {"fraction": 0.2}, "test": {"source": "s3://bucket/test.jsonl"}}},
    "columns": {
        "dataset": ROWS | {"format": "prompt-completion", "columns": {"prompt": "q"}, "systemPrompt": "Be brief."}
    },
    "hyperparameters": {
        "training": {"maxSteps": 40, "learningRate": 5e-4, "batchSize": 8, "maxLength": 256, "seed": 7}
    },
    "an adapter": {"training": {"adapter": {"type": "dora", "rank": 32, "alpha": 16, "targetModules": ["q_proj"]}}},
    "every weight": {"training": {"adapter": {"type": "none"}}},
    "resources": {"training": {"resources": {"limits": {"nvidia.com/gpu": 2}}, "retries": 5, "maxRuntime": "6h"}},
    "pods": {"training": {"pod": {"nodeSelector": {"zone": "a"}, "labels": {"team": "a"}}}},
    "an image": {"training": {"image": "trainer:2"}, "hosting": {"image": "vllm:2", "contextLength": 2048}},
    "an evaluation": {
        "evaluation": {"metrics": ["token_f1"], "baselines": [{"type": "few-shot", "examples": 2}], "sampleSize": 50}
    },
    "a gate": {"evaluation": {"gate": {"minimum": 0.8}}},
    "an output": {"output": {"destination": "s3://models/recipes"}},
    "hosting": {"hosting": {"replicas": 1, "rollout": "recreate", "resources": {"limits": {"nvidia.com/gpu": 1}}}},
}
GOLDEN = ROOT / "tests" / "unit" / "operator" / "digests.json"


def digests(spec: dict[str, Any]) -> dict[str, str | None]:
    found = target(**spec)
    world = World(found.name, found.namespace, found.uid)
    context = Context(found, world, begin(world, found.revision))
    return {
        "revision": found.revision,
        "evaluation": evaluation_id(found),
        "evaluation entry": evaluation_key(evaluation_config(found.spec, found.settings)),
        **{stage.name: stage.inputs(context) for stage in wanted(found.spec) if isinstance(stage, JobStage | Host)},
    }


@pytest.mark.parametrize("name", MANIFESTS)
def test_they_are_what_they_were(name: str) -> None:
    assert digests(MANIFESTS[name]) == json.loads(GOLDEN.read_text())[name]


def test_a_default_written_out_is_the_same_as_left_out() -> None:
    smallest = target()
    written = smallest.spec.model_dump(mode="json", by_alias=True, exclude_none=True)
    assert digests(written) == digests({})


def test_modules_that_are_trained_as_a_whole_make_another_revision() -> None:
    assert digests({"training": {"adapter": {"modulesToSave": ["lm_head"]}}})["revision"] != digests({})["revision"]


def test_a_dataset_that_was_refused_is_tried_again_once_the_manifest_lets_it_through() -> None:
    usual, fail = digests({}), digests({"dataset": ROWS | {"onSensitive": "fail"}})
    assert {name for name, digest in usual.items() if digest != fail[name]} == {"prepare"}


# What has to be given for another value of each field of training, beside the field itself.
OTHERS: dict[str, Any] = {
    "method": "dpo",
    "dpo": {"beta": 0.2},
    "kto": {"beta": 0.2},
    "reward": {"centerRewardsCoefficient": 0.01},
    "adapter": {"rank": 8},
    "epochs": 2,
    "maxSteps": 7,
    "learningRate": 0.001,
    "batchSize": 3,
    "maxLength": 99,
    "sweep": {"parameters": {"epochs": [1, 2]}},
    "seed": 43,
    "keepCheckpoints": 3,
    "tracking": {"type": "tensorboard"},
    "image": "another:1",
    "resources": {"limits": {"cpu": "1"}},
    "maxRuntime": "1h",
    "budget": {"acceleratorHours": 1},
    "retries": 9,
    "pod": {"nodeSelector": {"zone": "a"}},
    "queue": "team-a",
    "nodes": 2,
    "sharding": "none",
}
# What a field goes with.
BESIDE: dict[str, Any] = {
    "dpo": {"method": "dpo"},
    "kto": {"method": "kto"},
    "reward": {"method": "reward"},
    "queue": {"resources": {"limits": {"cpu": "1"}}},
}


@pytest.mark.parametrize("name", Training.model_fields)
def test_a_field_of_training_changes_the_revision_or_is_on_the_list_that_says_why_not(name: str) -> None:
    alias = Training.model_fields[name].alias or name
    beside = BESIDE.get(alias, {})
    changes = names.revision_of(_spec(beside | {alias: OTHERS[alias]})) != names.revision_of(_spec(beside))
    assert changes is (name not in names.NOT_IN_REVISION)


# Another value of each field of dataset.
OTHER_ROWS: dict[str, Any] = {
    "train": {"source": "s3://bucket/other.jsonl"},
    "validation": {"fraction": 0.2},
    "test": {"fraction": 0.2},
    "format": "chat",
    "columns": {"prompt": "q"},
    "systemPrompt": "Be brief.",
    "onSensitive": "fail",
    "credentials": {"secretRef": {"name": "hub"}},
}


@pytest.mark.parametrize("name", Dataset.model_fields)
def test_a_field_of_dataset_changes_the_revision_or_is_on_the_list_that_says_why_not(name: str) -> None:
    alias = Dataset.model_fields[name].alias or name
    changes = names.revision_of(_spec({}, {alias: OTHER_ROWS[alias]})) != names.revision_of(_spec({}))
    assert changes is (name not in names.DATASET_NOT_IN_REVISION)


def _spec(training: dict[str, Any], dataset: Any = None) -> FineTuneJobSpec:
    rows, shared = ROWS | (dataset or {}), {"accessModes": ["ReadWriteMany"]}
    return FineTuneJobSpec.model_validate({"model": MODEL, "dataset": rows, "training": training, "workspace": shared})
