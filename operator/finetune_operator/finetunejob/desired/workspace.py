"""A revision's volume and its record. Made before the revision's first Job; they outlive it."""

from finetune_operator import names
from finetune_operator.finetunejob import record
from finetune_operator.finetunejob.desired.evaluation import evaluation_config
from finetune_operator.finetunejob.desired.run_config import run_config
from finetune_operator.finetunejob.target import Target
from finetune_operator.pods.metadata import Manifest, metadata
from finetune_operator.pods.mounts import claim_spec


def claim(target: Target) -> Manifest:
    """The PersistentVolumeClaim for the base model, its rows, checkpoints and artifact."""
    asked = target.spec.workspace
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": _metadata(target),
        "spec": claim_spec(str(asked.size), asked.storage_class_name, asked.access_modes),
    }


def record_map(target: Target) -> Manifest:
    """The ConfigMap of the revision's record, with what its stages are told. Made once; entries are added to it."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": _metadata(target),
        "data": told(target),
    }


def told(target: Target) -> dict[str, str]:
    """The entries that tell the stages what to do."""
    config = evaluation_config(target.spec, target.settings, target.engine)
    measured = {record.evaluation_key(config): record.text(config)} if target.spec.evaluation.enabled else {}
    run = run_config(target.name, target.revision, target.spec, target.origin)
    kept = {record.BUCKET: record.text(target.bucket)} if target.bucket else {}
    return {record.RUN_CONFIG: record.text(run), **kept, **measured}


def _metadata(target: Target) -> Manifest:
    name = target.revision_name
    return metadata(target.owner, name, names.labels(target.name, target.revision))
