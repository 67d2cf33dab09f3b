"""`finetune run` beside whoever asks for it: what the web page and the OpenAI API of a laptop start, and outlives them.

Its manifest is NAME.yaml in the directory, its output `.finetune/NAME/run.log`.
"""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from anyio import sleep
from anyio.to_thread import run_sync
from finetune_operator.finetunejob.stages import STAGES
from finetune_operator.finetunejob.stages.job import JobStage

from finetune_cli.errors import UserError
from finetune_cli.store import ROOT, Store

# Between two looks at what a run has written.
LOOK_SECONDS = 0.25
# What a run needs to write its first status.
START_SECONDS = 60.0
# A stage is killed where it takes longer than its grace to keep a checkpoint; engines end after it, in half a minute.
STOP_SECONDS = 60.0 + max(stage.grace_seconds for stage in STAGES if isinstance(stage, JobStage))
# For a run that has not begun there is nothing to keep.
_KILL_SECONDS = 10.0
_PROGRAM = (sys.executable, "-c", "from finetune_cli.main import main; main()")
_LOG = "run.log"


class NotBegun(Exception):
    """A run that ended before it had a status, or had none in time. `said`: what it wrote; `why`: the error of that."""

    def __init__(self, said: str) -> None:
        super().__init__(said)
        self.said, self.why = said, said.rpartition("error: ")[2]


@dataclass(frozen=True)
class Background:
    """The runs of a directory. `program`: the command line up to `run`. The seconds: how long one waits at most."""

    directory: Path
    program: tuple[str, ...] = _PROGRAM
    start_seconds: float = START_SECONDS
    stop_seconds: float = STOP_SECONDS
    _started: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)

    def manifest(self, name: str) -> Path:
        """Where its manifest lies, if it is one of those that lie here."""
        return self.directory / f"{name}.yaml"

    async def create(self, name: str, text: str) -> None:
        """Write the manifest and run it. Raises FileExistsError; NotBegun, and OSError, with nothing left of it."""
        path = self.manifest(name)
        await run_sync(partial(path.touch, exist_ok=False))
        try:
            await run_sync(path.write_text, text, "utf-8")
            await self.run(name)
        except (NotBegun, OSError):
            await run_sync(path.unlink)
            raise

    async def run(self, name: str) -> None:
        """Run it, and wait for the first status that it writes. Raises NotBegun."""
        store = self._store(name)
        if busy := await run_sync(store.busy):
            raise NotBegun(busy)
        before = _written(store)
        started = await run_sync(self._start, store)

        def begun() -> bool:
            # Somebody else's run of it would write the same file.
            return _written(store) != before and store.holder() == started.pid

        ended = await _until(lambda: begun() or started.poll() is not None, self.start_seconds)
        if await run_sync(begun):
            return
        await run_sync(_end, started)
        said = (await run_sync((store.directory / _LOG).read_text, "utf-8", "replace")).strip()
        if ended:
            raise NotBegun(said or "`finetune run` ended without a word.")
        raise NotBegun(
            f"`finetune run {name}.yaml` had not begun after {self.start_seconds:g} s, and was ended: try again when "
            f"this machine has less to do. It had said {said or 'nothing'}"
        )

    async def stop(self, name: str) -> None:
        """Ask the run that is under way, if there is one, to end, and wait until it has, as long as a checkpoint takes.

        Raises UserError where it can't be asked, or goes on.
        """
        store = self._store(name)
        if not await run_sync(lambda: store.running):
            return
        await run_sync(store.stop)
        if not await _until(lambda: not store.running, self.stop_seconds):
            raise UserError(
                f"The run of {name} was asked to end and has not within {self.stop_seconds:g} s: to ask once more "
                "kills what it waits for."
            )

    def _store(self, name: str) -> Store:
        # A child that was killed keeps its number until it is looked after, and would pass for one that runs.
        if started := self._started.get(name):
            started.poll()
        return Store(name, self.directory / ROOT)

    def _start(self, store: Store) -> "subprocess.Popen[bytes]":
        log = store.directory / _LOG
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as file:
            self._started[store.name] = subprocess.Popen(  # noqa: S603  (this program, and a name that the schema allows)
                [*self.program, "run", f"{store.name}.yaml"],
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        return self._started[store.name]


async def _until(holds: Callable[[], bool], seconds: float) -> bool:
    """Whether it comes to hold within that time."""
    waited = 0.0
    while not await run_sync(holds):
        if waited > seconds:
            return False
        await sleep(LOOK_SECONDS)
        waited += LOOK_SECONDS
    return True


def _written(store: Store) -> int | None:
    """When its status document was written last."""
    try:
        return store.status_file.stat().st_mtime_ns
    except FileNotFoundError:
        return None


def _end(started: "subprocess.Popen[bytes]") -> None:
    """End what has not begun, if it hasn't by itself."""
    started.terminate()
    try:
        started.wait(_KILL_SECONDS)
    except subprocess.TimeoutExpired:
        started.kill()
        started.wait()
