"""What is mounted where in a revision's pods. Used by the pod builders."""

from pathlib import Path

from finetune_operator import names
from finetune_operator.finetunejob.desired.evaluation import evaluation_config
from finetune_operator.finetunejob.record import RUN_CONFIG, evaluation_key
from finetune_operator.finetunejob.target import Target
from finetune_operator.pods.mounts import Mount

WORKSPACE = Path("/workspace")
TOLD = Path("/etc/finetune")


def workspace(target: Target, read_only: bool = False) -> Mount:
    """The revision's volume."""
    claim = names.of_revision(target.name, target.revision)
    return Mount("workspace", {"persistentVolumeClaim": {"claimName": claim}}, WORKSPACE, read_only)


def told(target: Target, measured: bool) -> Mount:
    """The revision's record, of which a stage sees what it is told: the run config and, `measured`, the evaluation."""
    items = [{"key": RUN_CONFIG, "path": names.RUN_CONFIG}]
    if measured and target.spec.evaluation.enabled:
        key = evaluation_key(evaluation_config(target.spec, target.settings))
        items.append({"key": key, "path": names.EVALUATION})
    name = names.of_revision(target.name, target.revision)
    return Mount("told", {"configMap": {"name": name, "items": items}}, TOLD, read_only=True)
