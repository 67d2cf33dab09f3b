"""Watching a job until it is at its end: redrawn in place on a terminal, a line at each change anywhere else.

`finetune wait`, `apply` and `status --watch` call it, and the Python interface without a console.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime

from finetune_operator.conditions import Reason
from finetune_operator.finetunejob.stages import STAGES
from rich.console import Console
from rich.live import Live

from finetune_cli.errors import ExitCode, UserError
from finetune_cli.jobs import Conclusion, Job, Place, conclusion
from finetune_cli.progress import LINE_SECONDS
from finetune_cli.show import table
from finetune_cli.words import where, why

# A stage that waits has no log yet.
_SILENT = (Reason.WAITING, Reason.STARTING, Reason.RESTARTING, Reason.QUEUED)


class Lines:
    """Progress as lines: where and why at each change, and how far it is now and then."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._said: tuple[str, str] = ("", "")
        self._told = 0.0

    def show(self, job: Job) -> None:
        """Say what is new."""
        now = time.monotonic()
        said = (str(job.status.phase), why(job))
        if said == self._said and (job.status.progress is None or now - self._told < LINE_SECONDS):
            return
        line = where(job, datetime.now(UTC))
        told = f"{line}: {said[1]}" if said != self._said else line
        self._console.print(told, markup=False, highlight=False, soft_wrap=True)
        self._said, self._told = said, now


def wait(place: Place, name: str, seconds: float | None, console: Console | None) -> tuple[Job, Conclusion]:
    """Watch a job until nothing more happens by itself. UserError when `seconds` are over before that."""
    with _shown(console) as show, closing(place.watch(name, seconds)) as seen:
        for job in seen:
            show(job)
            if found := conclusion(job):
                return job, found
    job = place.job(name)
    told = f"It is {job.status.phase}: {why(job)}"
    raise UserError(f"{name} is not at its end after {seconds or 0:.0f} s, and goes on. {told}", ExitCode.TIMED_OUT)


@contextmanager
def _shown(console: Console | None) -> Iterator[Callable[[Job], None]]:
    if console is None:
        yield lambda job: None
    elif console.is_terminal:
        with Live(console=console, auto_refresh=False) as live:
            yield lambda job: live.update(table(job), refresh=True)
    else:
        yield Lines(console).show


def started(place: Place, job: Job, stage: str) -> Job:
    """The job once a stage has begun to write, or won't any more."""
    kind = next(each.condition for each in STAGES if each.name == stage)
    with closing(place.watch(job.name, None)) as states:
        for seen in states:
            found = seen.condition(kind)
            if conclusion(seen) or (found and found.reason not in _SILENT):
                return seen
    return job
