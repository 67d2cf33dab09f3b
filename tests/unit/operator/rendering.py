"""What a manifest is rendered to: helpers for the tests of `finetune_operator.finetunejob.desired`."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from finetune_operator import names
from finetune_operator.api.v1alpha1 import FineTuneJobSpec
from finetune_operator.finetunejob.desired import hosting, workspace
from finetune_operator.finetunejob.desired.bucket import in_bucket
from finetune_operator.finetunejob.desired.run_config import run_config
from finetune_operator.finetunejob.record import Record
from finetune_operator.finetunejob.seat import Seat
from finetune_operator.finetunejob.stages import JOBS
from finetune_operator.finetunejob.target import Target
from finetune_operator.names import revision_of
from finetune_operator.pods.metadata import Manifest
from finetune_operator.settings import Settings

EXAMPLES = Path(__file__).parents[3] / "examples"
SETTINGS = Settings(trainer_image="trainer:1", hosting_image="vllm-gpu:1", hosting_cpu_image="vllm-cpu:1")
GPUS = {"limits": {"nvidia.com/gpu": 1}}


def target(name: str = "recipes", **spec: Any) -> Target:
    """A target of the smallest spec, with the given sections in place of its own."""
    smallest = {"model": {"source": "hf://org/model"}, "dataset": {"train": {"source": "s3://bucket/train.jsonl"}}}
    parsed = FineTuneJobSpec.model_validate(smallest | spec)
    found = Target(name, "team", "the-uid", parsed, revision_of(parsed), SETTINGS, cache=parsed.workspace.cache or "")
    return replace(found, bucket=in_bucket(found, Record(found.revision)))


def example(name: str) -> Target:
    """The target of an example's manifest."""
    manifest = yaml.safe_load((EXAMPLES / name).read_text())
    return target(manifest["metadata"]["name"], **manifest["spec"])


def prepare(found: Target) -> Manifest:
    """The prepare Job."""
    return JOBS["prepare"].job(found, "inputs")


def train(found: Target) -> Manifest:
    """The train Job."""
    return JOBS["train"].job(found, "inputs")


def publish(found: Target) -> Manifest:
    """The publish Job."""
    return JOBS["publish"].job(found, "inputs")


def evaluate(found: Target) -> Manifest:
    """The evaluate Job."""
    return JOBS["evaluate"].job(found, "inputs")


def host(found: Target, context_length: int = 1024, replicas: int = 1, stage: str = hosting.HOST) -> Manifest:
    """The hosting Deployment, or that of the base model or of a checkpoint."""
    config = run_config(found.name, found.revision, found.spec)
    return hosting.deployment(found, hosting.pod_template(found, config, context_length, stage), replicas, stage)


def objects(found: Target) -> list[Manifest]:
    """Everything that a revision becomes."""
    return [
        *([] if found.bucket else [workspace.claim(found)]),
        workspace.record_map(found),
        prepare(found),
        *JOBS["train"].beside(found),
        train(found),
        *([publish(found)] if found.spec.output.destination else []),
        *([evaluate(found)] if found.spec.evaluation.enabled else []),
        host(found),
        hosting.candidate_service(found),
        hosting.policy(found),
        host(found, stage=names.BASE),
        hosting.base_service(found),
        hosting.stable_service(found, Seat(found.revision)),
    ]


def pods(found: Target) -> list[Manifest]:
    """The pod templates: prepare's, train's, evaluate's, hosting's and the base model's."""
    workloads = (prepare(found), train(found), evaluate(found), host(found), host(found, stage=names.BASE))
    return [workload["spec"]["template"] for workload in workloads]


def main(workload: Manifest) -> Manifest:
    """The one container of a Job or a Deployment."""
    (container,) = workload["spec"]["template"]["spec"]["containers"]
    return dict(container)


def environment(workload: Manifest) -> dict[str, Any]:
    """Its variables: a value, or where it comes from."""
    return {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in main(workload)["env"]}


def mounts(workload: Manifest) -> dict[str, Any]:
    """What its container sees where: the volume's source by mount path."""
    pod = workload["spec"]["template"]["spec"]
    sources = {volume["name"]: volume for volume in pod["volumes"]}
    return {mount["mountPath"]: sources[mount["name"]] for mount in main(workload)["volumeMounts"]}


def values(tree: Any) -> Iterator[Any]:
    """Every value in a manifest, at any depth."""
    yield tree
    for child in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ():
        yield from values(child)
