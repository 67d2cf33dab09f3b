"""A workspace's files in a bucket, where pods that share no volume leave them for one another.

Called by `stages.carried`; `bring` is for engines and for whoever reads an artifact or a report, which need files
and run no stage. They lie there in parts, each of which one stage writes and replaces as a whole: its objects first,
none of which is ever written over, and then a numbered list of them with their digests, which is created and never
replaced. The list with the highest number is the part; so a part is what it was until it is what it is to be, wherever
a writer is killed, and of two pods that write one, as when a node is cut off, the second finds the number taken and
ends. Only then what no list names any more is removed.
"""

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

from pydantic import ValidationError

from finetune_trainer.contract.config import MEMORY_MARK, Contract
from finetune_trainer.contract.outcome import Outcome, StageError
from finetune_trainer.contract.published import inside
from finetune_trainer.contract.schemes import within
from finetune_trainer.data import bucket, digests
from finetune_trainer.data.fetch_errors import Access, explained

# What each stage makes, and what train keeps on the way.
PREPARED, TRAINING, TRAINED, MERGED, EVALUATED = "prepared", "training", "trained", "merged", "evaluated"
# Whose credentials are used.
OWNER = "workspace"
# Beside the files that are brought: what this pod knows of the bucket.
KNOWN = ".parts"
# What libraries and we call what is half-written, and what is said of a process that is no more.
LEFT_OUT = {"staging", ".part", ".partial", ".staging", MEMORY_MARK}

PathFilter = Callable[[str], bool]


class Superseded(StageError):
    """Another pod has taken this one's place."""


class File(Contract):
    """A file of a part: the SHA-256 of what it holds in hex digits, and the object that it is, below the part."""

    digest: str
    object: str


class Part(Contract):
    """A part's list. `number`: of all lists of the part; `links`: where symbolic links lead, by path."""

    number: int = 0
    files: dict[str, File] = {}
    links: dict[str, str] = {}


