"""The job that `finetune run` works on: a manifest fitted to one machine. Pure but for reading the files it names.

A cluster's sources are refused here, and every field that only a cluster can act on is named, so that nothing in a
manifest is dropped without a word.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune_operator.api.load import ManifestError, checked, document, load_manifest
from finetune_operator.api.v1alpha1 import FineTuneJob, FineTuneJobSpec
from finetune_operator.names import digest, revision_of
from finetune_trainer.contract.schemes import listed, remote

from finetune_cli.errors import ExitCode, UserError

FILE = "file://"
_PATH = "file://PATH"
# In the name of a file of rows: every file of such a name.
MANY = "*"
_CLUSTER_SOURCES = {
    "pvc://": "a PersistentVolumeClaim",
    "configmap://": "a ConfigMap",
}
# The fields that only mean something where pods are scheduled.
_CLUSTER_FIELDS = {
    "training": ("resources", "nodes", "queue", "pod", "image"),
    "hosting": ("engine", "replicas", "resources", "rollout", "revision_history_limit", "api_key", "pod", "image"),
}
_CLUSTER_ALONE = {"workspace": "workspace", "ttlAfterFinished": "ttl_after_finished"}


@dataclass(frozen=True)
class LocalJob:
    """A job for this machine: `spec` has absolute file:// sources; `notes` are sentences for the user."""

    name: str
    revision: str
    spec: FineTuneJobSpec
    notes: tuple[str, ...]


def read(path: Path) -> FineTuneJob:
    """The FineTuneJob in a file; UserError with all that is wrong with it."""
    try:
        return load_manifest(path)
    except ManifestError as error:
        raise UserError(str(error), ExitCode.USAGE) from error


def written(path: Path) -> tuple[FineTuneJob, dict[str, Any]]:
    """The same, and its document, for whoever changes that."""
    try:
        found = document(path)
        return checked(path, found), found
    except ManifestError as error:
        raise UserError(str(error), ExitCode.USAGE) from error


def localize(name: str, spec: FineTuneJobSpec, directory: Path) -> LocalJob:
    """Fit a manifest that lies in `directory` to this machine; UserError for what can only be had in a cluster."""
    if spec.suspend:
        raise UserError(f"{name} has suspend: true, so nothing is run; set it to false, or remove it.")
    if spec.workspace.bucket:
        raise UserError(
            f"{name} has workspace.bucket, by which pods of a cluster hand their files on; here they lie in .finetune: "
            "remove it for `finetune run`."
        )
    for field, source in (*sources(spec), *_tasks(spec), ("output.destination", spec.output.destination or "")):
        _refuse_cluster_source(field, source)
    absolute = FineTuneJobSpec.model_validate(_absolute(spec.model_dump(by_alias=True, exclude_unset=True), directory))
    return LocalJob(name, _revision(spec, absolute), absolute, notes(spec))


def sources(spec: FineTuneJobSpec) -> Iterator[tuple[str, str]]:
    """Every source in the manifest: its field and its URI."""
    yield "model.source", spec.model.source
    yield "dataset.train.source", spec.dataset.train.source
    for field, split in (("validation", spec.dataset.validation), ("test", spec.dataset.test)):
        if split and split.source:
            yield f"dataset.{field}.source", split.source


def _tasks(spec: FineTuneJobSpec) -> Iterator[tuple[str, str]]:
    """The source of what is measured beside the rows: no weight depends on it."""
    if spec.evaluation.lm_eval:
        yield "evaluation.lmEval.source", spec.evaluation.lm_eval.source


def notes(spec: FineTuneJobSpec) -> tuple[str, ...]:
    """What the user should know about fields that are for a cluster."""
    found = [
        f"{section}.{field}"
        for section, fields in _CLUSTER_FIELDS.items()
        for field in fields
        if field in getattr(spec, section).model_fields_set
    ]
    if spec.training.sweep and "parallel" in spec.training.sweep.model_fields_set:
        found.append("training.sweep.parallel")
    found += [field for field, name in _CLUSTER_ALONE.items() if name in spec.model_fields_set]
    said = []
    if found:
        said.append(f"Only a cluster acts on {', '.join(found)}; here the job takes what this machine has.")
    if secrets := _secrets(spec):
        said.append(
            "Credentials come from this shell's environment (HF_TOKEN, AWS_ACCESS_KEY_ID, OPENAI_API_KEY, "
            f"SIGNING_KEY, …), not from Secret {' and '.join(secrets)}."
        )
    return tuple(said)


def _secrets(spec: FineTuneJobSpec) -> list[str]:
    asked = (spec.evaluation.judge, *(spec.evaluation.baselines or ()))
    given = (spec.model, spec.dataset, *(each for each in (*asked, spec.training.tracking) if each), spec.output)
    references = [each.credentials.secret_ref for each in given if each.credentials]
    references += [spec.output.sign.secret_ref] if spec.output.sign else []
    return list(dict.fromkeys(each.name for each in references))


def _refuse_cluster_source(field: str, source: str) -> None:
    of = field.partition(".")[0]
    taken = {"model": [*remote("model"), _PATH], "dataset": [*remote("dataset"), _PATH], "output": remote("output")}
    for scheme, what in _CLUSTER_SOURCES.items():
        if source.startswith(scheme):
            raise UserError(
                f"{field}: {source} is {what}, which only a cluster has; `finetune run` takes "
                f"{listed(taken.get(of, [_PATH]), 'and')}.",
                ExitCode.USAGE,
            )


def _absolute(value: Any, directory: Path) -> Any:
    """The manifest with every relative `source: file://…` made absolute."""
    if isinstance(value, dict):
        return {
            key: FILE + str((directory / found.removeprefix(FILE)).resolve())
            if key == "source" and isinstance(found, str) and found.startswith(FILE)
            else _absolute(found, directory)
            for key, found in value.items()
        }
    return value


def _revision(spec: FineTuneJobSpec, absolute: FineTuneJobSpec) -> str:
    """The operator's revision; with local data files, their content counts too, since people edit them in place."""
    contents = {
        field: _content(field, Path(source.removeprefix(FILE)))
        for field, source in sources(absolute)
        if source.startswith(FILE) and field != "model.source"
    }
    revision = revision_of(spec)
    return digest({"revision": revision, "contents": contents}) if contents else revision


def _content(field: str, path: Path) -> str:
    """A digest of a file, or of all that are meant where its name has a *."""
    if MANY in path.name and not path.exists():
        found = sorted(each for each in path.parent.glob(path.name) if each.is_file())
        if not found:
            raise UserError(f"{field}: {path} matches no file.", ExitCode.USAGE)
        return digest({each.name: _content(field, each) for each in found})
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{field}: {path} can't be read ({error.strerror}).", ExitCode.USAGE) from error
