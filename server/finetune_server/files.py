"""Files of rows: checked as they come, kept in a bucket, a claim or a directory, and beside them what tells of them.

A file is there once what tells of it is: that is written last and deleted first. Names that clients give are only told,
never part of an address; ids can't be guessed, and lie under the namespace of whoever uploaded them.
"""

import json
import logging
import re
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path, PurePosixPath
from shutil import copyfileobj
from typing import IO, Any, TypeVar

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from finetune_trainer.contract.config import DatasetConfig, Format, Source
from finetune_trainer.contract.outcome import DISK_FULL, StageError
from finetune_trainer.data import bucket
from finetune_trainer.data.examples import faults, recognise, shape_of
from finetune_trainer.data.formats import json_lines
from finetune_trainer.data.line import Faults

from finetune_server.directory import Directory
from finetune_server.errors import Problem, missing

logger = logging.getLogger(__name__)
T = TypeVar("T")
PURPOSE = "fine-tune"
_ID = re.compile("file-[0-9a-f]{32}")
_CHUNK, _PIECE = 2**20, 2**18
# The least that S3 takes as a part; two of them are in memory for each transfer.
_PART = 5 * 2**20
# The longest row: one that is read whole, and takes thirty times that as objects.
_ROW = 2**20
# Transfers at a time, and files that are checked.
_THREADS, _CHECKS = 8, 4
_FULL = "The place where files are kept is full: delete files, or ask who runs this server for more room."
File = dict[str, Any]


@dataclass(frozen=True)
class Shelf:
    """Where files are kept: the prefix of their paths (empty, or with a slash at its end), the fsspec file system that
    has them, what writes a file whole or not at all, what a listing calls the time of writing, what is raised where it
    does not answer, and at which address a job reads a namespace's file.
    """

    place: str
    system: Any
    put: Callable[[str, IO[bytes]], None]
    modified: str
    errors: tuple[type[Exception], ...]
    address: Callable[[str, str], str]


def in_bucket(place: str) -> Shelf:
    """An address of a bucket. Raises StageError."""
    system = bucket.filesystem(place, "bucket", bucket.credentials("bucket"))
    library = bucket.library(place)

    def put(path: str, content: IO[bytes]) -> None:
        with system.open(path, "wb", block_size=_PART) as file:
            copyfileobj(content, file, _CHUNK)

    def address(namespace: str, name: str) -> str:
        return f"{place}/{namespace}/{name}"

    return Shelf(f"{place}/", system, put, library.MODIFIED, (OSError, *library.ERRORS), address)


def in_directory(path: Path) -> Shelf:
    """A directory, which is made with the first file."""
    return _of_directory(Directory(path), lambda namespace, name: f"file://{path}/{namespace}/{name}")


def in_claim(claim: str, jobs_claim: str, path: Path) -> Shelf:
    """A claim that is mounted at a path. Jobs mount the one of that name in their namespace, or `jobs_claim`, which has
    no more than the directory of that namespace.
    """
    if jobs_claim:
        return _of_directory(Directory(path), lambda namespace, name: f"pvc://{jobs_claim}/{name}")
    return _of_directory(Directory(path), lambda namespace, name: f"pvc://{claim}/{namespace}/{name}")


def _of_directory(system: Directory, address: Callable[[str, str], str]) -> Shelf:
    return Shelf("", system, system.put, "mtime", (OSError,), address)