@dataclass(frozen=True)
class Parts:
    """The directory `uri` of a bucket, for the files of the directory `root`. `owner`: whose credentials are used.

    Methods raise StageError.
    """

    uri: str
    root: Path
    owner: str = OWNER

    def bring(self, name: str, wanted: PathFilter = lambda path: True) -> bool:
        """Have a part's files in the directory, verified, or those of them that are wanted; whether it is there."""
        with self._explained():
            part = self._newest(name)
            while part is not None:
                if self._brought(name, part, wanted):
                    self._remember(name, part)
                    return True
                # It was replaced meanwhile, and its objects removed: nothing of half of it may stay.
                self._drop(part)
                before, part = part, self._newest(name)
                if part == before:
                    raise self._lost(name)
        return False

    def put(self, name: str, paths: Sequence[Path], growing: bool = False) -> None:
        """Make what lies at these paths the part, unless it is. Where a part was never brought, there is none.

        `growing`: somebody writes there meanwhile, so that what is put are copies.
        """
        with self._explained():
            files, links = self._found(paths)
            if not growing:
                self._put(name, files, links)
                return
            with TemporaryDirectory(dir=self.root) as still:
                self._put(name, dict(_copied(files, Path(still))), links)

    def _put(self, name: str, files: dict[str, Path], links: dict[str, str]) -> None:
        before = self._known(name)
        number, place = before.number + 1, f"{before.number + 1}-{uuid4().hex[:8]}"
        kept: dict[str, File] = {}
        for path, local in files.items():
            digest, old = digests.of_file(local), before.files.get(path)
            if old is None or old.digest != digest:
                old = File(digest=digest, object=f"{place}/{path}")
                self._filesystem.put_file(str(local), self._path(name, old.object))
            kept[path] = old
        part = Part(number=number, files=kept, links=links)
        if (kept, links) != (before.files, before.links):
            self._create(name, part)

    def remove(self, name: str) -> None:
        """Have nothing of a part there but the word that it is empty."""
        with self._explained():
            newest = self._newest(name) or Part()
            if set(self._objects(name)) - ({_list(newest)} if not newest.files else set()):
                self._create(name, Part(number=newest.number + 1))

    def _create(self, name: str, part: Part) -> None:
        document = part.model_dump_json(by_alias=True, indent=2).encode() + b"\n"
        # Or a list that is there, though no answer said so, would be taken for another pod's the next time.
        self._write(self._tried(name), part)
        try:
            # Of two that come at once the server lets one through.
            self._filesystem.pipe_file(self._path(name, _list(part)), document, mode="create")
        except FileExistsError:
            # A library that got no answer has asked a second time.
            if self._filesystem.cat_file(self._path(name, _list(part))) != document:
                raise self._superseded(name) from None
        self._remember(name, part)
        self._clear(name, part)

    def _clear(self, name: str, part: Part) -> None:
        """Remove earlier lists, and objects of these and of writers that were killed."""
        named = {file.object for file in part.files.values()}
        there = self._objects(name)
        gone = [path for path in there if path not in named and _number(path) <= part.number]
        # The lists first, each of which would name objects that are not there.
        for path in sorted(gone, key=lambda path: "/" in path):
            if path != _list(part):
                self._filesystem.rm_file(self._path(name, path))

    def _brought(self, name: str, part: Part, wanted: PathFilter) -> bool:
        for path, file in part.files.items():
            if not wanted(path):
                continue
            local = self._local(path)
            if local.is_file() and digests.of_file(local) == file.digest:
                continue
            partial = local.with_name(f"{local.name}.partial")
            try:
                self._filesystem.get_file(self._path(name, file.object), str(partial))
            except FileNotFoundError:
                return False
            if digests.of_file(partial) != file.digest:
                uri = f"{self.uri}/{name}/{file.object}"
                raise StageError(Outcome.DATA_INVALID, f"{uri} is not what was put there: its digest differs.")
            partial.rename(local)
        for path, target in part.links.items():
            if wanted(path) and not self._local(path).is_symlink():
                self._local(path).symlink_to(target)
        return True

    def _drop(self, part: Part) -> None:
        for path in part.files:
            local = self.root / inside(path, self.uri)
            local.unlink(missing_ok=True)
            for folder in local.relative_to(self.root).parents:
                with suppress(OSError):
                    (self.root / folder).rmdir()

    def _local(self, path: str) -> Path:
        """Where a file of a list belongs, which anybody may have written who may write to the bucket."""
        found = self.root / inside(path, self.uri)
        if not found.parent.resolve().is_relative_to(self.root.resolve()):
            raise StageError(Outcome.DATA_INVALID, f"{self.uri} names a file outside of the workspace: {path}.")
        found.parent.mkdir(parents=True, exist_ok=True)
        return found

    def _found(self, paths: Sequence[Path]) -> tuple[dict[str, Path], dict[str, str]]:
        """The files at these paths and their links, by path below the root."""
        files: dict[str, Path] = {}
        links: dict[str, str] = {}
        for path in _each(paths):
            name = path.relative_to(self.root).as_posix()
            if path.is_symlink():
                links[name] = str(path.readlink())
            else:
                files[name] = path
        return files, links

    def _newest(self, name: str) -> Part | None:
        """The list that counts; None where there is none."""
        numbers = [_number(path) for path in self._names(name) if path.endswith(".json")]
        if not numbers:
            return None
        path = self._path(name, f"{max(numbers)}.json")
        try:
            part = Part.model_validate_json(self._filesystem.cat_file(path))
        except FileNotFoundError:
            # A newer one has come meanwhile.
            return self._newest(name)
        except ValidationError as error:
            raise StageError(Outcome.DATA_INVALID, f"{self.uri}/{name} has a list that can't be read.") from error
        return part

    def _names(self, name: str) -> list[str]:
        """What lies directly in a part."""
        try:
            found = self._filesystem.ls(self._path(name), detail=False)
        except FileNotFoundError:
            return []
        return [PurePosixPath(path).name for path in found]

    def _objects(self, name: str) -> list[str]:
        """All that lies in a part."""
        root = self._path(name)
        return [path.removeprefix(f"{root}/") for path in self._filesystem.find(root)]

    def _known(self, name: str) -> Part:
        """What this pod knows the part to be; what it was about to make it, if that came true without an answer."""
        tried = self._tried(name)
        if tried.exists():
            part = Part.model_validate_json(tried.read_bytes())
            with suppress(FileNotFoundError, ValidationError):
                if Part.model_validate_json(self._filesystem.cat_file(self._path(name, _list(part)))) == part:
                    self._remember(name, part)
        path = self.root / KNOWN / f"{name}.json"
        return Part.model_validate_json(path.read_bytes()) if path.exists() else Part()

    def _remember(self, name: str, part: Part) -> None:
        self._write(self.root / KNOWN / f"{name}.json", part)
        self._tried(name).unlink(missing_ok=True)

    def _tried(self, name: str) -> Path:
        return self.root / KNOWN / f"{name}.next.json"

    def _write(self, path: Path, part: Part) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(part.model_dump_json(by_alias=True))

    def _superseded(self, name: str) -> StageError:
        return Superseded(
            Outcome.UNAVAILABLE,
            f"Another pod has written to {self.uri}/{name} since this one began. What this one made is left out, and "
            "the next run goes on from what is there.",
        )

    def _lost(self, name: str) -> StageError:
        return StageError(
            Outcome.NOT_FOUND,
            f"{self.uri}/{name} lacks objects that its list names: somebody has removed them, or a rule of the bucket "
            "has. Put them back, or set training.seed to another value, which is a new revision.",
        )

    def _path(self, *names: str) -> str:
        return "/".join((within(self.uri), *names))

    @cached_property
    def _secrets(self) -> dict[str, str]:
        return bucket.credentials(self.owner)

    @cached_property
    def _filesystem(self) -> Any:
        return bucket.filesystem(self.uri, self.owner, self._secrets)

    def _explained(self) -> AbstractContextManager[None]:
        return explained(Access(self.uri, self.owner, self._secrets))


