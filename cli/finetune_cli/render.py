"""`finetune render`: what the operator would create for a new FineTuneJob, from the operator's own builders."""

from dataclasses import replace
from pathlib import Path

import yaml
from finetune_operator.api.v1alpha1 import FineTuneJobSpec
from finetune_operator.finetunejob.desired.bucket import in_bucket
from finetune_operator.finetunejob.desired.evaluation import served_merged
from finetune_operator.finetunejob.desired.hosting import (
    adapter_map,
    base_service,
    candidate_service,
    deployment,
    pod_template,
)
from finetune_operator.finetunejob.desired.run_config import run_config
from finetune_operator.finetunejob.desired.workspace import claim, record_map
from finetune_operator.finetunejob.homes import home
from finetune_operator.finetunejob.observe import World
from finetune_operator.finetunejob.record import Record
from finetune_operator.finetunejob.stages import HOST, JOBS, origin, wanted
from finetune_operator.finetunejob.target import Target
from finetune_operator.names import BASE, of_revision, revision_and_step, revision_of
from finetune_operator.pods.metadata import Manifest
from finetune_operator.settings import Settings
from finetune_trainer.contract.adapters import PublishedAdapter
from finetune_trainer.contract.config import Origin, Source
from finetune_trainer.contract.schemes import CLAIMS, listed, remote

from finetune_cli.errors import ExitCode, UserError
from finetune_cli.job import FILE, read, sources

# Given by the API server when the FineTuneJob is created.
UNKNOWN_UID = "00000000-0000-0000-0000-000000000000"
# Prepare chooses it from the model when the manifest does not say.
EXAMPLE_CONTEXT_LENGTH = 2048
EXAMPLE_REVISION = "00000000"
EXAMPLE_DIGEST = "sha256:0000"


def render_manifest(path: Path, namespace: str | None) -> str:
    """The objects for the FineTuneJob of a file, as YAML documents."""
    manifest = read(path)
    where = namespace or manifest.metadata.namespace or "default"
    made = objects(manifest.metadata.name, where, manifest.spec, Settings.from_environment())
    return text(made, manifest.spec)


def objects(name: str, namespace: str, spec: FineTuneJobSpec, settings: Settings) -> list[Manifest]:
    """The objects in the order in which they would be made; UserError for sources that a cluster doesn't have."""
    for field, source in sources(spec):
        if source.startswith(FILE):
            known = [*remote("model" if field.startswith("model") else "dataset"), "pvc://"]
            raise UserError(
                f"{field}: {source} exists only for `finetune run`; in a cluster use {listed(known)} (for a dataset "
                "also configmap://).",
                ExitCode.USAGE,
            )
    cache = spec.workspace.cache or ""
    target = Target(name, namespace, UNKNOWN_UID, spec, revision_of(spec), settings, origin=_origin(spec), cache=cache)
    target = replace(target, bucket=in_bucket(target, Record(target.revision)))
    made = [*(() if target.bucket else (claim(target),)), record_map(target)]
    for stage in wanted(spec):
        if stage.hosts:
            made += _hosted(target)
        if stage.asks_base(spec):
            made += [_engine(target, BASE), base_service(target)]
        if job := JOBS.get(stage.name):
            made += [*job.beside(target), job.job(target, "")]
        if stage.serves:
            made.append(home(target).lead(target, World(name, namespace, UNKNOWN_UID), target.revision))
    return made


def _hosted(target: Target) -> list[Manifest]:
    """An engine of its own, or what asks the Engine for the adapter."""
    engine, output = target.spec.hosting.engine, target.spec.output.destination
    if engine is None:
        return [_engine(target), candidate_service(target)]
    name = target.revision_name
    adapter = PublishedAdapter(name=name, uri=f"{output}/{target.revision}", digest=EXAMPLE_DIGEST)
    return [adapter_map(target, engine.name, adapter)]


def _origin(spec: FineTuneJobSpec) -> Origin | None:
    """What stands in for another FineTuneJob's revision, which is looked up in the cluster."""
    wanted = origin.job_and_address(spec.model.source)
    if wanted is None:
        return None
    name, address = wanted[0], wanted[1] or EXAMPLE_REVISION
    revision, step = revision_and_step(address)
    files, uri = CLAIMS / of_revision(name, revision), f"{origin.SCHEME}{name}/{address}"
    return Origin(digest="", files=files, step=step, base=Source(uri=spec.model.source), lineage=(uri,))


def _engine(target: Target, stage: str = HOST.name) -> Manifest:
    config = run_config(target.name, target.revision, target.spec, target.origin)
    hosting = target.spec.hosting
    merged = stage == HOST.name and served_merged(target.spec)
    pod = pod_template(target, config, hosting.context_length or EXAMPLE_CONTEXT_LENGTH, stage, merged)
    return deployment(target, pod, hosting.replicas, stage)


def text(manifests: list[Manifest], spec: FineTuneJobSpec) -> str:
    """The objects as YAML documents, with a comment where a value will only be known in the cluster."""
    comments = [
        f"# metadata.ownerReferences[0].uid is the FineTuneJob's, given when it is created; {UNKNOWN_UID} stands in."
    ]
    if spec.hosting.engine:
        comments.append(
            f"# The adapter's uri and digest ({EXAMPLE_DIGEST} stands in) are known once it is published. evaluate "
            f"gets the key that Engine {spec.hosting.engine.name} names as its apiKey, if it names one, and is told "
            "of the accelerators that its pods have."
        )
    elif HOST.wanted(spec) and spec.hosting.context_length is None:
        comments.append(f"# --max-model-len is chosen when the data is prepared; {EXAMPLE_CONTEXT_LENGTH} stands in.")
    if origin.job_and_address(spec.model.source):
        comments.append(
            f"# What model.source stands for is looked up; without a revision, {EXAMPLE_REVISION} stands in."
        )
    documents = yaml.dump_all(manifests, Dumper=_Dumper, sort_keys=False, explicit_start=True, width=120)
    return "\n".join([*comments, documents])


class _Dumper(yaml.SafeDumper):
    """YAML as people write it: a text of several lines is a block."""


def _text(dumper: _Dumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _text)
