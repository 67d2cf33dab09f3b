"""`finetune run` beside whoever asks for it: what the web page and the OpenAI API of a laptop start, and outlives them.

Its manifest is NAME.yaml in the directory, its output `.finetune/NAME/run.log`.
"""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from anyio import sleep
from anyio.to_thread import run_sync

from finetune_cli.store import ROOT, Store

# Between two looks at what a run has written.
LOOK_SECONDS = 0.25
# What a run needs to write its first status, and what a stage needs to keep a checkpoint.
START_SECONDS, STOP_SECONDS = 60.0, 60.0
_PROGRAM = (sys.executable, "-c", "from finetune_cli.main import main; main()")
_LOG = "run.log"


class NotBegun(Exception):
    """A run that ended before it had a status, or had none in time. `said`: what it wrote; `why`: the error of that."""

    def __init__(self, said: str) -> None:
        super().__init__(said)
        self.said, self.why = said, said.rpartition("error: ")[2]


@dataclass(frozen=True)
class Background:
    """The runs of a directory. `program`: the command line up to `run`."""

    directory: Path
    program: tuple[str, ...] = _PROGRAM
    _started: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)

    def manifest(self, name: str) -> Path:
        """Where its manifest lies, if it is one of those that lie here."""
        return self.directory / f"{name}.yaml"

    async def create(self, name: str, text: str) -> None:
        """Write the manifest and run it. Raises FileExistsError, and NotBegun with nothing left of it."""
        path = self.manifest(name)
        await run_sync(_write_new, path, text)
        try:
            await self.run(name)
        except NotBegun:
            await run_sync(path.unlink)
            raise

    async def run(self, name: str) -> None:
        """Run it, and wait for the first status that it writes. Raises NotBegun."""
        store = Store(name, self.directory / ROOT)
        before = _written(store)
        started = await run_sync(self._start, store)
        if await _until(lambda: _written(store) != before or started.poll() is not None, START_SECONDS):
            if _written(store) != before:
                return
            said = await run_sync((store.directory / _LOG).read_text, "utf-8", "replace")
            raise NotBegun(said.strip() or "`finetune run` ended without a word.")
        started.terminate()
        raise NotBegun(f"`finetune run {name}.yaml` has not begun within {START_SECONDS:g} s.")

    async def stop(self, name: str) -> None:
        """Ask the run that is under way, if there is one, to end, and wait as long as a checkpoint takes.

        Raises UserError where it can't be asked.
        """
        store = Store(name, self.directory / ROOT)
        if await run_sync(lambda: store.running):
            await run_sync(store.stop)
            await _until(lambda: not store.running, STOP_SECONDS)

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


def _write_new(path: Path, text: str) -> None:
    with path.open("x") as file:
        file.write(text)