def bring(uri: str, root: Path, wanted: Sequence[str], owner: str = OWNER) -> None:
    """Have files of a workspace in `root`: those at each path, which may end with = and the digest that the artifact
    or checkpoint at it has to have. Raises StageError.
    """
    found = {path: digest for path, _, digest in (each.partition("=") for each in wanted)}
    parts = Parts(uri, root, owner)
    for part in (PREPARED, TRAINED, MERGED, EVALUATED):
        parts.bring(part, lambda path: any(PurePosixPath(path).is_relative_to(each) for each in found))
    for path, expected in found.items():
        if not (root / path).exists():
            raise StageError(
                Outcome.NOT_FOUND, f"{uri} has no {path}: somebody has removed it, or a rule of the bucket has."
            )
        if expected and (digest := digests.digest(root / path)) != expected:
            raise StageError(
                Outcome.DATA_INVALID,
                f"{path} in {uri} is not what was trained: its digest is {digest}, and the record's is {expected}.",
            )


def _list(part: Part) -> str:
    return f"{part.number}.json"


def _number(path: str) -> int:
    """The number of the list that an object is, or was written for."""
    digits = path.partition("/")[0].partition("-")[0].removesuffix(".json")
    return int(digits) if digits.isdecimal() else 0


def _copied(files: Mapping[str, Path], place: Path) -> Iterator[tuple[str, Path]]:
    """The files as they are now; without drafts that are gone already."""
    for number, (path, local) in enumerate(files.items()):
        with suppress(FileNotFoundError):
            yield path, shutil.copyfile(local, place / str(number))


def _each(paths: Sequence[Path]) -> Iterator[Path]:
    """The files and links at these paths, without what is half-written."""
    for path in sorted(paths):
        if LEFT_OUT & {path.name, path.stem, path.suffix}:
            continue
        if path.is_symlink() or path.is_file():
            yield path
        elif path.is_dir():
            yield from _each(list(path.iterdir()))
