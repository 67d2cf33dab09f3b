"""The files of a sweep's trials: how each ended, which is the best so far, and how that becomes the artifact.

Called by `stages.sweep`, in as many processes as there are pods, on one volume. Each trial has a directory of its own
(`Workspace.trial`). `ended.json` in it, written once, says what the trial came to; weights that a better trial has
outdone are removed. Whoever finds all trials ended takes the best: each step of that can be done again, and by two at
once. No torch.
"""

import math
import shutil

from finetune_trainer.contract.config import METRICS_FILE, RunConfig, Workspace
from finetune_trainer.contract.outcome import Outcome
from finetune_trainer.contract.results import STOPPED, TrainResult, Trial, Usage
from finetune_trainer.contract.sweep import trials
from finetune_trainer.data.disk import fsync, write_whole

ENDED = "ended.json"
# Of a failed trial's message, in the table of all: that has to fit a termination message. ended.json has the whole.
SHOWN = 100


def ended(workspace: Workspace, number: int) -> Trial | None:
    """What a trial came to; None while it has not ended."""
    path = workspace.trial(number).root / ENDED
    return Trial.model_validate_json(path.read_bytes()) if path.exists() else None


def all_ended(workspace: Workspace, count: int) -> dict[int, Trial]:
    """Those of `count` trials that have ended, by number."""
    return {number: trial for number in range(1, count + 1) if (trial := ended(workspace, number))}


def end(workspace: Workspace, number: int, trial: Trial, count: int) -> None:
    """Say what a trial of `count` came to, and remove the weights of those that are not the best any more."""
    write_whole(workspace.trial(number).root / ENDED, trial.model_dump_json(by_alias=True, indent=2) + "\n")
    found = all_ended(workspace, count)
    for other in found.keys() - {best(found)}:
        if found[other].usage:
            _remove_weights(workspace.trial(other))


def forget(workspace: Workspace, number: int) -> None:
    """A trial that failed is tried again, from its last checkpoint."""
    (workspace.trial(number).root / ENDED).unlink(missing_ok=True)


def succeeded(config: RunConfig, number: int, result: TrainResult) -> Trial:
    """A trial that made an artifact: its loss is that of the weights in it."""
    loss = result.checkpoints[0].validation_loss if result.checkpoints else result.validation_loss
    return Trial(
        number=number,
        parameters=trials(config.training)[number - 1],
        outcome=STOPPED if result.stopped else Outcome.SUCCEEDED.exit.reason,
        validation_loss=loss,
        usage=result.usage,
    )


def best(found: dict[int, Trial]) -> int | None:
    """The number of the one with the lowest loss, and of equal ones the first; None where none made an artifact.

    So of two that have ended one always outdoes the other, whoever asks, and the best of all is outdone by none.
    """
    made = (number for number, trial in found.items() if trial.usage)
    return min(made, key=lambda number: (_loss(found[number]), number), default=None)


def take(workspace: Workspace, found: dict[int, Trial], taken: int) -> TrainResult:
    """Make a trial's artifact the revision's, and remove what the others take room for."""
    for other in found.keys() - {taken}:
        _remove_weights(workspace.trial(other))
        shutil.rmtree(workspace.trial(other).checkpoints, ignore_errors=True)
    trial = workspace.trial(taken)
    try:
        result = TrainResult.model_validate_json(trial.trained.read_bytes())
        told = result.model_copy(update={"usage": _together(found), "trials": table(found, taken)})
        # Beside the artifact, whose digest covers all that lies in it.
        draft = trial.root / trial.trained.name
        write_whole(draft, told.model_dump_json(by_alias=True, indent=2) + "\n")
        draft.replace(trial.trained)
        if trial.kept.exists():
            trial.kept.rename(workspace.kept)
        trial.artifact.rename(workspace.artifact)
        fsync(workspace.root)
    except FileNotFoundError:
        if not workspace.trained.exists():
            raise
        # Another pod has just done the same.
    return TrainResult.model_validate_json(workspace.trained.read_bytes())


def table(found: dict[int, Trial], taken: int | None = None) -> tuple[Trial, ...]:
    """The trials, as short as they are told of."""
    return tuple(
        found[number].model_copy(update={"taken": number == taken, "message": _short(found[number].message)})
        for number in sorted(found)
    )


def _loss(trial: Trial) -> float:
    return math.inf if trial.validation_loss is None else trial.validation_loss


def _short(message: str) -> str:
    return message if len(message) <= SHOWN else f"{message[: SHOWN - 1]}…"


def _together(found: dict[int, Trial]) -> Usage:
    """What all of them took that made an artifact."""
    each = [trial.usage for trial in found.values() if trial.usage]
    return Usage(
        trained_tokens=sum(usage.trained_tokens for usage in each),
        seconds=sum(usage.seconds for usage in each),
        accelerator_seconds=sum(usage.accelerator_seconds for usage in each),
    )


def _remove_weights(trial: Workspace) -> None:
    """A trial was outdone. Its curve stays."""
    curve = trial.artifact / METRICS_FILE
    if curve.exists():
        curve.replace(trial.root / METRICS_FILE)
    for weights in (trial.artifact, trial.kept):
        shutil.rmtree(weights, ignore_errors=True)
