"""A revision's volume and its configs. Applied before the revision's first Job; they outlive it."""

from finetune_operator import names
from finetune_operator.finetunejob.desired.evaluation import evaluation_map
from finetune_operator.finetunejob.desired.run_config import run_config
from finetune_operator.finetunejob.target import Manifest, Target
from finetune_operator.pods.metadata import metadata


def claim(target: Target) -> Manifest:
    """The PersistentVolumeClaim for the base model, its rows, checkpoints and artifact."""
    volume = target.spec.workspace
    spec: Manifest = {
        "accessModes": list(volume.access_modes),
        "resources": {"requests": {"storage": str(volume.size)}},
    }
    # An empty class is an answer of its own: no dynamic provisioning.
    if volume.storage_class_name is not None:
        spec["storageClassName"] = volume.storage_class_name
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": _metadata(target),
        "spec": spec,
    }


def config_maps(target: Target) -> list[Manifest]:
    """What the revision's Jobs are told."""
    return [config_map(target), *([evaluation_map(target)] if target.spec.evaluation.enabled else [])]


def config_map(target: Target) -> Manifest:
    """The ConfigMap with the run config.

    Not `immutable`: contextLength may change within a revision, and a newer operator may render another document for
    the same revision; the API server would refuse both, and the revision could never be worked on again.
    """
    config = run_config(target.name, target.revision, target.spec)
    document = config.model_dump_json(by_alias=True, exclude_none=True, indent=2)
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": _metadata(target),
        "data": {names.RUN_CONFIG_KEY: document + "\n"},
    }


def _metadata(target: Target) -> Manifest:
    name = names.of_revision(target.name, target.revision)
    return metadata(target, name, names.labels(target.name, target.revision))
