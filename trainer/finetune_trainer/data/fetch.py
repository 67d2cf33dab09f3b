"""Brings a model or a file of rows to the workspace: from the Hugging Face hub, from S3, or from where it is mounted.

Called by `prepare` alone, the only stage with credentials. A file is complete or absent, and a download that was cut
off goes on with the files that are still missing. Every way in which it fails is a sentence (`fetch_errors`).
"""

import hashlib
import os
import shutil
from collections.abc import Iterable, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, hf_hub_download, snapshot_download

from finetune_trainer.contract.config import CREDENTIAL_KEYS, ModelConfig, Source
from finetune_trainer.contract.outcome import Outcome, StageError
from finetune_trainer.data.fetch_errors import Access, explained

# What a model needs to run, and nothing that could run by itself: pickled weights are left where they are.
MODEL_FILES = ("*.safetensors", "*.json", "*.jinja", "*.txt", "*.model", "*.tiktoken")
CODE_FILES = ("*.py",)
# Copies of the weights for other programs, and names that lead out of the directory.
OTHER_FILES = ("consolidated*.safetensors", "*/*.safetensors", "*/*.json", "*../*")


# In the name of a file: every file of such a name.
MANY = "*"


def credentials(owner: str, environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The credentials for model or dataset: FINETUNE_<OWNER>_<KEY>, else the plain key."""
    found = {key: environment.get(f"FINETUNE_{owner.upper()}_{key}") or environment.get(key) for key in CREDENTIAL_KEYS}
    return {key: value for key, value in found.items() if value}


def model(config: ModelConfig, target: Path) -> str | None:
    """Bring the base model to `target`, unless it is mounted; the commit that a hub's revision stood for.

    Raises StageError.
    """
    source = config.source
    if source.path is not None:
        _require(source, source.path)
        return None
    secrets = credentials("model")
    wanted = (*MODEL_FILES, *(CODE_FILES if config.trust_remote_code else ()))
    with explained(_access(source, "model", secrets)):
        if source.uri.startswith("hf://"):
            return _hub_model(source.uri.removeprefix("hf://"), config.revision, target, wanted, secrets)
        _bucket_model(source.uri, target, wanted, _filesystem("model", secrets))
    return None


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
    """The files in a folder of the hub or of a bucket."""
    secrets = credentials("dataset")
    with explained(_access(source, "dataset", secrets)):
        if source.uri.startswith("hf://"):
            name, revision, path = _of_dataset(f"{folder.removeprefix('hf://datasets/')}/")
            hub = HfApi(endpoint=secrets.get("HF_ENDPOINT"), token=secrets.get("HF_TOKEN"))
            files = [Path(each) for each in hub.list_repo_files(name, repo_type="dataset", revision=revision)]
            return [each.name for each in files if each.parent == Path(path)]
        objects = _filesystem("dataset", secrets).ls(folder.removeprefix("s3://"), detail=True)
        return [Path(each["name"]).name for each in objects if each["type"] == "file"]


def _of_dataset(name: str) -> tuple[str, str | None, str]:
    """ORG/NAME[@REVISION]/PATH, the hub's own way to write it."""
    organisation, name, path = name.split("/", 2)
    name, _, revision = name.partition("@")
    return f"{organisation}/{name}", revision or None, path


def file(source: Source, directory: Path) -> Path:
    """Bring a file of rows into `directory`, unless it is mounted; its path. Raises StageError."""
    if source.path is not None:
        _require(source, source.path)
        if source.path.is_dir():
            raise StageError(Outcome.NOT_FOUND, f"{source.uri} is a directory: name the one file in it that is meant.")
        return source.path
    # Two files may have one name: each URI has a directory of its own.
    directory = directory / hashlib.sha256(source.uri.encode()).hexdigest()[:16]
    directory.mkdir(parents=True, exist_ok=True)
    secrets = credentials("dataset")
    with explained(_access(source, "dataset", secrets)):
        if source.uri.startswith("hf://"):
            return _hub_file(source.uri.removeprefix("hf://datasets/"), directory, secrets)
        path = source.uri.removeprefix("s3://")
        return _copy(_filesystem("dataset", secrets), path, directory / Path(path).name)


def _access(source: Source, owner: str, secrets: dict[str, str]) -> Access:
    needed = "HF_TOKEN" if source.uri.startswith("hf://") else "AWS_ACCESS_KEY_ID"
    return Access(source.uri, owner, needed, needed in secrets)


def _require(source: Source, path: Path) -> None:
    if not path.exists():
        raise StageError(Outcome.NOT_FOUND, f"{source.uri} does not exist: nothing lies at that path.")
    if not os.access(path, os.R_OK):
        raise StageError(
            Outcome.ACCESS_DENIED, f"{source.uri} can't be read by user {os.getuid()}: make it readable for everyone."
        )


def _hub_model(name: str, revision: str | None, target: Path, wanted: Iterable[str], secrets: dict[str, str]) -> str:
    token, endpoint = secrets.get("HF_TOKEN"), secrets.get("HF_ENDPOINT")
    commit = str(HfApi(endpoint=endpoint, token=token).model_info(name, revision=revision).sha)
    _begin(target, f"hf://{name}@{commit}")
    snapshot_download(
        name,
        revision=commit,
        local_dir=target,
        allow_patterns=list(wanted),
        ignore_patterns=list(OTHER_FILES),
        token=token,
        endpoint=endpoint,
    )
    return commit


def _hub_file(name: str, directory: Path, secrets: dict[str, str]) -> Path:
    dataset, revision, path = _of_dataset(name)
    downloaded = hf_hub_download(
        dataset,
        path,
        repo_type="dataset",
        revision=revision,
        local_dir=directory,
        token=secrets.get("HF_TOKEN"),
        endpoint=secrets.get("HF_ENDPOINT"),
    )
    return Path(downloaded)


def _bucket_model(uri: str, target: Path, wanted: Iterable[str], filesystem: Any) -> None:
    root = uri.removeprefix("s3://").rstrip("/")
    objects = {path.removeprefix(f"{root}/"): about for path, about in filesystem.find(root, detail=True).items()}
    if not objects:
        raise FileNotFoundError(uri)
    names = [name for name in objects if _matches(name, wanted) and not _matches(name, OTHER_FILES)]
    if not names:
        raise StageError(Outcome.NOT_FOUND, f"{uri} holds no files of a model ({', '.join(wanted)}).")
    _begin(target, uri)
    for name in names:
        if not _same(target / name, objects[name]):
            _copy(filesystem, f"{root}/{name}", target / name)


def _copy(filesystem: Any, path: str, local: Path) -> Path:
    """Bring one object to `local`, complete or not at all."""
    local.parent.mkdir(parents=True, exist_ok=True)
    partial = local.with_name(f"{local.name}.partial")
    filesystem.get_file(path, str(partial))
    return partial.rename(local)


def _matches(name: str, patterns: Iterable[str]) -> bool:
    """Whether a path matches one of the patterns, read as the hub's client reads them."""
    return any(fnmatch(name, pattern) for pattern in patterns)


def _same(local: Path, remote: dict[str, Any]) -> bool:
    """Whether a file is of the object's size and not older, as `aws s3 sync` decides it."""
    if not local.exists():
        return False
    found = local.stat()
    return bool(found.st_size == remote["size"] and found.st_mtime >= remote["LastModified"].timestamp())


def _begin(target: Path, identity: str) -> None:
    """Keep what an earlier run brought of the same model, and nothing of another."""
    note = target.with_name(f"{target.name}.source")
    if not note.exists() or note.read_text() != identity:
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        note.write_text(identity)


def _filesystem(owner: str, secrets: dict[str, str]) -> Any:
    if not secrets.get("AWS_ENDPOINT_URL", "https://").startswith(("http://", "https://")):
        raise StageError(
            Outcome.CONFIG_INVALID,
            f"AWS_ENDPOINT_URL in the {owner}'s credentials is no URL: it has to begin with http:// or https://.",
        )
    # Half a second to import, which only a bucket is worth.
    import botocore.session
    import s3fs

    given = "AWS_ACCESS_KEY_ID" in secrets
    return s3fs.S3FileSystem(
        # Without keys: what the pod's service account or the machine gives, else as anybody.
        anon=not given and botocore.session.get_session().get_credentials() is None,
        key=secrets.get("AWS_ACCESS_KEY_ID"),
        secret=secrets.get("AWS_SECRET_ACCESS_KEY"),
        token=secrets.get("AWS_SESSION_TOKEN"),
        endpoint_url=secrets.get("AWS_ENDPOINT_URL"),
        client_kwargs={"region_name": secrets["AWS_REGION"]} if "AWS_REGION" in secrets else {},
        skip_instance_cache=True,
        use_listings_cache=False,
    )
