"""Brings a model or a file of rows to the workspace: from the Hugging Face hub, a registry, a bucket, a web server, or
where it is mounted.

Called by the stages prepare and fetch, which have the credentials of what they read. A file is complete or absent, and
a download that was cut off goes on with the files that are still missing. Every way in which it fails is a sentence
(`fetch_errors`).
"""

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from finetune_trainer.contract.config import ModelConfig, Source
from finetune_trainer.contract.outcome import DISK_FULL, Outcome, StageError
from finetune_trainer.contract.published import inside
from finetune_trainer.contract.schemes import within
from finetune_trainer.data import bucket, digests, hub, published
from finetune_trainer.data.cache import ModelDirectory
from finetune_trainer.data.fetch_errors import Access, explained
from finetune_trainer.data.places import oci

# What a model needs to run, and nothing that could run by itself: pickled weights are left where they are.
MODEL_FILES = ("*.safetensors", "*.json", "*.jinja", "*.txt", "*.model", "*.tiktoken")
CODE_FILES = ("*.py",)
# Copies of the weights for other programs, and names that lead out of the directory.
OTHER_FILES = ("consolidated*.safetensors", "*/*.safetensors", "*/*.json", "*../*")

# In the name of a file: every file of such a name.
MANY = "*"


def model(config: ModelConfig, target: Path) -> str | None:
    """Bring the base model to `target`, unless it is mounted; the commit that a hub's revision stood for.

    Raises StageError.
    """
    source = config.source
    if source.path is not None:
        _require(source, source.path)
        published.verify(source.path, source.uri, ours=False)
        return None
    secrets = bucket.credentials("model")
    wanted = (*MODEL_FILES, *(CODE_FILES if config.trust_remote_code else ()))
    place = ModelDirectory(target, config.cache.path if config.cache else None)
    with _cache_told(config), explained(Access(source.uri, "model", secrets)):
        if source.uri.startswith("hf://"):
            return _hub_model(source.uri.removeprefix("hf://"), config.revision, place, wanted, secrets)
        if source.uri.startswith("oci://"):
            _oci_model(source.uri, place, wanted, secrets)
        else:
            _bucket_model(source.uri, place, wanted, secrets)
    return None


@contextmanager
def _cache_told(config: ModelConfig) -> Iterator[None]:
    """A cache that is full is another volume than the workspace, which the program explains by itself."""
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_FULL or config.cache is None:
            raise
        claim = within(config.cache.uri).partition("/")[0]
        raise StageError(
            Outcome.WORKSPACE_FULL,
            f"PersistentVolumeClaim {claim} of workspace.cache is full, so that {config.source.uri} could not be kept "
            "there: make it larger, or remove models from it that nobody asks for any more.",
        ) from error


def each(source: Source) -> list[Source]:
    """The files that a source stands for, in the order of their names: all that match where its name has a *.

    Raises StageError.
    """
    folder, _, name = source.uri.rpartition("/")
    if MANY not in name or (source.path is not None and source.path.exists()):
        return [source]
    if source.path is not None:
        there = [path for path in source.path.parent.glob(source.path.name) if path.is_file()]
        found = [Source(uri=f"{folder}/{path.name}", path=path) for path in there]
    else:
        found = [Source(uri=f"{folder}/{each}") for each in _names(source, folder) if fnmatch(each, name)]
    if not found:
        raise StageError(Outcome.NOT_FOUND, f"{source.uri} matches no file.")
    return sorted(found, key=lambda each: each.uri)


def _names(source: Source, folder: str) -> list[str]:
    """The files in a folder of the hub, of a registry's tag or of a bucket."""
    secrets = bucket.credentials("dataset")
    with explained(Access(source.uri, "dataset", secrets)):
        if source.uri.startswith("hf://"):
            name, revision, path = _of_dataset(f"{folder.removeprefix('hf://datasets/')}/")
            files = [
                Path(each) for each in hub.api(secrets).list_repo_files(name, repo_type="dataset", revision=revision)
            ]
            return [each.name for each in files if each.parent == Path(path)]
        if source.uri.startswith("oci://"):
            tag, path = oci.file_of(source.uri)
            files = [Path(each) for each in _tag(tag, secrets).layers()]
            return [each.name for each in files if each.parent == Path(path).parent]
        objects = bucket.filesystem(source.uri, "dataset", secrets).ls(within(folder), detail=True)
        return [Path(each["name"]).name for each in objects if each["type"] == "file"]


def _of_dataset(name: str) -> tuple[str, str | None, str]:
    """ORG/NAME[@REVISION]/PATH, the hub's own way to write it."""
    organisation, name, path = name.split("/", 2)
    name, _, revision = name.partition("@")
    return f"{organisation}/{name}", revision or None, path


def file(source: Source, directory: Path) -> Path:
    """Bring a file of rows into `directory`, unless it is mounted; its path. Raises StageError, also where it is not
    the file that the checksum is of.
    """
    found = _file(source, directory)
    if source.checksum and (sha256 := f"sha256:{digests.of_file(found)}") != source.checksum:
        raise StageError(
            Outcome.DATA_INVALID,
            f"{source.uri} is not the file that is meant: its checksum is {sha256}, and the manifest's "
            f"{source.checksum}. If it was changed on purpose, change the manifest's.",
        )
    return found


