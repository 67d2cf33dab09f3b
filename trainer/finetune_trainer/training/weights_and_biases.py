"""A run at Weights & Biases, or at a server of it of one's own, through its library, an extra. Used by `trackers`.

The library hands what it is given to a process of its own, which sends it later and tries again while a server is
away: no step waits for it, but for some 10 s where a run is begun, which is tried again each minute. What it writes
goes to a directory of this process. It sends metrics, the run's settings, and which libraries it knows are imported,
with its own version, Python's and the system's; what else it would look up (code, git, the machine and its load, the
console, installed packages) is switched off.
"""

import json
import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from finetune_trainer.contract.config import TRACKING_KEYS, TrackerType, TrackingConfig
from finetune_trainer.training.trackers import End, Point, Run, Unreachable

CLOUD = "https://api.wandb.ai"
# How long a server is waited for, in seconds: when the run is made, which is tried again, and for the rest at the end.
BEGIN_SECONDS, END_SECONDS = 10.0, 30.0
# Nothing but metrics and settings leaves the machine.
_UNTOLD = {
    "console": "off",
    "disable_code": True,
    "disable_git": True,
    "disable_job_creation": True,
    "host": "",
    "ignore_globs": ["*"],
    "program": "",
    "save_code": False,
    "x_disable_machine_info": True,
    "x_disable_meta": True,
    "x_disable_stats": True,
    "x_save_requirements": False,
}
# In the log of the library's process, where alone it says that it has given up: a refused key, mostly.
_GIVEN_UP = "filestream: fatal error: "


class WeightsAndBiases:
    """A run, found by its id."""

    def __init__(self, tracking: TrackingConfig, run: Run) -> None:
        # Reports of its own faults go to its makers.
        os.environ["WANDB_ERROR_REPORTING"] = "false"
        import wandb
        from wandb.sdk.mailbox import HandleAbandonedError, MailboxClosedError
        from wandb.sdk.mailbox.mailbox_handle import ServerResponseError

        # It tells the log of each setting and failure; ours has a sentence.
        logging.getLogger("wandb").propagate = False

        self.url: str | None = None
        self._wandb, self._tracking, self._run = wandb, tracking, run
        self._server = (tracking.url or CLOUD).rstrip("/")
        # An address that is none is a ValueError; the others are what becomes of a process that is gone.
        gone = (HandleAbandonedError, MailboxClosedError, ServerResponseError)
        self._errors = (wandb.Error, OSError, ValueError, *gone)
        self._place = TemporaryDirectory(prefix="wandb-", ignore_cleanup_errors=True)
        self._opened: Any = None
        self._tried = False
        self._held: list[Point] = []

    def open(self, metrics: Iterable[str]) -> dict[str, int]:
        """Have the run, whose last step is that of all its metrics."""
        if self._tried:
            # What is left of the last time holds the run. Its process may be gone; where that ended in another way than
            # it was asked to, the library would end this one, too.
            with suppress(*self._errors, SystemExit):
                self._wandb.teardown(exit_code=1)
        self._tried, self._held = True, []
        with self._explained():
            last = self._begin()
        return dict.fromkeys(metrics, last)

    def send(self, points: list[Point]) -> None:
        """A step's metrics together. The last step is held back: a run that goes on may validate it once more, and
        nothing can be added to one that is there. Raises what was found out since the last time.
        """
        known = [*self._held, *points]
        last = max((point.step for point in known), default=0)
        self._held = [point for point in known if point.step == last]
        with self._explained():
            self._log([point for point in known if point.step < last])
            self._look()

    def close(self, end: End) -> None:
        """Wait until all is there, and say how it ended."""
        with self._place, self._explained():
            if end == End.PAUSED:
                self._opened.mark_preempting()
            else:
                self._log(self._held)
            self._opened.finish(exit_code=0 if end == End.DONE else 1)
            self._look()

    def _begin(self) -> int:
        wandb, run = self._wandb, self._run
        # Of the whole library: what it says on the console goes into its log.
        wandb.setup(wandb.Settings(silent=True))
        settings = wandb.Settings(
            mode="online",
            base_url=self._server,
            api_key=_key(),
            root_dir=self._place.name,
            reinit="create_new",
            init_timeout=BEGIN_SECONDS,
            finish_timeout=END_SECONDS,
            finish_timeout_raises=True,
            silent=True,
            **_UNTOLD,
        )
        self._opened = wandb.init(
            id=run.id,
            resume="allow",
            entity=self._tracking.entity,
            project=self._tracking.project or "Default",
            group=run.tags["finetune.dev/job"],
            name=run.name,
            tags=self._tracking.tags or None,
            config={**run.tags, **{name: _typed(name, value) for name, value in run.parameters.items()}},
            settings=settings,
        )
        self.url = self._opened.url
        # Of a run that is there, the one after its last.
        return max(int(self._opened.starting_step) - 1, 0)

    def _log(self, points: list[Point]) -> None:
        for step, some in groupby(sorted(points, key=attrgetter("step")), key=attrgetter("step")):
            self._opened.log({point.metric: point.value for point in some}, step=step)

    def _look(self) -> None:
        """Raises Unreachable where the library's process has given up, which it tells nobody."""
        for line in Path(self._opened.settings.log_internal).read_text(errors="replace").splitlines():
            if _GIVEN_UP in line:
                with suppress(ValueError):
                    raise self._unreachable(json.loads(line)["msg"].removeprefix(_GIVEN_UP))

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except self._errors as error:
            raise self._unreachable(str(error) or "its library's process has ended") from error

    def _unreachable(self, why: str) -> Unreachable:
        said = (why.splitlines() or [""])[0][:200]
        return Unreachable(f"Weights & Biases at {self._server} did not take the metrics ({said})")


def _key() -> str | None:
    """None on a laptop where `wandb login` has left one."""
    # Files end with a line's end, and so do the Secrets that are made of them.
    (name,) = TRACKING_KEYS[TrackerType.WANDB]
    return (os.environ.get(f"FINETUNE_TRACKING_{name}") or os.environ.get(name) or "").strip() or None


def _typed(name: str, value: str) -> Any:
    """A hyperparameter that is a number as one, which pages sort and draw by; a revision of digits is none."""
    if name.startswith(("training.", "plan.")):
        with suppress(ValueError):
            return json.loads(value)
    return value
