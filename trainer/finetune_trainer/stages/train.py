"""train: rows and a base model become an adapter, or a whole model.

Called by the program's `train` command, in one process or, for several devices, in each of torchrun's. Everything it
reads lies in the workspace: no network, no credential. Killed at any moment, the next run goes on from the last
checkpoint and ends with the same weights.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from finetune_trainer.contract.config import RunConfig, Workspace
from finetune_trainer.contract.outcome import Outcome, StageError
from finetune_trainer.contract.results import PrepareResult, TrainResult, Usage
from finetune_trainer.server import Reporter
from finetune_trainer.stages import complete
from finetune_trainer.training import failures, fitting, machine, memory, rows
from finetune_trainer.training.artifact import Publication, metrics
from finetune_trainer.training.budget import BudgetMeter
from finetune_trainer.training.build import Beside, Task, Work
from finetune_trainer.training.fitting import Fitting
from finetune_trainer.training.flat_trainer import FlatTrainer
from finetune_trainer.training.follow import Follow, diverged, interrupted, stop_request
from finetune_trainer.training.track import Track
from finetune_trainer.training.trackers import End
from finetune_trainer.training.weights import Write

NOTHING = Beside()


def train(config: RunConfig, workspace: Workspace, reporter: Reporter, beside: Beside = NOTHING) -> TrainResult:
    """Train what `config` asks for, as prepare planned it, and publish the artifact.

    Raises StageError; SIGTERM and SIGINT make it INTERRUPTED, with a checkpoint of the step that was under way.
    """
    prepared = PrepareResult.model_validate_json(workspace.prepared.read_text())
    found, splits = machine.look(workspace.precision), rows.load(workspace)
    budget = BudgetMeter(beside.budget, found, workspace.spent)
    planned = fitting.training(config, workspace, prepared.plan, splits, found)
    fitted = Fitting(config, workspace, memory.divided(planned, beside.sharding))
    attempt = fitted.begin()
    reporter.update(notice=attempt.notice)
    with stop_request() as stop, _explained(workspace), budget.counted():
        sharded = fitted.training.sharded
        task = Task(config, workspace, prepared, splits, found, attempt, sharded, budget, beside, reporter, stop)
        with fitted.told(attempt):
            work = task.build()
            with _told_of_end(work.track):
                _run(work.trainer, work.follow)
        write = work.writer()
        if work.trainer.is_world_process_zero():
            _publish(work, task, write)
        work.trainer.accelerator.wait_for_everyone()
    return complete.trained(workspace)


def _run(trainer: FlatTrainer, follow: Follow) -> None:
    """Train to the last step, from the last checkpoint when there is one."""
    follow.stop.check()
    checkpoint = follow.checkpoints.latest()
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    if trainer.state.global_step < trainer.state.max_steps and not (follow.outdone or follow.spent):
        # Whichever process was asked: what ends early is no model yet.
        raise (
            interrupted() if follow.stop.made or not machine.has_peers() else failures.peer_lost("it was asked to stop")
        )
    if not all(bool(weights.isfinite().all()) for weights in trainer.model.parameters() if weights.requires_grad):
        raise diverged(trainer.state.global_step, float("nan"), follow.learning_rate)


@contextmanager
def _told_of_end(track: Track | None) -> Iterator[None]:
    """A training that ended for good is not left as one that runs, whatever ended it."""
    try:
        yield
    except StageError as error:
        if track:
            track.ended(End.PAUSED if error.outcome == Outcome.INTERRUPTED else End.FAILED)
        raise
    if track:
        track.ended(End.DONE)


def _publish(work: Work, task: Task, write: Write) -> None:
    """Publish, then give back the room that checkpoints took."""
    trainer, follow = work.trainer, work.follow
    follow.reporter.update(activity="writing the artifact")
    usage = Usage(
        trained_tokens=trainer.state.num_input_tokens_seen,
        seconds=follow.seconds,
        accelerator_seconds=task.budget.accelerator_seconds,
    )
    publication = Publication(
        trainer.accelerator.unwrap_model(trainer.model),
        trainer.processing_class,
        task.config,
        task.workspace,
        task.prepared,
        task.machine,
        work.stored,
        usage,
        metrics(trainer.state.log_history, follow.steps_per_epoch),
        write,
        trainer.state.global_step,
        work.track and work.track.tracked,
        task.attempt.notice,
        follow.outdone,
        task.budget.ended(trainer.state.global_step, trainer.state.max_steps) if follow.spent else "",
    )
    publication.publish(follow.validation.candidates.ranked() if follow.validation else ())
    shutil.rmtree(task.workspace.checkpoints)


@contextmanager
def _explained(workspace: Workspace) -> Iterator[None]:
    """Turn the errors of the libraries' writers that a user can mend into StageErrors."""
    try:
        yield
    except StageError:
        raise
    except Exception as error:
        if machine.lost_peer(error):
            raise failures.peer_lost(str(error).strip().splitlines()[-1]) from error
        # Libraries' writers have no kind of error in common: that of tokenizers raises a bare one.
        if not failures.is_full(error, workspace.root):
            raise
        raise failures.workspace_full(workspace.root, shutil.disk_usage(workspace.root).total) from error
