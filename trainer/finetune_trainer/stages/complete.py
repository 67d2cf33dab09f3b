"""Whether a stage is complete already: asked by `__main__` before the stage's libraries are loaded.

So a stage that is run again, by a Job made anew or by a user who wants the result served, ends within a second.
"""

import json
from collections.abc import Sequence

from finetune_trainer.contract import curve
from finetune_trainer.contract.config import METRICS_FILE, OnSensitive, RunConfig, Workspace
from finetune_trainer.contract.results import MergeResult, PrepareResult, TrainResult
from finetune_trainer.stages.frame import ended, fits


def result(
    stage: str,
    config: RunConfig,
    workspace: Workspace,
    on_sensitive: OnSensitive = OnSensitive.WARN,
    formats: Sequence[str] = (),
) -> PrepareResult | TrainResult | MergeResult | None:
    """What the stage left when it was completed for this revision; None when it has to run.

    `on_sensitive`, `formats`: what prepare is told; it looks again when that has changed. evaluate is not asked here:
    it loads nothing that takes long.
    """
    if stage == "prepare":
        return _prepared(config, workspace, on_sensitive, formats)
    if stage == "merge":
        return _merged(workspace)
    return _trained(config, workspace) if stage == "train" else None


def _prepared(
    config: RunConfig, workspace: Workspace, on_sensitive: OnSensitive, formats: Sequence[str]
) -> PrepareResult | None:
    if not workspace.prepared.exists():
        return None
    done = PrepareResult.model_validate_json(workspace.prepared.read_bytes())
    if workspace.model.is_symlink() and not workspace.model.exists():
        # Somebody has made room where base models are kept for all.
        return None
    same = (done.revision, done.on_sensitive) == (config.revision, on_sensitive)
    return done if same and set(formats) <= set(done.formats) else None


def trained(workspace: Workspace) -> TrainResult:
    """What train left, with the curve that lies beside it where a termination message has room for both."""
    left = TrainResult.model_validate_json(workspace.trained.read_bytes())
    path = workspace.artifact / METRICS_FILE
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    whole = left.model_copy(update={"curve": curve.told(rows)})
    return whole if fits(ended(whole)) else left


def _trained(config: RunConfig, workspace: Workspace) -> TrainResult | None:
    if not workspace.trained.exists():
        return None
    # Of a run config that another version of this program wrote, only the revision is to be understood.
    made_for = json.loads(workspace.trained_with.read_bytes())["revision"]
    return trained(workspace) if made_for == config.revision else None


def _merged(workspace: Workspace) -> MergeResult | None:
    if not workspace.merged_with.exists():
        return None
    done = MergeResult.model_validate_json(workspace.merged_with.read_bytes())
    left = TrainResult.model_validate_json(workspace.trained.read_bytes())
    return done if done.artifact == left.artifact.digest else None
