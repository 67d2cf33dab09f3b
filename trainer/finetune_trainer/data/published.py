"""Brings a published artifact: all of it, and as it was published, or nothing.

Called by `finetune fetch` and by `adapters`; the stage publish asks with the same credentials, and `fetch` has verified
what it brings of a model that was published.
"""

import shutil
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from pydantic import ValidationError

from finetune_trainer.contract.config import SIGNATURE
from finetune_trainer.contract.outcome import Outcome, StageError
from finetune_trainer.contract.published import MANIFEST, Manifest
from finetune_trainer.data import bucket, digests, places, signing
from finetune_trainer.data.fetch_errors import Access, explained

OWNER = "output"


def bring(
    uri: str,
    target: Path,
    told: Callable[[str], None],
    key: Path | None = None,
    owner: str = OWNER,
    digest: str | None = None,
) -> Manifest:
    """Copy what was published at `uri` to `target`, which must not be there. `told`: of each file's name; `key`: the
    public one of whoever has to have signed it; `owner`: whose credentials are used; `digest`: the artifact's, where it
    is known. Raises StageError, before anything is copied where the manifest says enough.
    """
    secrets = bucket.credentials(owner)
    target = target.absolute()
    partial = target.with_name(f"{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    with explained(Access(uri, owner, secrets)):
        place = places.found(uri, owner, secrets)
        manifest = whole(place)
        if manifest is None:
            message = f"{uri} has no {MANIFEST}: nothing was published there, or not all of it yet."
            raise StageError(Outcome.NOT_FOUND, message)
        if digest not in (None, manifest.artifact.digest):
            found = f"its digest is {manifest.artifact.digest}, and what was trained has {digest}. Publish it again."
            raise StageError(Outcome.DATA_INVALID, f"{uri} is not what was trained: {found}")
        if key and SIGNATURE not in manifest.files:
            raise signing.unsigned(uri)
        for name, expected in manifest.files.items():
            told(name)
            local = partial / inside(name, uri)
            local.parent.mkdir(parents=True, exist_ok=True)
            place.get(name, local)
            if digests.of_file(local) != expected:
                raise StageError(Outcome.DATA_INVALID, f"{uri}/{name} is not what was published: its digest differs.")
    if digests.digest(partial) != manifest.artifact.digest:
        raise StageError(Outcome.DATA_INVALID, f"{uri} is not what was published: the artifact's digest differs.")
    if key:
        signing.verify(uri, partial, key)
    partial.rename(target)
    return manifest


def whole(place: places.Place) -> Manifest | None:
    """The manifest of what was published; None where nothing is, or not all of it yet. Raises StageError."""
    try:
        return Manifest.model_validate_json(place.read(MANIFEST))
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise StageError(Outcome.DATA_INVALID, f"{place.uri}/{MANIFEST} is no manifest of an artifact.") from error


def verify(directory: Path, uri: str, ours: bool = True) -> None:
    """Hold the files of a model against the manifest that was published beside them, if one was. `ours`: it was
    fetched, and what differs is removed, so that the next try brings it anew. Raises StageError.
    """
    try:
        manifest = Manifest.model_validate_json((directory / MANIFEST).read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValidationError):
        return
    for name, expected in manifest.files.items():
        local = directory / inside(name, uri)
        if local.exists() and digests.of_file(local) != expected:
            if ours:
                local.unlink()
            raise StageError(Outcome.DATA_INVALID, f"{uri}/{name} is not what was published: its digest differs.")


def inside(name: str, uri: str) -> PurePosixPath:
    """A path of a manifest, which anybody may have written. Raises StageError where it leads out of the directory."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise StageError(Outcome.DATA_INVALID, f"{uri}/{MANIFEST} names a file outside of the artifact: {name}.")
    return path
