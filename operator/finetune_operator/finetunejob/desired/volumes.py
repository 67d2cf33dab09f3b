"""What is mounted where in a revision's pods. Used by the pod builders."""

from pathlib import Path

from finetune_operator import names
from finetune_operator.api.workspace import WorkspaceVolume
from finetune_operator.finetunejob.desired.evaluation import evaluation_config
from finetune_operator.finetunejob.record import RUN_CONFIG, evaluation_key
from finetune_operator.finetunejob.target import Target
from finetune_operator.pods.metadata import Manifest
from finetune_operator.pods.mounts import Mount, ephemeral

WORKSPACE = Path("/workspace")
TOLD = Path("/etc/finetune")
# Where prepare has the files of the FineTuneJob that it starts from, while they are copied, if they are in a bucket.
ORIGIN = WORKSPACE / "origin"


def workspace(target: Target, read_only: bool = False) -> Mount:
    """The revision's volume; where its files are kept in a bucket, one of the pod's own."""
    if target.bucket:
        return Mount("workspace", _own(target.spec.workspace), WORKSPACE, read_only)
    claim = target.revision_name
    return Mount("workspace", {"persistentVolumeClaim": {"claimName": claim}}, WORKSPACE, read_only)


def _own(workspace: WorkspaceVolume) -> Manifest:
    """A volume that goes with its pod: on its node's disk, or of the storage class that the manifest names."""
    if workspace.storage_class_name is None:
        return {"emptyDir": {"sizeLimit": str(workspace.size)}}
    return ephemeral(str(workspace.size), workspace.storage_class_name)


def told(target: Target, measured: bool) -> Mount:
    """The revision's record, of which a stage sees what it is told: the run config and, `measured`, the evaluation."""
    items = [{"key": RUN_CONFIG, "path": names.RUN_CONFIG}]
    if measured and target.spec.evaluation.enabled:
        key = evaluation_key(evaluation_config(target.spec, target.settings, target.engine))
        items.append({"key": key, "path": names.EVALUATION})
    name = target.revision_name
    return Mount("told", {"configMap": {"name": name, "items": items}}, TOLD, read_only=True)
