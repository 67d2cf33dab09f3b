"""Sends what metrics.jsonl will have to a tracker as training goes: a callback of the library's training loop.

Made by `build`, in the first process of several. Nothing is lost to a dashboard: one that does not answer is told all
of it when it does, and training goes on meanwhile. No step is sent twice, whatever interrupts.
"""

import logging
import math
import time
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from finetune_trainer.contract.config import TrackingConfig
from finetune_trainer.contract.redaction import redacted
from finetune_trainer.contract.results import Tracked
from finetune_trainer.server import Reporter
from finetune_trainer.training.artifact import METRICS, metrics
from finetune_trainer.training.trackers import End, Point, Tracker, Unreachable

# What came together is sent together; one that does not answer is left alone for a while, since training waits for it.
SEND_SECONDS, AGAIN_SECONDS = 10.0, 60.0

logger = logging.getLogger(__name__)


class Track(TrainerCallback):  # type: ignore[misc]  # the library comes without types
    """The callback."""

    def __init__(self, tracking: TrackingConfig, tracker: Tracker, reporter: Reporter) -> None:
        self.tracking, self.tracker, self.reporter = tracking, tracker, reporter
        self.steps_per_epoch = math.inf
        self.problem = ""
        self._sent: dict[str, int] | None = None
        self._next = -math.inf

    @property
    def tracked(self) -> Tracked:
        """Where the run is, and what of it did not get there."""
        return Tracked(type=self.tracking.type, url=self.tracker.url, problem=self.problem)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Make the run, or find it."""
        self._send(state)

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Send what there is, now and then."""
        if time.monotonic() >= self._next:
            self._send(state)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Send the rest."""
        self._send(state)

    def ended(self, end: End) -> None:
        """Tell how training ended, where all that came before is there."""
        if self._sent is None:
            return
        try:
            self.tracker.close(end)
        except Unreachable as error:
            self._unreachable(error)

    def _send(self, state: TrainerState) -> None:
        """Send what is not there yet."""
        rows = metrics(state.log_history, self.steps_per_epoch)
        points = [Point(name, int(row["step"]), value) for row in rows for name, value in row.items() if name != "step"]
        try:
            sent = self.tracker.open(("epoch", *METRICS.values())) if self._sent is None else self._sent
            # A run that goes on from a checkpoint comes by steps that are there already.
            new = [point for point in points if point.step > sent.get(point.metric, 0)]
            self.tracker.send(new)
        except Unreachable as error:
            self._unreachable(error)
            return
        self._sent = sent | {point.metric: point.step for point in new}
        self._next = time.monotonic() + SEND_SECONDS
        self.problem = ""
        self.reporter.update(tracking=self.tracker.url)

    def _unreachable(self, error: Unreachable) -> None:
        """Training goes on. What got there is asked for before anything is sent again."""
        self._sent, self._next = None, time.monotonic() + AGAIN_SECONDS
        # It quotes a library, which quotes what it was given.
        self.problem = redacted(f"{error}.")
        logger.warning("%s; training goes on without it.", error)
