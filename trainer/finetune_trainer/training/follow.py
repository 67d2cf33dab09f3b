"""What happens beside the steps: progress, checkpoints by the clock, a request to stop, a loss gone wrong.

A callback of the library's training loop, made by `build`. Every process of a distributed run has one; the first alone
reports and keeps checkpoints, and what they do together they decide together.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME

from finetune_trainer import signals
from finetune_trainer.contract import curve
from finetune_trainer.contract.outcome import Outcome, StageError
from finetune_trainer.server import Reporter
from finetune_trainer.training import schedule
from finetune_trainer.training.artifact import metrics
from finetune_trainer.training.budget import BudgetMeter
from finetune_trainer.training.candidates import Candidates
from finetune_trainer.training.checkpoints import Checkpoints
from finetune_trainer.training.rivals import Rivals
from finetune_trainer.training.weights import Write

# A kill costs at most so many seconds of work, or, where saving is slow, twenty times what saving takes.
SAVE_SECONDS = 60.0
SAVE_SHARE = 0.05


class StopRequest:
    """Whether somebody asked this process to end."""

    def __init__(self) -> None:
        self.made = False

    def check(self) -> None:
        """Raise StageError (INTERRUPTED) when the request was made."""
        if self.made:
            raise interrupted()

    def _make(self, number: int, frame: FrameType | None) -> None:
        self.made = True


@contextmanager
def stop_request() -> Iterator[StopRequest]:
    """Listen for SIGTERM and SIGINT."""
    request = StopRequest()
    with signals.handled(request._make):
        yield request


@dataclass(frozen=True)
class Validation:
    """After how many steps the validation rows are looked at, and what is kept by that.

    `writer` makes what writes the weights; every process has a part in it. `rivals`: of a trial of a sweep, the others,
    which may end it early.
    """

    every: int
    candidates: Candidates
    writer: Callable[[], Write]
    rivals: Rivals | None = None


@dataclass
class Clock:
    """Time and tokens since some event."""

    seconds: float
    tokens: int = 0
    step: int = 0


class Follow(TrainerCallback):  # type: ignore[misc]  # the library comes without types
    """The callback. `seconds_before`: training time of the runs that this one resumes."""

    def __init__(
        self,
        reporter: Reporter,
        checkpoints: Checkpoints,
        stop: StopRequest,
        learning_rate: float,
        validation: Validation | None,
        seconds_before: float = 0.0,
    ) -> None:
        self.reporter = reporter
        self.checkpoints = checkpoints
        self.stop = stop
        self.learning_rate = learning_rate
        self.validation = validation
        self.seconds_before = seconds_before
        self.outdone = False
        self.steps_per_epoch = math.inf
        self.budget: BudgetMeter | None = None
        # Whether it was used up before the last step.
        self.spent = False
        self.began = Clock(time.monotonic())
        self.logged = self.began
        self.saved = self.saving = time.monotonic()
        self.save_seconds = 0.0

    @property
    def seconds(self) -> float:
        """Training time so far, over all runs."""
        return self.seconds_before + time.monotonic() - self.began.seconds

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start the clocks: loading and tokenizing are no training."""
        self.began = Clock(time.monotonic(), state.num_input_tokens_seen, state.global_step)
        self.logged = self.began
        self.saved = self.began.seconds
        self.reporter.update(activity="training", step=state.global_step, total_steps=state.max_steps)
        self._tell_curve(state)

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """What lies between two steps, saving and validating, is no measure of the next one."""
        if self.budget:
            self.budget.begin()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Report this step, and decide what follows it."""
        self._report(state)
        last = state.global_step >= state.max_steps
        interval = max(SAVE_SECONDS, self.save_seconds / SAVE_SHARE)
        spent = self.budget is not None and self.budget.spent()
        stop, save, spent = anywhere(args, self.stop.made, time.monotonic() - self.saved >= interval, spent)
        self.spent = spent and not (stop or last)
        last = last or self.spent
        if self.validation is not None:
            # What the last step comes to is part of the result; any other validation is made up for by the next run.
            control.should_evaluate = last or (not stop and state.global_step % self.validation.every == 0)
        control.should_training_stop = stop or last or self.outdone
        # The library would train one step too many from a checkpoint of the last one.
        control.should_save = (save or stop) and not last
        self.saving = time.monotonic()

    def _report(self, state: TrainerState) -> None:
        done = state.global_step - self.began.step
        now, taken = datetime.now(UTC), time.monotonic() - self.began.seconds
        eta = schedule.expected_end(now, taken, done, state.max_steps - state.global_step)
        if self.budget:
            eta = self.budget.ends(now, eta)
        self.reporter.update(step=state.global_step, epoch=state.global_step / self.steps_per_epoch, eta=eta)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Report the loss, and stop at one that no step can mend."""
        if not logs:
            return
        self._tell_curve(state)
        if "eval_loss" in logs:
            self.reporter.update(validation_loss=logs["eval_loss"])
        if "eval_rewards/accuracies" in logs:
            self.reporter.update(validation_reward_accuracy=logs["eval_rewards/accuracies"])
        if "loss" not in logs:
            return
        loss = logs["loss"]
        if not (math.isfinite(loss) and math.isfinite(logs.get("grad_norm", 0.0))):
            raise diverged(state.global_step, loss, self.learning_rate)
        now = Clock(time.monotonic(), state.num_input_tokens_seen)
        rate = (now.tokens - self.logged.tokens) / (now.seconds - self.logged.seconds)
        self.logged = now
        self.reporter.update(loss=loss, tokens_per_second=rate)

    def _tell_curve(self, state: TrainerState) -> None:
        self.reporter.update(curve=curve.told(metrics(state.log_history, self.steps_per_epoch)))

    def on_prediction_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """A long validation is no reason to overstay; the processes of a distributed one must end it together."""
        if args.world_size == 1:
            self.stop.check()

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float],
        **kwargs: Any,
    ) -> None:
        """Keep the weights that were validated, if they are among the best; end where others outdo them."""
        if self.validation is None:
            return
        step, loss, rivals = state.global_step, metrics["eval_loss"], self.validation.rivals
        write = self.validation.writer()
        if state.is_world_process_zero:
            self.validation.candidates.offer(step, loss, write)
        if rivals is not None:
            (self.outdone,) = anywhere(args, state.is_world_process_zero and rivals.outdo(step, state.max_steps, loss))
            control.should_training_stop = control.should_training_stop or self.outdone

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Keep what the library has just written, once every process has written its part."""
        if args.world_size > 1:
            torch.distributed.barrier()
        if state.is_world_process_zero:
            self.checkpoints.keep(state.global_step, self.seconds)
        self.saved = time.monotonic()
        self.save_seconds = self.saved - self.saving


def owes_validation(checkpoint: Path | None, validation: Validation | None) -> bool:
    """Whether the step of a checkpoint was to be validated and was not, since training was asked to stop there."""
    if checkpoint is None or validation is None:
        return False
    state = TrainerState.load_from_json(str(checkpoint / TRAINER_STATE_NAME))
    done = any("eval_loss" in entry for entry in state.log_history if entry["step"] == state.global_step)
    return state.global_step % validation.every == 0 and not done


def interrupted() -> StageError:
    """What a stop before the last step means to the user."""
    return StageError(Outcome.INTERRUPTED, "Training was asked to stop; the next run goes on from the last checkpoint.")


def diverged(step: int, loss: float, learning_rate: float) -> StageError:
    """What a loss that is no number means to the user."""
    return StageError(
        Outcome.DIVERGED,
        f"The loss became {loss} at step {step}: the weights grew out of bounds. Lower training.learningRate "
        f"(it was {learning_rate:g}) or look for damaged rows.",
    )


def anywhere(args: TrainingArguments, *flags: bool) -> tuple[bool, ...]:
    """Each flag, true when it is so in any process."""
    if args.world_size == 1:
        return flags
    values = torch.tensor(flags, dtype=torch.int32, device=args.device)
    torch.distributed.all_reduce(values, torch.distributed.ReduceOp.MAX)
    return tuple(bool(value) for value in values.tolist())
