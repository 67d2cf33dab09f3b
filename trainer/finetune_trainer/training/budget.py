"""What a training may take of its devices, and what it has taken over all of its tries.

`train` counts from the moment it begins, since devices are held while a model is loaded, too. What was taken is kept
beside the checkpoints, so that tries which failed count. `Follow` asks after each step whether another one would be too
much.
"""

import json
import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

from finetune_trainer.data.disk import write_whole
from finetune_trainer.training.machine import Machine

HOUR = 3600.0
# What a kill may lose of the count.
KEEP_SECONDS = 10.0


class BudgetMeter:
    """Seconds of devices: of each accelerator, or of each machine where there are none.

    `hours`: what may be taken; None where nobody says. `kept`: the file with what was taken.
    """

    def __init__(self, hours: float | None, found: Machine, kept: Path) -> None:
        self.limit = math.inf if hours is None else hours * HOUR
        self.accelerators = found.accelerators
        self.devices = found.accelerators or found.processes // found.local_processes
        self._kept = kept
        self._before = float(json.loads(kept.read_text())["seconds"]) if kept.exists() else 0.0
        self._began = self._step = self._written = time.monotonic()
        self._longest = 0.0
        self._first = os.environ.get("RANK", "0") == "0"

    @property
    def used(self) -> float:
        """Seconds taken by now, over all tries and devices."""
        return self._before + (time.monotonic() - self._began) * self.devices

    @property
    def accelerator_seconds(self) -> float:
        """The same of accelerators; zero where there are none."""
        return self.used if self.accelerators else 0.0

    def ends(self, now: datetime, eta: datetime | None) -> datetime | None:
        """When training will end that would be done at `eta`: then, or when it has used up what it may take."""
        left = max(0.0, self.limit - self.used) / self.devices
        return eta if eta is None or left >= (eta - now).total_seconds() else now + timedelta(seconds=left)

    def begin(self) -> None:
        """A step begins."""
        self._step = time.monotonic()

    def spent(self) -> bool:
        """After a step: whether another one as long as the longest so far would be too much."""
        now = time.monotonic()
        self._longest = max(self._longest, now - self._step)
        if now - self._written >= KEEP_SECONDS:
            self._keep()
        return self.used + self._longest * self.devices > self.limit

    @contextmanager
    def counted(self) -> Iterator[None]:
        """While the block trains: however it ends early, the next try knows what it has taken."""
        try:
            yield
        except BaseException:
            self._keep()
            raise

    def ended(self, step: int, steps: int) -> str:
        """What is told of a training that it has ended."""
        return (
            f"training.budget is used up: of {self.limit / HOUR:.4g} hours {self.used / HOUR:.4g} were taken when "
            f"training ended, at step {step} of {steps}."
        )

    def _keep(self) -> None:
        if self._first:
            write_whole(self._kept, json.dumps({"seconds": self.used}))
            self._written = time.monotonic()
