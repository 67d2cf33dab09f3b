"""Brings a model or a file of rows to the workspace: from the Hugging Face hub, from S3, or from where it is mounted.

Called by `prepare` alone, the only stage with credentials. What is fetched is complete or absent, and every way in
which that fails is a sentence that names the URI.
"""

import errno
import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import s3fs
from botocore.exceptions import BotoCoreError, ClientError
from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from finetune_trainer.config import ModelConfig, Source
from finetune_trainer.outcome import Outcome, StageError

# What a model needs to run, and nothing that could run by itself: pickled weights are left where they are.
MODEL_FILES = ("*.safetensors", "*.json", "*.jinja", "*.txt", "*.model", "*.tiktoken")
CODE_FILES = ("*.py",)
_KEYS = (
    "HF_TOKEN",
    "HF_ENDPOINT",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_REGION",
    "AWS_ENDPOINT_URL",
)


def credentials(owner: str, environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The credentials for MODEL or DATASET: FINETUNE_<owner>_<key>, else the plain key."""
    found = {key: environment.get(f"FINETUNE_{owner}_{key}") or environment.get(key) for key in _KEYS}
    return {key: value for key, value in found.items() if value}


def model(config: ModelConfig, target: Path) -> str | None:
    """Bring the base model to `target`, unless it is mounted; the commit that a hub's revision stood for."""
    source = config.source
    if source.path is not None:
        _require(source, source.path)
        return None
    secrets = credentials("MODEL")
    patterns = [*MODEL_FILES, *(CODE_FILES if config.trust_remote_code else ())]
    if source.uri.startswith("hf://"):
        return _hub_model(source, config.revision, target, patterns, secrets)
    _bucket_directory(source, target, patterns, secrets)
    return None


def file(source: Source, directory: Path) -> Path:
    """Bring a file of rows into `directory`, unless it is mounted; its path."""
    if source.path is not None:
        _require(source, source.path)
        return source.path
    # Two files may have one name: each URI has a directory of its own.
    directory = directory / hashlib.sha256(source.uri.encode()).hexdigest()[:16]
    target = directory / Path(source.uri).name
    if target.exists():
        return target
    directory.mkdir(parents=True, exist_ok=True)
    secrets = credentials("DATASET")
    partial = directory / "partial"
    with _explained(source):
        if source.uri.startswith("hf://"):
            partial = _hub_file(source.uri, directory, secrets)
        else:
            _filesystem(secrets).get_file(source.uri.removeprefix("s3://"), str(partial))
    partial.rename(target)
    return target


def _require(source: Source, path: Path) -> None:
    if not path.exists():
        raise StageError(Outcome.NOT_FOUND, f"{source.uri} does not exist.")


def _hub_model(source: Source, revision: str | None, target: Path, patterns: list[str], secrets: dict[str, str]) -> str:
    name = source.uri.removeprefix("hf://")
    token, endpoint = secrets.get("HF_TOKEN"), secrets.get("HF_ENDPOINT")
    with _explained(source):
        commit = HfApi(endpoint=endpoint, token=token).model_info(name, revision=revision).sha
        partial = target.with_name(f"{target.name}.partial")
        snapshot_download(
            name, revision=commit, local_dir=partial, allow_patterns=patterns, token=token, endpoint=endpoint
        )
    _complete(partial, target)
    return str(commit)


def _hub_file(uri: str, directory: Path, secrets: dict[str, str]) -> Path:
    """hf://datasets/ORG/NAME[@REVISION]/PATH, the hub's own way to write it."""
    organisation, name, path = uri.removeprefix("hf://datasets/").split("/", 2)
    name, _, revision = name.partition("@")
    downloaded = hf_hub_download(
        f"{organisation}/{name}",
        path,
        repo_type="dataset",
        revision=revision or None,
        local_dir=directory / "hub",
        token=secrets.get("HF_TOKEN"),
        endpoint=secrets.get("HF_ENDPOINT"),
    )
    return Path(downloaded)


def _bucket_directory(source: Source, target: Path, patterns: list[str], secrets: dict[str, str]) -> None:
    root = source.uri.removeprefix("s3://").rstrip("/")
    partial = target.with_name(f"{target.name}.partial")
    with _explained(source):
        filesystem = _filesystem(secrets)
        found = [path for path in filesystem.find(root) if any(Path(path).match(pattern) for pattern in patterns)]
        if not found:
            raise FileNotFoundError(root)
        for path in found:
            local = partial / path.removeprefix(f"{root}/")
            local.parent.mkdir(parents=True, exist_ok=True)
            filesystem.get_file(path, str(local))
    _complete(partial, target)


def _complete(partial: Path, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)


def _filesystem(secrets: dict[str, str]) -> Any:
    return s3fs.S3FileSystem(
        anon="AWS_ACCESS_KEY_ID" not in secrets,
        key=secrets.get("AWS_ACCESS_KEY_ID"),
        secret=secrets.get("AWS_SECRET_ACCESS_KEY"),
        token=secrets.get("AWS_SESSION_TOKEN"),
        endpoint_url=secrets.get("AWS_ENDPOINT_URL"),
        client_kwargs={"region_name": secrets["AWS_REGION"]} if "AWS_REGION" in secrets else {},
        skip_instance_cache=True,
        use_listings_cache=False,
    )


@contextmanager
def _explained(source: Source) -> Iterator[None]:
    """Turn the libraries' errors into sentences that name the URI; a full disk is `stage`'s to explain."""
    try:
        yield
    except (OSError, httpx.HTTPError, BotoCoreError, ClientError, HFValidationError) as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise _explain(source.uri, error) from error


def _explain(uri: str, error: Exception) -> StageError:
    for kinds, outcome, sentence in _SENTENCES:
        if isinstance(error, kinds):
            return StageError(outcome, sentence.format(uri=uri))
    if _status(error) in (401, 403):
        return StageError(Outcome.ACCESS_DENIED, _DENIED.format(uri=uri))
    return StageError(Outcome.UNAVAILABLE, f"{uri} could not be read: {error}")


def _status(error: Exception) -> int | None:
    """The HTTP status that an error speaks of."""
    if isinstance(error, HfHubHTTPError) and error.response is not None:
        return int(error.response.status_code)
    if isinstance(error, ClientError):
        return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    return None


_DENIED = "{uri} was refused with these credentials; see the Secret that credentials names."
# The more special error first: the hub's are each other's subclasses.
_SENTENCES: tuple[tuple[type[Exception] | tuple[type[Exception], ...], Outcome, str], ...] = (
    (
        GatedRepoError,
        Outcome.ACCESS_DENIED,
        "{uri} is gated: accept its terms on the hub, and name a Secret with HF_TOKEN in credentials.",
    ),
    (RevisionNotFoundError, Outcome.NOT_FOUND, "{uri} has no such revision; see model.revision."),
    (
        RepositoryNotFoundError,
        Outcome.NOT_FOUND,
        "{uri} does not exist, or is private and the credentials have no right to it.",
    ),
    ((EntryNotFoundError, FileNotFoundError, HFValidationError), Outcome.NOT_FOUND, "{uri} does not exist."),
    (PermissionError, Outcome.ACCESS_DENIED, _DENIED),
)