def _file(source: Source, directory: Path) -> Path:
    if source.path is not None:
        _require(source, source.path)
        if source.path.is_dir():
            raise StageError(Outcome.NOT_FOUND, f"{source.uri} is a directory: name the one file in it that is meant.")
        return source.path
    # Two files may have one name: each URI has a directory of its own.
    directory = directory / hashlib.sha256(source.uri.encode()).hexdigest()[:16]
    directory.mkdir(parents=True, exist_ok=True)
    secrets = bucket.credentials("dataset")
    with explained(Access(source.uri, "dataset", secrets)):
        if source.uri.startswith("hf://"):
            return _hub_file(source.uri.removeprefix("hf://datasets/"), directory, secrets)
        if source.uri.startswith("oci://"):
            return _oci_file(source.uri, directory, secrets)
        path = within(source.uri)
        return _copy(bucket.filesystem(source.uri, "dataset", secrets), path, directory / Path(path).name)


def _require(source: Source, path: Path) -> None:
    if not path.exists():
        raise StageError(Outcome.NOT_FOUND, f"{source.uri} does not exist: nothing lies at that path.")
    if not os.access(path, os.R_OK):
        raise StageError(
            Outcome.ACCESS_DENIED, f"{source.uri} can't be read by user {os.getuid()}: make it readable for everyone."
        )


def _hub_model(
    name: str, revision: str | None, place: ModelDirectory, wanted: Sequence[str], secrets: dict[str, str]
) -> str:
    api = hub.api(secrets)
    commit = str(api.model_info(name, revision=revision).sha)

    def download(directory: Path) -> None:
        api.snapshot_download(
            name,
            revision=commit,
            local_dir=directory,
            allow_patterns=list(wanted),
            ignore_patterns=list(OTHER_FILES),
        )
        published.verify(directory, f"hf://{name}@{commit}")

    place.bring(f"hf://{name}@{commit}", wanted, download)
    return commit


def _hub_file(name: str, directory: Path, secrets: dict[str, str]) -> Path:
    dataset, revision, path = _of_dataset(name)
    downloaded = hub.api(secrets).hf_hub_download(
        dataset,
        path,
        repo_type="dataset",
        revision=revision,
        local_dir=directory,
    )
    return Path(downloaded)


def _oci_file(uri: str, directory: Path, secrets: dict[str, str]) -> Path:
    address, path = oci.file_of(uri)
    tag = _tag(address, secrets)
    if path not in tag.layers():
        raise FileNotFoundError(uri)
    return tag.bring(path, directory / Path(path).name)


def _tag(uri: str, secrets: dict[str, str]) -> oci.Tag:
    """What holds rows."""
    tag = oci.found(uri, "dataset", secrets)
    if not tag.manifest:
        raise FileNotFoundError(uri)
    return tag


def _bucket_model(uri: str, place: ModelDirectory, wanted: Sequence[str], secrets: dict[str, str]) -> None:
    filesystem, root, modified = bucket.filesystem(uri, "model", secrets), within(uri), bucket.library(uri).MODIFIED
    objects = {path.removeprefix(f"{root}/"): about for path, about in filesystem.find(root, detail=True).items()}
    if not objects:
        raise FileNotFoundError(uri)
    names = [name for name in objects if matches(name, wanted) and not matches(name, OTHER_FILES)]
    if not names:
        raise StageError(Outcome.NOT_FOUND, f"{uri} holds no files of a model ({', '.join(wanted)}).")
    versions = [f"{name} {objects[name]['size']} {objects[name][modified]}" for name in sorted(names)]

    def download(directory: Path) -> None:
        for name in names:
            if not _same(directory / name, objects[name]["size"], objects[name][modified]):
                _copy(filesystem, f"{root}/{name}", directory / name)
        published.verify(directory, uri)

    place.bring(uri, versions, download)


def _oci_model(uri: str, place: ModelDirectory, wanted: Sequence[str], secrets: dict[str, str]) -> None:
    tag = oci.found(uri, "model", secrets)
    if not tag.manifest:
        raise FileNotFoundError(uri)
    layers = {
        name: digest
        for name, digest in tag.layers().items()
        if matches(name, wanted) and not matches(name, OTHER_FILES)
    }
    if not layers:
        raise StageError(Outcome.NOT_FOUND, f"{uri} holds no files of a model ({', '.join(wanted)}).")

    def download(directory: Path) -> None:
        for name in layers:
            tag.bring(name, directory / inside(name, uri))
        published.verify(directory, uri)

    place.bring(uri, sorted(layers.values()), download)


def _copy(filesystem: Any, path: str, local: Path) -> Path:
    """Bring one object to `local`, complete or not at all."""
    local.parent.mkdir(parents=True, exist_ok=True)
    partial = local.with_name(f"{local.name}.partial")
    filesystem.get_file(path, str(partial))
    return partial.rename(local)


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Whether a path matches one of the patterns, read as the hub's client reads them."""
    return any(fnmatch(name, pattern) for pattern in patterns)


def _same(local: Path, size: int, modified: datetime) -> bool:
    """Whether a file is of the object's size and not older, as `aws s3 sync` decides it."""
    if not local.exists():
        return False
    found = local.stat()
    return found.st_size == size and found.st_mtime >= modified.timestamp()