class Files:
    """The files of all namespaces. Raises Problem."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf, self._place, self._system = shelf, shelf.place, shelf.system
        self._threads, self._checks = CapacityLimiter(_THREADS), CapacityLimiter(_CHECKS)

    async def add(self, namespace: str, name: str, content: IO[bytes]) -> File:
        """Check rows and keep them."""
        return await self._run(lambda: self._add(namespace, name, content), self._checks)

    async def ids(self, namespace: str) -> list[str]:
        """The ids of a namespace's files, the newest first."""
        return await self._run(lambda: self._ids(namespace))

    async def some(self, namespace: str, ids: Sequence[str]) -> list[File]:
        """The files with these ids, in their order; one that was deleted meanwhile is left out."""
        return await self._run(lambda: self._some(namespace, ids))

    async def kept(self, namespace: str) -> tuple[int, int]:
        """How many a namespace has, and their bytes."""
        found = [each["size"] for each in await self._run(lambda: self._listed(namespace, ".jsonl"))]
        return len(found), sum(found)

    async def get(self, namespace: str, id: str, param: str | None = None) -> File:
        """The file with an id. Raises Problem where there is none, of the request's field `param`."""
        if not _ID.fullmatch(id):
            raise missing("file", id, param)
        try:
            found = _told_of(await self._run(lambda: self._system.cat_file(self._told(namespace, id))), id)
        except FileNotFoundError:
            found = None
        if found is None:
            raise missing("file", id, param)
        return found

    async def delete(self, namespace: str, id: str) -> None:
        """Remove a file. A job that has read it goes on."""
        await self.get(namespace, id)
        for path in (self._told(namespace, id), self._rows(namespace, id)):
            # Somebody else may delete it, too.
            with suppress(FileNotFoundError):
                await self._run(partial(self._system.rm_file, path))

    async def content(self, namespace: str, id: str) -> Iterator[bytes]:
        """The rows, a piece at a time; each may still raise Problem."""
        try:
            return await self._run(lambda: self._begun(namespace, id))
        except FileNotFoundError as error:
            raise missing("file", id) from error

    def source(self, namespace: str, id: str) -> str:
        """The address at which a job of the namespace reads the rows."""
        return self._shelf.address(namespace, f"{id}.jsonl")

    def _rows(self, namespace: str, id: str) -> str:
        return f"{self._place}{namespace}/{id}.jsonl"

    def _told(self, namespace: str, id: str) -> str:
        return f"{self._place}{namespace}/{id}.json"

    def _begun(self, namespace: str, id: str) -> Iterator[bytes]:
        """The rows, of which the first piece is read."""
        # No more is read ahead: many may be slow to take what they asked for.
        file = self._system.open(self._rows(namespace, id), "rb", cache_type="none")
        return self._pieces(file, file.read(_PIECE), id)

    def _pieces(self, file: IO[bytes], piece: bytes, id: str) -> Iterator[bytes]:
        with file:
            while piece:
                yield piece
                try:
                    with self._explained():
                        piece = file.read(_PIECE)
                except FileNotFoundError as error:
                    raise missing("file", id) from error

    def _add(self, namespace: str, name: str, content: IO[bytes]) -> File:
        format, size = check(name, content)
        id = f"file-{secrets.token_hex(16)}"
        content.seek(0)
        self._shelf.put(self._rows(namespace, id), content)
        found = {
            "id": id,
            "object": "file",
            "bytes": size,
            "created_at": int(time.time()),
            "filename": name,
            "purpose": PURPOSE,
            "status": "processed",
            "format": format.value,
        }
        self._shelf.put(self._told(namespace, id), BytesIO(json.dumps(found).encode()))
        return found

    def _ids(self, namespace: str) -> list[str]:
        # When it was written stands in the listing: only those that are shown are read.
        found = sorted(
            (each[self._shelf.modified], PurePosixPath(each["name"]).stem) for each in self._listed(namespace, ".json")
        )
        return [id for _, id in reversed(found) if _ID.fullmatch(id)]

    def _some(self, namespace: str, ids: Sequence[str]) -> list[File]:
        paths = [self._told(namespace, id) for id in ids]
        # `cat` would take brackets in a path for a pattern.
        found = self._system.cat_ranges(paths, None, None) if paths else []
        for each in found:
            if isinstance(each, Exception) and not isinstance(each, FileNotFoundError):
                raise each
        told = [_told_of(each, id) for each, id in zip(found, ids, strict=True) if not isinstance(each, Exception)]
        return [each for each in told if each is not None]

    def _listed(self, namespace: str, end: str) -> list[dict[str, Any]]:
        try:
            found = self._system.ls(f"{self._place}{namespace}", detail=True)
        except FileNotFoundError:
            return []
        return [each for each in found if each["name"].endswith(end)]

    async def _run(self, work: Callable[[], T], limiter: CapacityLimiter | None = None) -> T:
        """Do something with the bucket, in a thread."""
        with self._explained():
            return await run_sync(work, limiter=limiter or self._threads)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Raises Problem for what the place says, but for FileNotFoundError, which each call reads by itself."""
        try:
            yield
        except FileNotFoundError:
            raise
        except self._shelf.errors as error:
            logger.warning("%s: %s: %s", self._place or "files", type(error).__name__, error)
            if isinstance(error, OSError) and error.errno in DISK_FULL:
                raise Problem(507, _FULL, code="files") from error
            raise Problem(503, "The place where files are kept does not answer: try again.", code="files") from error


def _told_of(data: bytes, id: str) -> File | None:
    """What tells of a file; None where somebody else has written it, who may have written anything."""
    try:
        found = json.loads(data)
        # No answer could have it otherwise: NaN, or half a character.
        json.dumps(found, allow_nan=False, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return None
    ours = (
        isinstance(found, dict)
        and found.get("id") == id
        and type(found.get("bytes")) is int
        and found["bytes"] >= 0
        and isinstance(found.get("filename"), str)
        and found.get("format") in list(Format)
    )
    return found if ours else None


def seen(file: File) -> File:
    """A file as OpenAI's client knows it."""
    return {key: value for key, value in file.items() if key != "format"}


def check(name: str, content: IO[bytes]) -> tuple[Format, int]:
    """The format of rows, and their size. Raises Problem with the first faults, as `finetune check` tells them.

    What only a model's tokenizer can tell, such as how long rows are, is told once a job has one.
    """
    if not name.endswith(".jsonl"):
        raise Problem(400, f"{name} is no .jsonl file: write a row as JSON in each line.", "file")
    config = DatasetConfig(train=Source(uri=name))
    wrong, shape = Faults(), None
    try:
        for line in json_lines(_lines(content, name), name):
            if shape is None and line.row is not None:
                shape = shape_of(config, recognise(config, line.row), chat=True, developer=True)
            found = faults(line, shape)[0] if shape else [line.problem]
            wrong.add(f"{line.place}: {each}" for each in found)
    except StageError as error:
        raise Problem(400, error.message, "file", "invalid_file") from error
    if wrong.count:
        raise Problem(400, wrong.told(name), "file", "invalid_file")
    if shape is None:
        raise Problem(400, f"{name} has no rows.", "file", "invalid_file")
    return shape.format, content.tell()


def _lines(content: IO[bytes], name: str) -> Iterator[bytes]:
    """A file's lines, none of them too long to be held. Raises Problem."""
    number = 0
    while line := content.readline(_ROW + 1):
        number += 1
        if len(line) > _ROW:
            raise Problem(400, f"{name}:{number}: is longer than {_ROW:,} bytes, more than any row.", "file")
        yield line
