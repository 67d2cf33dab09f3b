"""What the user sees while a job runs: a bar per stage on a terminal, a line now and then anywhere else.

`local` tells a View what happens; which of the two it is, is decided once, in `view`.
"""

import time
from datetime import UTC, datetime
from typing import Protocol

from finetune_operator.finetunejob.stages import STAGES
from finetune_trainer.contract.results import Progress as StageProgress
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from finetune_cli.words import clock, detail

# Without a terminal, progress is told this often, in seconds.
LINE_SECONDS = 15.0
_WIDTH = max(len(stage.name) for stage in STAGES)


class View(Protocol):
    """The stages of a run, one at a time."""

    def begin(self, stage: str, activity: str) -> None:
        """A stage starts."""

    def update(self, progress: StageProgress) -> None:
        """The running stage has come so far."""

    def end(self, sentence: str) -> None:
        """The running stage is complete."""

    def say(self, sentence: str) -> None:
        """Something worth a line."""

    def close(self) -> None:
        """Nothing runs any more, or nothing that has a progress; what was shown stays."""


def view(console: Console) -> View:
    """The view that suits where the output goes."""
    return Bars(console) if console.is_terminal else Lines(console)


class Bars:
    """A bar per stage, redrawn in place."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            SpinnerColumn(finished_text="[green]✔[/]"),
            TextColumn("[bold]{task.fields[stage]}"),
            BarColumn(bar_width=24),
            TimeElapsedColumn(),
            TextColumn("{task.description}", markup=False),
            console=console,
        )
        self._task = TaskID(0)

    def begin(self, stage: str, activity: str) -> None:
        """A stage starts."""
        self._progress.start()
        self._task = self._progress.add_task(activity, total=None, stage=stage.ljust(_WIDTH))

    def update(self, progress: StageProgress) -> None:
        """It has come so far."""
        self._progress.update(
            self._task,
            description=detail(progress, datetime.now(UTC)),
            completed=progress.step,
            total=progress.total_steps or None,
        )

    def end(self, sentence: str) -> None:
        """It is complete."""
        self._progress.update(self._task, description=sentence, total=1, completed=1)

    def say(self, sentence: str) -> None:
        """A line of its own."""
        self._progress.console.print(sentence, markup=False, highlight=False)

    def close(self) -> None:
        """Nothing runs any more."""
        self._progress.stop()


class Lines:
    """Plain lines, for logs: one when a stage starts and ends, and one every LINE_SECONDS between."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._stage = ""
        self._began = self._told = time.monotonic()

    def begin(self, stage: str, activity: str) -> None:
        """A stage starts."""
        self._stage = stage
        self._began = self._told = time.monotonic()
        self.say(f"{stage}: {activity}")

    def update(self, progress: StageProgress) -> None:
        """It has come so far."""
        if time.monotonic() - self._told >= LINE_SECONDS:
            self._told = time.monotonic()
            self.say(f"{self._stage}: {detail(progress, datetime.now(UTC))}")

    def end(self, sentence: str) -> None:
        """It is complete."""
        self.say(f"{self._stage}: {sentence} ({clock(time.monotonic() - self._began)})")

    def say(self, sentence: str) -> None:
        """A line of its own."""
        self._console.print(sentence, markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Nothing runs any more."""
        return
