"""Where local jobs live on disk: `.finetune/NAME/` with the status document, a lock, and a workspace per revision.

`run` writes here; `status` and `chat` read.
"""

import fcntl
import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from finetune_operator.api.status import FineTuneJobStatus
from finetune_trainer.contract.config import Workspace
from pydantic import ValidationError

from finetune_cli.errors import ExitCode, UserError

ROOT = Path(".finetune")
# Whoever looks whether the lock is taken has it for an instant, and who takes it writes its number an instant later.
_INSTANTS, _INSTANT_SECONDS = 20, 0.01


class Store:
    """One job's directory."""

    def __init__(self, name: str, root: Path = ROOT) -> None:
        self.name = name
        self.directory = root / name
        self.status_file = self.directory / "status.json"
        self._lock_file = self.directory / "lock"
        # Which no FineTuneJob can be called.
        self.models = (root / ".models").resolve()

    def workspace(self, revision: str) -> Workspace:
        """A revision's workspace, laid out as the volume is in a cluster."""
        return Workspace((self.directory / revision).resolve())

    def log(self, revision: str, stage: str) -> Path:
        """Where a stage's output goes."""
        return self.directory / revision / "logs" / f"{stage}.log"

    def termination_log(self, revision: str, stage: str) -> Path:
        """Where a stage says why it ended."""
        return self.directory / revision / "logs" / f"{stage}.termination.json"

    def read(self) -> FineTuneJobStatus | None:
        """The status document; None before the first run, or when it was written by another version."""
        try:
            return FineTuneJobStatus.model_validate_json(self.status_file.read_bytes())
        except (FileNotFoundError, ValidationError):
            return None

    def write(self, status: FineTuneJobStatus) -> None:
        """Replace the status document; a reader sees the old one or the new one."""
        write_whole(self.status_file, as_json(status) + "\n")

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep every other `finetune run` of this job out; UserError when one is under way."""
        hide(self.directory.parent)
        self.directory.mkdir(exist_ok=True)
        with self._lock_file.open("a+") as file:
            if not _taken(file):
                raise UserError(self._held_by(self.holder()))
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
            # What a killed run leaves behind keeps the lock: two trainers would spoil each other's work.
            os.set_inheritable(file.fileno(), True)
            yield

    def holder(self) -> int:
        """The process that has the lock, or had it last, maybe before what it left running; 0 where none says so."""
        for _ in range(_INSTANTS):
            try:
                text = self._lock_file.read_text()
            except FileNotFoundError:
                return 0
            if text:
                return int(text)
            time.sleep(_INSTANT_SECONDS)
        return 0

    def _held_by(self, process: int) -> str:
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return (
                f"Process {process}, which ran {self.name}, was killed and left its trainer or engine running; end "
                f"that with `fuser -k {self._lock_file}` and run again."
            )
        return f"{self.name} is being run already, by process {process}; `finetune cancel {self.name}` ends it."

    def remove(self) -> None:
        """Delete the job's directory, while no run of it is under way."""
        with self.lock():
            shutil.rmtree(self.directory)

    def remove_all_but(self, revision: str) -> list[str]:
        """Delete what was made for other revisions; which these were."""
        with self.lock():
            others = sorted(path for path in self.directory.iterdir() if path.is_dir() and path.name != revision)
            for path in others:
                shutil.rmtree(path)
        return [path.name for path in others]

    def stop(self) -> None:
        """Ask the `finetune run` that is under way to end; UserError where there is none."""
        if not self.running:
            raise UserError(
                f"No `finetune run` of {self.name} is under way; `finetune run` of its manifest starts one."
            )
        process = self.holder()
        if process == 0:
            raise UserError(f"Which process runs {self.name} is not known yet: try again.")
        try:
            os.kill(process, signal.SIGTERM)
        except ProcessLookupError as error:
            raise UserError(self._held_by(process)) from error

    def busy(self) -> str | None:
        """Who runs it, or what is left of a run, as a sentence; None where the next one may begin."""
        return self._held_by(self.holder()) if self.running else None

    @property
    def running(self) -> bool:
        """Whether a `finetune run` of this job is under way."""
        try:
            with self._lock_file.open() as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False


def _taken(file: TextIO) -> bool:
    """Whether the lock is ours now."""
    for _ in range(_INSTANTS):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_INSTANT_SECONDS)
        else:
            return True
    return False


def write_whole(path: Path, text: str) -> None:
    """Write a small file in UTF-8: whoever reads it has the old or the new."""
    draft = path.with_name(f"{path.name}.new")
    draft.write_text(text, "utf-8")
    draft.replace(path)


def hide(root: Path) -> None:
    """Make the directory of all jobs; nobody wants checkpoints in a commit."""
    root.mkdir(parents=True, exist_ok=True)
    (root / ".gitignore").write_text("*\n")


def known(root: Path = ROOT) -> list[str]:
    """The jobs that were run in this directory."""
    return sorted(path.parent.name for path in root.glob("*/status.json"))


def find(name: str | None, root: Path = ROOT) -> Store:
    """The job of that name, or the only one there is; UserError when there is none or too many to guess."""
    there = known(root)
    if name is None and len(there) == 1:
        return Store(there[0], root)
    if name in there:
        return Store(name, root)
    if not there:
        raise UserError("No job was run in this directory yet; `finetune run job.yaml` runs one.", ExitCode.USAGE)
    if name is None:
        raise UserError(f"Which job? There are {', '.join(there)}.", ExitCode.USAGE)
    raise UserError(f"No job {name} was run in this directory; there is {', '.join(there)}.", ExitCode.USAGE)


def as_json(status: FineTuneJobStatus) -> str:
    """The document as the operator would write it into the FineTuneJob."""
    return json.dumps(status.model_dump(mode="json", by_alias=True, exclude_none=True), indent=2)
