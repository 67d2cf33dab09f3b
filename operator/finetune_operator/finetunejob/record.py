"""A revision's record: one ConfigMap, each key written once and never changed, that holds all that was made and found.

With it a revision is hosted, measured and brought back whatever became of status, of its Jobs, or of the operator's
version: what the trainer was told and answered, what it was measured by and came to, and the engine's pods as they were
made. `stages` and `hosting` read it and say what to add; the pods of the stages mount what they are told from it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

from finetune_trainer.contract.config import Contract, EvaluationConfig, RunConfig
from finetune_trainer.contract.results import EvaluateResult, MergeResult, PrepareResult, PublishResult, TrainResult
from pydantic import ValidationError

from finetune_operator import names
from finetune_operator.api.output import Output
from finetune_operator.conditions import Reason
from finetune_operator.pods.metadata import Manifest

C = TypeVar("C", bound=Contract)

RUN_CONFIG = names.RUN_CONFIG
PREPARED = "prepare.json"
TRAINED = "train.json"
MERGED = "merge.json"
BUCKET = "bucket.json"
_FAILED = "failed-"


@dataclass(frozen=True)
class Failure:
    """Why a stage failed, when it was started with certain inputs."""

    reason: Reason
    message: str


class InBucket(Contract):
    """Where the workspace of a revision without a volume is kept, as a URI, and the Secret with the keys for it."""

    uri: str
    secret: str | None = None


@dataclass(frozen=True)
class Record:
    """The entries of one revision's record. Entries of a later version are read as far as this one knows them."""

    revision: str
    created: str = ""
    entries: Mapping[str, str] = field(default_factory=dict)

    def __contains__(self, key: str) -> bool:
        return key in self.entries

    @cached_property
    def run_config(self) -> RunConfig | None:
        """What the trainer was told."""
        return self._read(RUN_CONFIG, RunConfig)

    @cached_property
    def prepared(self) -> PrepareResult | None:
        """What prepare found; None until it is done."""
        return self._read(PREPARED, PrepareResult)

    @cached_property
    def trained(self) -> TrainResult | None:
        """The artifact, and what it took; None until there is one."""
        return self._read(TRAINED, TrainResult)

    @cached_property
    def merged(self) -> MergeResult | None:
        """The whole model that the artifact's adapter makes, or why it is not served; None until that is decided."""
        return self._read(MERGED, MergeResult)

    @cached_property
    def bucket(self) -> InBucket | None:
        """Where its files are that are on no volume."""
        return self._read(BUCKET, InBucket)

    def published(self, output: Output) -> PublishResult | None:
        """The artifact's address at the destination; None until all is there that is wanted."""
        return self._read(published_key(output), PublishResult)

    def evaluated(self, evaluation: str) -> EvaluateResult | None:
        """What a measurement came to, by its id."""
        return self._read(evaluated_key(evaluation), EvaluateResult)

    def template(self, inputs: str) -> Manifest | None:
        """The engine's pod template as it was made for such hosting."""
        text = self.entries.get(template_key(inputs))
        return None if text is None else dict(json.loads(text))

    def failure(self, stage: str, inputs: str) -> Failure | None:
        """Why a stage failed when it was started with the same inputs."""
        text = self.entries.get(failure_key(stage, inputs))
        if text is None:
            return None
        found = json.loads(text)
        known = found["reason"] in set(Reason)
        return Failure(Reason(found["reason"]) if known else Reason.CONTAINER_FAILED, found["message"])

    def tells_of(self, uid: str) -> bool:
        """Whether one of the failures is that of the Job with this uid."""
        return any(json.loads(text)["job"] == uid for key, text in self.entries.items() if key.startswith(_FAILED))

    def _read(self, key: str, kind: type[C]) -> C | None:
        text = self.entries.get(key)
        try:
            return None if text is None else kind.model_validate_json(text, extra="ignore")
        except ValidationError:
            return None


def text(document: Contract) -> str:
    """A document as an entry: every value written out, so that no other version's defaults take its place."""
    return document.model_dump_json(by_alias=True, exclude_none=True, indent=2) + "\n"


def published_key(output: Output) -> str:
    """The entry that says that the artifact is complete at the destination: signed with the key of that Secret, with
    the whole model, and in further formats, where these are wanted.
    """
    destination, key = output.destination or "", output.sign.secret_ref.name if output.sign else None
    beside = key or output.merge or output.formats
    wanted = [destination, key, output.merge, *output.formats] if beside else destination
    return f"published-{names.digest(wanted)}.json"


def evaluation_key(config: EvaluationConfig) -> str:
    """The entry that evaluate is told by. The gate and prices count here: its report says them."""
    return f"evaluation-{names.digest(dump(config))}.json"


def evaluated_key(evaluation: str) -> str:
    """The entry with what a measurement came to."""
    return f"evaluated-{evaluation}.json"


def template_key(inputs: str) -> str:
    """The entry with the engine's pod template."""
    return f"engine-{inputs}.json"


def failure_key(stage: str, inputs: str) -> str:
    """The entry with a stage's failure."""
    return f"{_FAILED}{stage}-{inputs}.json"


def failure_text(failure: Failure, job: str = "") -> str:
    """A failure as an entry; `job`: the uid of the Job that failed."""
    return json.dumps({"reason": failure.reason, "message": failure.message, "job": job})


def dump(document: Contract) -> Any:
    """A document without what has its default, for digests: a field that is new changes none of them."""
    return document.model_dump(mode="json", by_alias=True, exclude_defaults=True)
