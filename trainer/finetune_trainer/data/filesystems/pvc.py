"""pvc://: a claim of the user's, where pods of ours mount it, in fsspec's words as far as a place needs them.

A file is there whole or not at all, also after a power cut: it is written beside its place, synced and renamed.
"""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from finetune_trainer.contract.outcome import DISK_FULL, Outcome, StageError
from finetune_trainer.contract.schemes import CLAIMS
from finetune_trainer.data.disk import fsync

# Where pods have the claims.
root = CLAIMS
# All that goes wrong is told by this module: a claim is a disk and no server.
ERRORS: tuple[type[Exception], ...] = ()
MODIFIED = ""
_DENIED = (errno.EACCES, errno.EPERM, errno.EROFS)
_TAKEN = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR)


def filesystem(owner: str, secrets: dict[str, str]) -> "Claims":
    """All claims that are mounted."""
    return Claims(root)


def status(error: BaseException) -> tuple[int, str]:
    """No error speaks of any."""
    return 0, ""


class Claims:
    """Paths are CLAIM/PATH. Its methods raise StageError, and FileNotFoundError for what is not there."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def cat_file(self, path: str) -> bytes:
        """What a file holds."""
        with _explained(path):
            return self._local(path).read_bytes()

    def get_file(self, path: str, local: str) -> None:
        """Bring a file."""
        with _explained(path):
            there = self._local(path).open("rb")
        # A disk that is full is the one here.
        with there, open(local, "wb") as here:
            shutil.copyfileobj(there, here)

    def put_file(self, local: str, path: str) -> None:
        """Have a file there, in the place of another one if need be."""
        with open(local, "rb") as source, _explained(path):
            self._replace(self._local(path), source)

    def pipe_file(self, path: str, content: bytes, mode: str = "overwrite") -> None:
        """Write a file. `mode` create: and its directory, as one step. Raises FileExistsError where that has it."""
        with _explained(path):
            target = self._local(path)
            if mode == "create":
                self._create(target, content, path)
            else:
                self._replace(target, content)

    def rm_file(self, path: str) -> None:
        """Remove a file."""
        with _explained(path):
            self._local(path).unlink(missing_ok=True)

    def _create(self, target: Path, content: bytes, path: str) -> None:
        # What several file systems over a network can do, and all of them at once: no two rename to the same place.
        made = target.parent.with_name(f".{target.parent.name}.{uuid4().hex}")
        made.mkdir(parents=True)
        try:
            _write(made / target.name, content)
            made.rename(target.parent)
            fsync(target.parent.parent)
        except OSError as error:
            shutil.rmtree(made, ignore_errors=True)
            if error.errno not in _TAKEN:
                raise
            if target.exists():
                raise FileExistsError(path) from error
            folder = f"pvc://{path.rpartition('/')[0]}"
            raise StageError(
                Outcome.CONFIG_INVALID,
                f"{folder} is something that no FineTuneJob published: choose another output.destination.",
            ) from error

    def _replace(self, target: Path, source: Any) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.partial")
        try:
            _write(partial, source)
            partial.rename(target)
            fsync(target.parent)
        finally:
            partial.unlink(missing_ok=True)

    def _local(self, path: str) -> Path:
        """Where a claim's file is in this pod. Raises StageError where the claim is not mounted."""
        claim = path.partition("/")[0]
        if not (self._root / claim).is_dir():
            raise StageError(
                Outcome.NOT_FOUND,
                f"PersistentVolumeClaim {claim} is not mounted here: pvc://{path} is read in a pod of its namespace "
                f"that has the claim at {self._root / claim}.",
            )
        return self._root / path


def _write(path: Path, content: Any) -> None:
    """Write bytes, or what an open file has."""
    with path.open("wb") as file:
        if isinstance(content, bytes):
            file.write(content)
        else:
            shutil.copyfileobj(content, file)
    fsync(path)


@contextmanager
def _explained(path: str) -> Iterator[None]:
    """A claim's disk is not the workspace's, whose errors the program explains by itself."""
    try:
        yield
    except FileExistsError:
        raise
    except FileNotFoundError as error:
        # Without the name that it has in this pod, as a server would tell it.
        raise FileNotFoundError(path) from error
    except OSError as error:
        raise _told(path, error) from error


def _told(path: str, error: OSError) -> StageError:
    claim = path.partition("/")[0]
    if error.errno in DISK_FULL:
        return StageError(
            Outcome.WORKSPACE_FULL,
            f"PersistentVolumeClaim {claim} is full, so that pvc://{path} could not be written: make it larger, or "
            "remove what nobody needs.",
        )
    if error.errno in _DENIED:
        return StageError(
            Outcome.ACCESS_DENIED,
            f"pvc://{path} was refused to user {os.getuid()} ({error.strerror}): let the pod's group (fsGroup) read "
            "and write there.",
        )
    return StageError(Outcome.UNAVAILABLE, f"pvc://{path} could not be reached: {error.strerror or error}.")
