"""merge: the adapter becomes a part of a copy of its base model in the workspace, complete or not at all.

Called by the program's `merge` command, for an engine that serves the whole model (hosting.adapter: merged). What it
came to is written last, so that a run that was killed begins again, and one that is repeated ends at once (`complete`).
"""

import shutil
from pathlib import Path

from finetune_trainer.contract.config import RunConfig, Workspace
from finetune_trainer.contract.outcome import DISK_FULL, Outcome, StageError
from finetune_trainer.contract.results import MergeResult, TrainResult
from finetune_trainer.data import base, digests
from finetune_trainer.data.disk import install, write_whole
from finetune_trainer.server import Reporter
from finetune_trainer.training import whole

_MORE_ROOM = "raise workspace.size, or remove hosting.adapter"


def merge(config: RunConfig, workspace: Workspace, reporter: Reporter) -> MergeResult:
    """Leave the whole model in the workspace, unless it answers otherwise than the adapter. Raises StageError."""
    artifact = TrainResult.model_validate_json(workspace.trained.read_bytes()).artifact.digest
    reporter.update(activity="merging the adapter with its base model")
    draft = workspace.merged.with_suffix(".part")
    _clear(draft, workspace.merged)
    _check_room(config, workspace)
    try:
        result = _merged(config, workspace, draft, artifact)
        write_whole(workspace.merged_with, result.model_dump_json(by_alias=True, exclude_none=True, indent=2) + "\n")
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        # Half a model would keep the volume full for whatever else has its files there.
        _clear(draft, workspace.merged)
        raise StageError(
            Outcome.WORKSPACE_FULL,
            f"The workspace volume at {workspace.root} became full while the adapter was merged with its base model: "
            f"{_MORE_ROOM}.",
        ) from error
    return result


def _clear(*left: Path) -> None:
    for path in left:
        shutil.rmtree(path, ignore_errors=True)


def _merged(config: RunConfig, workspace: Workspace, draft: Path, artifact: str) -> MergeResult:
    try:
        whole.make(config, workspace, draft)
        install(draft, workspace.merged)
        size = sum(path.stat().st_size for path in digests.files(workspace.merged))
        return MergeResult(artifact=artifact, bytes=size)
    except whole.Unmergeable as error:
        shutil.rmtree(draft)
        message = f"{error} Remove hosting.adapter; the adapter is served beside its base model."
        raise StageError(Outcome.CONFIG_INVALID, message) from error
    except whole.Apart as error:
        shutil.rmtree(draft)
        return MergeResult(artifact=artifact, apart=str(error))


def _check_room(config: RunConfig, workspace: Workspace) -> None:
    """A volume that is filled up to its end would be told without saying how much is missing."""
    taken = sum(path.stat().st_size for path in base.weights(workspace.base_model(config)))
    free = shutil.disk_usage(workspace.root).free
    if free < taken:
        raise StageError(
            Outcome.WORKSPACE_FULL,
            f"The merged model takes {taken / 1e9:.2f} GB on the workspace volume, which has {free / 1e9:.2f} GB left: "
            f"{_MORE_ROOM}.",
        )
