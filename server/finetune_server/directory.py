"""Files of rows in a directory: a claim that every replica mounts, or one beside the runs of a laptop.

`files` keeps them by it. On a claim whoever's pods mount it may write, too, so no link below the directory is followed
and nothing opened that is no plain file: it could lead to what only the server has. A file appears whole, by a rename.
"""

import errno
import os
import re
import secrets
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from shutil import copyfileobj
from typing import IO, Any

_CHUNK = 2**20
# More than what tells of a file ever takes: its client's name for it is all that can be long.
_WHOLE = 2**16
_DRAFT = re.compile(r"\..+\.[0-9a-f]{16}")
# Seconds since something was written to it.
_ABANDONED = 3600
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY
_BELOW = os.O_NOFOLLOW | os.O_CLOEXEC


class Directory:
    """As much of an fsspec file system as `Files` asks. Paths are NAMESPACE/NAME; raises OSError."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def put(self, path: str, content: IO[bytes]) -> None:
        """Write a file whole or not at all, and durably."""
        with self._within(path, make=True) as (directory, name):
            _clear(directory)
            draft = f".{name}.{secrets.token_hex(8)}"
            fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BELOW, 0o644, dir_fd=directory)
            try:
                with os.fdopen(fd, "wb") as file:
                    copyfileobj(content, file, _CHUNK)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(draft, name, src_dir_fd=directory, dst_dir_fd=directory)
                os.fsync(directory)
            except BaseException:
                with suppress(OSError):
                    os.unlink(draft, dir_fd=directory)
                raise

    def open(self, path: str, mode: str = "rb", **_: object) -> IO[bytes]:
        """Read one; a link is none."""
        try:
            with self._within(path) as (directory, name):
                # A pipe would keep who opens it waiting.
                fd = os.open(name, os.O_RDONLY | os.O_NONBLOCK | _BELOW, dir_fd=directory)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR):
                raise FileNotFoundError(path) from error
            raise
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise FileNotFoundError(path)
        return os.fdopen(fd, "rb")

    def cat_file(self, path: str) -> bytes:
        """All of a small one; one that no server has written, being too large, is none."""
        with self.open(path) as file:
            content = file.read(_WHOLE + 1)
        if len(content) > _WHOLE:
            raise FileNotFoundError(path)
        return content

    def cat_ranges(self, paths: Sequence[str], *_: object) -> list[bytes | OSError]:
        """All of several, or why one can't be read."""
        return [self._cat(path) for path in paths]

    def _cat(self, path: str) -> bytes | OSError:
        try:
            return self.cat_file(path)
        except OSError as error:
            return error

    def rm_file(self, path: str) -> None:
        """Remove one."""
        with self._within(path) as (directory, name):
            os.unlink(name, dir_fd=directory)

    def ls(self, path: str, **_: object) -> list[dict[str, Any]]:
        """The plain files of a namespace."""
        with self._within(f"{path}/-") as (directory, _name):
            return [
                {"name": f"{path}/{name}", "size": each.st_size, "mtime": each.st_mtime}
                for name, each in _plain(directory)
                if not name.startswith(".")
            ]

    @contextmanager
    def _within(self, path: str, make: bool = False) -> Iterator[tuple[int, str]]:
        """The directory of a path's namespace, open, and the name there."""
        namespace, name = PurePosixPath(path).parts
        if make:
            self._root.mkdir(parents=True, exist_ok=True)
        root = os.open(self._root, _DIRECTORY)
        try:
            if make:
                with suppress(FileExistsError):
                    os.mkdir(namespace, 0o755, dir_fd=root)
                    os.fsync(root)
            found = os.open(namespace, _DIRECTORY | _BELOW, dir_fd=root)
        finally:
            os.close(root)
        try:
            yield found, name
        finally:
            os.close(found)


def _clear(directory: int) -> None:
    """Remove drafts that nobody writes any more, as of a pod that was killed: no quota counts them."""
    for name, told in _plain(directory):
        if _DRAFT.fullmatch(name) and told.st_mtime < time.time() - _ABANDONED:
            # Another replica may have been first.
            with suppress(FileNotFoundError):
                os.unlink(name, dir_fd=directory)


def _plain(directory: int) -> Iterator[tuple[str, os.stat_result]]:
    """The plain files of an open directory."""
    with os.scandir(directory) as found:
        for each in found:
            # It may be deleted meanwhile, and the others are there.
            with suppress(FileNotFoundError):
                if stat.S_ISREG((told := each.stat(follow_symlinks=False)).st_mode):
                    yield each.name, told
