"""`finetune render`: what the operator would create for a new FineTuneJob, from the operator's own builders."""

from pathlib import Path

import yaml
from finetune_operator.api.v1alpha1 import FineTuneJobSpec
from finetune_operator.finetunejob.desired.hosting import (
    BASE,
    base_service,
    candidate_service,
    deployment,
    pod_template,
    stable_service,
)
from finetune_operator.finetunejob.desired.run_config import run_config
from finetune_operator.finetunejob.desired.workspace import claim, record_map
from finetune_operator.finetunejob.stages import HOST, JOBS, wanted
from finetune_operator.finetunejob.target import Target
from finetune_operator.names import revision_of
from finetune_operator.pods.metadata import Manifest
from finetune_operator.settings import Settings

from finetune_cli.errors import ExitCode, UserError
from finetune_cli.job import FILE, read, sources

# Given by the API server when the FineTuneJob is created.
UNKNOWN_UID = "00000000-0000-0000-0000-000000000000"
# Prepare chooses it from the model when the manifest does not say.
EXAMPLE_CONTEXT_LENGTH = 2048


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
            raise UserError(
                f"{field}: {source} exists only for `finetune run`; in a cluster use hf://, s3:// or pvc:// (for a "
                "dataset also configmap://).",
                ExitCode.USAGE,
            )
    target = Target(name, namespace, UNKNOWN_UID, spec, revision_of(spec), settings)
    made = [claim(target), record_map(target)]
    for stage in wanted(spec):
        if stage.hosts:
            made += [_engine(target), candidate_service(target)]
        if stage.asks_base(spec):
            made += [_engine(target, BASE), base_service(target)]
        if job := JOBS.get(stage.name):
            made += [*job.beside(target), job.job(target, "")]
        if stage.serves:
            made.append(stable_service(target, target.revision))
    return made


def _engine(target: Target, stage: str = HOST.name) -> Manifest:
    config = run_config(target.name, target.revision, target.spec)
    hosting = target.spec.hosting
    pod = pod_template(target, config, hosting.context_length or EXAMPLE_CONTEXT_LENGTH, stage)
    return deployment(target, pod, hosting.replicas, stage)


def text(manifests: list[Manifest], spec: FineTuneJobSpec) -> str:
    """The objects as YAML documents, with a comment where a value will only be known in the cluster."""
    comments = [
        f"# metadata.ownerReferences[0].uid is the FineTuneJob's, given when it is created; {UNKNOWN_UID} stands in."
    ]
    if HOST.wanted(spec) and spec.hosting.context_length is None:
        comments.append(f"# --max-model-len is chosen when the data is prepared; {EXAMPLE_CONTEXT_LENGTH} stands in.")
    documents = yaml.dump_all(manifests, Dumper=_Dumper, sort_keys=False, explicit_start=True, width=120)
    return "\n".join([*comments, documents])


class _Dumper(yaml.SafeDumper):
    """YAML as people write it: a text of several lines is a block."""


def _text(dumper: _Dumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _text)
