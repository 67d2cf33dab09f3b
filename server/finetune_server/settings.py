"""The server's settings, from the environment, and the table of base models, from a file that the chart mounts.

Read once by `__main__`; a table that could make no FineTuneJob keeps the server from starting.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from os import environ
from pathlib import Path
from typing import Any

from finetune_operator.api.complaints import complaints
from finetune_operator.api.load import parse_yaml
from finetune_operator.api.v1alpha1 import FineTuneJobSpec
from pydantic import ValidationError
from yaml import YAMLError

from finetune_server.limits import Limits

PREFIX = "FINETUNE_API_"
# What a request brings, and a table therefore need not have.
_ROWS = {"train": {"source": "s3://bucket/rows.jsonl"}}

Raw = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """`models`: by the name that clients use, the part of a FineTuneJob's spec that a request doesn't bring.

    `rows_secret`: the Secret in the namespace of each key that jobs read their files with; empty where they need none.
    `wait_seconds`: how long a question waits for a model to wake.
    """

    models: Mapping[str, Raw]
    rows_secret: str = ""
    file_bytes: int = 512 * 2**20
    upload_seconds: int = 900
    uploads: int = 8
    requests: int = 256
    wait_seconds: int = 300


@dataclass(frozen=True, kw_only=True)
class ClusterSettings(Settings):
    """And those of `finetune-api`. `bucket` or `claim`: where files are kept; the claim is mounted at `files`, and
    `jobs_claim` is the one in which jobs find their namespace's. `keys`: the directory that the Secret is mounted as.

    `waiting`: questions that wait for a model to wake at a time. `limits`: of keys that say nothing else.
    `cluster_tokens`: whether those who have accounts in the cluster are let in.
    """

    keys: Path
    bucket: str = ""
    claim: str = ""
    jobs_claim: str = ""
    files: Path = Path("/var/lib/finetune-api/files")
    port: int = 8000
    waiting: int = 64
    limits: Limits = field(default_factory=Limits)
    cluster_tokens: bool = False

    @classmethod
    def from_environment(cls, variables: Mapping[str, str] = environ) -> "ClusterSettings":
        """Read FINETUNE_API_*; ValueError with a sentence."""

        def given(name: str, default: str = "") -> str:
            return variables.get(PREFIX + name, "") or default

        bucket = given("BUCKET").rstrip("/")
        claim, jobs_claim = given("CLAIM"), given("JOBS_CLAIM")
        _check_place(bucket, claim, jobs_claim, given("ROWS_SECRET"))
        return cls(
            bucket=bucket,
            claim=claim,
            jobs_claim=jobs_claim,
            files=Path(given("FILES", str(cls.files))),
            rows_secret=given("ROWS_SECRET"),
            keys=Path(given("KEYS", "/etc/finetune-api/keys")),
            models=table(Path(given("MODELS", "/etc/finetune-api/models.yaml"))),
            port=_number("PORT", given("PORT", "8000")),
            file_bytes=_number("FILE_MEGABYTES", given("FILE_MEGABYTES", "512")) * 2**20,
            upload_seconds=_number("UPLOAD_SECONDS", given("UPLOAD_SECONDS", "900")),
            uploads=_number("UPLOADS", given("UPLOADS", "8")),
            requests=_number("REQUESTS", given("REQUESTS", "256")),
            waiting=_number("WAITING", given("WAITING", "64")),
            wait_seconds=_number("WAIT_SECONDS", given("WAIT_SECONDS", "300")),
            limits=Limits(
                **{
                    name: _number(f"LIMIT_{name.upper()}", given(f"LIMIT_{name.upper()}", str(known.default)))
                    for name, known in Limits.model_fields.items()
                }
            ),
            cluster_tokens=_switch("CLUSTER_TOKENS", given("CLUSTER_TOKENS", "false")),
        )


def _check_place(bucket: str, claim: str, jobs_claim: str, rows_secret: str) -> None:
    """ValueError where files have no place, or two."""
    if claim and bucket:
        raise ValueError(f"{PREFIX}BUCKET and {PREFIX}CLAIM are both given: files are kept in one place")
    if claim and rows_secret:
        raise ValueError(f"{PREFIX}ROWS_SECRET is for a bucket: from a claim jobs read without credentials")
    if jobs_claim and not claim:
        raise ValueError(f"{PREFIX}JOBS_CLAIM needs {PREFIX}CLAIM, in which the server keeps the files")
    if not claim and not bucket:
        raise ValueError(f"files have no place: {PREFIX}BUCKET names a bucket for them, {PREFIX}CLAIM a claim")
    if not claim and not bucket.startswith("s3://"):
        raise ValueError(f"{PREFIX}BUCKET must be s3://BUCKET or s3://BUCKET/PREFIX, not {bucket!r}")


def table(path: Path) -> dict[str, Raw]:
    """The base models; ValueError with a sentence for one that can't be."""
    try:
        documents = parse_yaml(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, YAMLError) as error:
        raise ValueError(f"the table of base models, {path}, can't be read: {error}") from error
    found = documents[0] if documents else {}
    if not isinstance(found, dict):
        raise ValueError(f"{path} has to be a map of base models, each name with a part of a FineTuneJob's spec")
    return checked(found)


def checked(found: Mapping[str, Raw]) -> dict[str, Raw]:
    """Base models that can make FineTuneJobs; ValueError with a sentence for one that can't."""
    for name, spec in found.items():
        try:
            FineTuneJobSpec.model_validate(merged({"dataset": _ROWS}, spec))
        except ValidationError as error:
            raise ValueError(f"base model {name}: {'; '.join(complaints(error, 'spec'))}") from error
        if (place := str(spec.get("output", {}).get("destination", ""))).startswith(("hf://", "oci://")):
            raise ValueError(
                f"base model {name}: spec.output.destination {place} has room for one job, and each publishes below "
                "it: name a bucket"
            )
    return dict(found)


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> Raw:
    """Two documents as one; where both have a value, the one above counts."""
    both = {
        key: merged(below[key], value) if isinstance(value, Mapping) and isinstance(below.get(key), Mapping) else value
        for key, value in above.items()
    }
    return {**below, **both}


def _number(name: str, text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise ValueError(f"{PREFIX}{name} must be a whole number above zero, not {text!r}")
    return int(text)


def _switch(name: str, text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError(f"{PREFIX}{name} must be true or false, not {text!r}")
    return text == "true"
