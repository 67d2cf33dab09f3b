"""A workspace that is kept in a bucket: where, and what pods are told of it. Used by `plan` and the builders of pods.

Where a revision's files are is decided when its record is made, and stands there from then on; the Secret may be
another one, as long as the bucket is the same.
"""

from collections.abc import Sequence
from pathlib import Path

from finetune_trainer.contract.outcome import TERMINATION_LOG

from finetune_operator import names
from finetune_operator.api.model import Credentials
from finetune_operator.api.pods import LocalObject
from finetune_operator.api.resources import Resources
from finetune_operator.finetunejob.desired import volumes
from finetune_operator.finetunejob.record import InBucket, Record, dump
from finetune_operator.finetunejob.target import Target
from finetune_operator.pods.environment import Variable, threads, variables
from finetune_operator.pods.metadata import Manifest
from finetune_operator.pods.mounts import Mount, scratch
from finetune_operator.pods.resources import resources, without_devices
from finetune_operator.pods.sources import credentials
from finetune_operator.pods.template import ENVIRONMENT, container

# Whose keys they are.
WORKSPACE, ORIGIN = "FINETUNE_WORKSPACE_", "FINETUNE_ORIGIN_"


def in_bucket(target: Target, record: Record) -> InBucket | None:
    """Where a revision's workspace is kept: as its record has it, or else as the manifest asks; None on a volume."""
    asked = _asked(target)
    if not record.entries:
        return asked
    kept = record.bucket
    return asked if asked and kept and asked.uri == kept.uri else kept


def _asked(target: Target) -> InBucket | None:
    workspace = target.spec.workspace
    if workspace.bucket is None:
        return None
    # No two FineTuneJobs have one uid, in whatever cluster or namespace, so that none writes over another's.
    revision = target.revision_name
    uri = f"{workspace.bucket.rstrip('/')}/{target.namespace}/{target.uid}/{revision}"
    return InBucket(uri=uri, secret=workspace.credentials.secret_ref.name if workspace.credentials else None)


def keys(bucket: InBucket | None, prefix: str = WORKSPACE) -> list[Variable]:
    """Its credentials; none on a volume."""
    if bucket is None or bucket.secret is None:
        return []
    return credentials(prefix, Credentials(secret_ref=LocalObject(name=bucket.secret)), [bucket.uri])


def carried(target: Target) -> dict[str, str]:
    """What engines' pods are made from besides hosting; nothing on a volume, whose size acts on it alone."""
    if target.bucket is None:
        return {}
    workspace = target.spec.workspace
    return {
        "bucket": dump(target.bucket),
        "size": str(workspace.size),
        "storageClassName": str(workspace.storage_class_name),
    }


def arguments(bucket: InBucket | None) -> tuple[str, ...]:
    """The arguments that tell a stage; none on a volume."""
    return ("--bucket", bucket.uri) if bucket else ()


def brings(target: Target, wanted: Sequence[str], mounts: Sequence[Mount], room: Resources) -> tuple[Manifest, ...]:
    """The container that brings an engine's files before it starts, and alone has the credentials; none on a volume,
    or where the engine reads what the user mounts alone.

    `wanted`: as the trainer's `bring` is told. `mounts`: the user's, where a link may lead. `room`: the engine's.
    """
    if target.bucket is None or not wanted:
        return ()
    image, own = target.spec.training.image or target.settings.trainer_image, without_devices(room)
    seen = [volumes.workspace(target), *mounts, *scratch()]
    return (
        container(names.FETCH, image, target.settings.image_pull_policy, resources(own))
        | {
            "command": ["python", "-m", "finetune_trainer", "bring"],
            "args": [
                *arguments(target.bucket),
                *("--workspace", str(volumes.WORKSPACE)),
                *(part for each in wanted for part in ("--only", each)),
                *("--termination-log", TERMINATION_LOG),
            ],
            "env": [*variables(ENVIRONMENT), *threads(own.limits), *keys(target.bucket)],
            "volumeMounts": [mount.mount() for mount in seen],
        },
    )


def within(path: Path) -> str:
    """A path of the workspace, as it is called there."""
    return path.relative_to(volumes.WORKSPACE).as_posix()
