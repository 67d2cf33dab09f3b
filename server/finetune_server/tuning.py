"""What a client asks for becomes a FineTuneJob: the base model's part from the table, the rest from the request. Pure.

Hyperparameters are read by the importer's own mapping (`finetune import` of an OpenAI job). What can't be honoured is
refused with a sentence; nothing is ignored.
"""

import json
import secrets
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from finetune_cli.importing import openai
from finetune_cli.importing.draft import Draft, object_name
from finetune_operator.api.complaints import complaints
from finetune_operator.api.v1alpha1 import API_VERSION, GROUP, KIND, FineTuneJobSpec
from finetune_trainer.contract.config import Format
from finetune_trainer.data.examples import PREFERENCES
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from finetune_server.errors import Problem, invalid
from finetune_server.settings import Raw, merged

# What was asked for, as it was asked: OpenAI's object repeats it.
REQUEST = f"{GROUP}/openai-request"
# The name of its base model in the table.
BASE = f"{GROUP}/openai-base-model"
# The key's entry, or the account in the cluster, that asked: whose jobs at once it counts among.
CALLER = f"{GROUP}/openai-caller"
# When somebody cancelled it; spec.suspend keeps it so.
CANCELLED = f"{GROUP}/openai-cancelled"
# What the importer leaves to whoever calls it, and is seen to here.
_HERE = {"model", "training_file", "validation_file", "learning_rate_multiplier", "integrations", "metadata"}
# What of a tracker the table of base models has to name.
_TRACKERS = {"mlflow": "MLflow server", "trackio": "trackio server", "wandb": "key of Weights & Biases"}


def _auto(value: Any) -> Any:
    """auto is what is left out."""
    return None if value == "auto" else value


def _whole(value: Any) -> Any:
    """JSON has one kind of number: 3.0 is 3."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


_Auto = Literal["auto"] | None
_Epochs = Annotated[int, Field(ge=1, le=50), BeforeValidator(_whole)]
_Batch = Annotated[int, Field(ge=1, le=256), BeforeValidator(_whole)]
_Times = Annotated[float, Field(gt=0)]
_Beta = Annotated[float, Field(gt=0, le=2)]


def _only(type: str, **members: object) -> None:
    """Of the members that go with one type each, there is none but that of the type."""
    for name, member in members.items():
        if member is not None and name != type:
            raise ValueError(f"has {name}, and its type is {type}: remove the one, or change the other")


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Hyperparameters(_Part):
    """Those of every method."""

    n_epochs: Annotated[_Epochs | None, BeforeValidator(_auto, json_schema_input_type=_Epochs | _Auto)] = None
    batch_size: Annotated[_Batch | None, BeforeValidator(_auto, json_schema_input_type=_Batch | _Auto)] = None
    learning_rate_multiplier: Annotated[
        _Times | None, BeforeValidator(_auto, json_schema_input_type=_Times | _Auto)
    ] = None


class DpoHyperparameters(Hyperparameters):
    """And of dpo."""

    beta: Annotated[_Beta | None, BeforeValidator(_auto, json_schema_input_type=_Beta | _Auto)] = None


class _Supervised(_Part):
    hyperparameters: Hyperparameters | None = None


class _Dpo(_Part):
    hyperparameters: DpoHyperparameters | None = None


class Method(_Part):
    """How it learns."""

    type: str
    supervised: _Supervised | None = None
    dpo: _Dpo | None = None
    reinforcement: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _of_one_type(self) -> Self:
        _only(self.type, supervised=self.supervised, dpo=self.dpo, reinforcement=self.reinforcement)
        return self


class Project(_Part):
    """Of the integrations mlflow and trackio: the experiment, or the project."""

    project: Annotated[str, Field(min_length=1, max_length=255)] | None = None


class Wandb(_Part):
    """Of the integration wandb, as OpenAI has it."""

    project: str
    name: str | None = None
    entity: str | None = None
    tags: list[str] | None = None


class Integration(_Part):
    """Where it is followed from outside. wandb is OpenAI's only one; the others are this API's."""

    type: str
    mlflow: Project | None = None
    trackio: Project | None = None
    wandb: Wandb | None = None

    @model_validator(mode="after")
    def _of_one_type(self) -> Self:
        _only(self.type, mlflow=self.mlflow, trackio=self.trackio, wandb=self.wandb)
        if self.type == "wandb" and self.wandb is None:
            raise ValueError("needs wandb, with the project that the run goes to")
        return self

    @property
    def settings(self) -> Raw:
        """What it says of its run."""
        found = self.mlflow or self.trackio or self.wandb
        return found.model_dump(exclude_none=True) if found else {}


class Create(_Part):
    """The body of POST /v1/fine_tuning/jobs."""

    model: str
    training_file: str
    validation_file: str | None = None
    suffix: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    seed: Annotated[int, Field(ge=0, le=2147483647), BeforeValidator(_whole)] | None = None
    metadata: (
        Annotated[
            dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]], Field(max_length=16)
        ]
        | None
    ) = None
    hyperparameters: Hyperparameters | None = None
    method: Method | None = None
    integrations: Annotated[list[Integration], Field(max_length=5)] | None = None

    @model_validator(mode="after")
    def _said_once(self) -> Self:
        of_method = self.method and (self.method.supervised or self.method.dpo)
        if self.hyperparameters and of_method and of_method.hyperparameters:
            raise ValueError("has hyperparameters twice, by themselves and in method: remove the former")
        return self

    @property
    def dpo(self) -> bool:
        """Whether it learns from preferences."""
        return self.method is not None and self.method.type == "dpo"


class StartingModel(_Part):
    """What to start from: the name in the table and its part of the spec; or a model that was tuned, on top of it."""

    name: str
    spec: Raw
    tuned: str | None = None


def read(body: bytes) -> Create:
    """The request. Raises Problem."""
    try:
        return Create.model_validate_json(body)
    except ValidationError as error:
        raise invalid(error) from error


def manifest(
    asked: Create, base: StartingModel, namespace: str, rows: Mapping[str, tuple[str, Format]], rows_secret: str
) -> Raw:
    """The FineTuneJob. `rows`: the address and format of each file that is named. Raises Problem."""
    draft = Draft(openai.flat(asked.model_dump(exclude_none=True)))
    openai.read(draft)
    draft.finish()
    for left in draft.left:
        if left.theirs not in _HERE:
            raise Problem(400, f"{left.theirs} {left.value} {left.why}.", left.theirs)
    _check_rows(asked, rows)
    spec = merged(base.spec, draft.spec)
    spec["dataset"] = {**spec.get("dataset", {}), **_dataset(asked, rows, rows_secret)}
    spec["training"] = {**spec.get("training", {}), **_rate(draft, base), **_tracking(asked, base)}
    name = _name(asked.suffix)
    if "destination" in spec.get("output", {}):
        # Two jobs can't publish to one place.
        below = f"{spec['output']['destination'].rstrip('/')}/{namespace}/{name}"
        spec["output"] = {**spec["output"], "destination": below}
    if base.tuned:
        spec["model"] = {"source": f"ftj://{base.tuned}"}
    try:
        FineTuneJobSpec.model_validate(spec)
    except ValidationError as error:
        raise Problem(400, f"What this asks for can't be: {'; '.join(complaints(error, 'spec'))}.") from error
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {
            "name": name,
            "namespace": namespace,
            "annotations": {
                REQUEST: json.dumps(asked.model_dump(exclude_none=True), ensure_ascii=False),
                BASE: base.name,
            },
        },
        "spec": spec,
    }


def asked_for(raw: Raw) -> Raw | None:
    """What was asked for, and its base model; None of a FineTuneJob that was not made here, or says so no more."""
    annotations = raw["metadata"].get("annotations", {})
    try:
        asked = Create.model_validate_json(annotations.get(REQUEST, ""))
    except ValidationError:
        return None
    return {**asked.model_dump(exclude_none=True), "base": annotations.get(BASE, asked.model)}


def caller_of(raw: Raw) -> str | None:
    """Who asked for it; None of a FineTuneJob that was not made here."""
    found: str | None = raw["metadata"].get("annotations", {}).get(CALLER)
    return found


def _name(suffix: str | None) -> str:
    """A name that no other job has, and that tells what it is for."""
    return f"{(object_name(suffix) if suffix else 'ft')[:32].rstrip('-')}-{secrets.token_hex(6)}"


def _check_rows(asked: Create, rows: Mapping[str, tuple[str, Format]]) -> None:
    for name, (_, format) in rows.items():
        if asked.dpo != (format in PREFERENCES):
            wants = "rows of preferences (input, preferred_output, non_preferred_output)" if asked.dpo else "answers"
            raise Problem(
                400,
                f"Method {'dpo' if asked.dpo else 'supervised'} learns from {wants}, and {name} has rows of format "
                f"{format.value}: name another file, or another method.",
                name,
            )


def _dataset(asked: Create, rows: Mapping[str, tuple[str, Format]], rows_secret: str) -> Raw:
    found: Raw = {"train": {"source": rows["training_file"][0]}}
    if asked.validation_file is not None:
        found["validation"] = {"source": rows["validation_file"][0]}
    if rows_secret:
        found["credentials"] = {"secretRef": {"name": rows_secret}}
    return found


def _rate(draft: Draft, base: StartingModel) -> Raw:
    """OpenAI's is a multiplier of a rate that it keeps to itself; here of the one in the table."""
    times = draft.get("learning_rate_multiplier")
    if times is None:
        return {}
    rate = base.spec.get("training", {}).get("learningRate")
    if rate is None:
        raise Problem(
            400,
            f"learning_rate_multiplier multiplies the learning rate of {base.name}, and the table of base models has "
            "none for it: leave it out, and one is chosen; or ask who runs this server for training.learningRate.",
            "learning_rate_multiplier",
        )
    return {"learningRate": float(f"{rate * times:.3g}")}


def _tracking(asked: Create, base: StartingModel) -> Raw:
    """The table names the server and its credentials, so that no request sends them elsewhere."""
    if not asked.integrations:
        return {}
    if len(asked.integrations) > 1:
        raise Problem(400, "A job has one tracker: name one integration.", "integrations")
    (found,) = asked.integrations
    if found.type == "tensorboard":
        return {"tracking": {"type": "tensorboard"}}
    there = base.spec.get("training", {}).get("tracking", {})
    if found.type not in _TRACKERS:
        why = "it is not there: mlflow, tensorboard, trackio and wandb are"
    elif there.get("type") != found.type:
        why = (
            f"{base.name} has no {_TRACKERS[found.type]} in the table of base models: ask who runs this server for one"
        )
    elif found.wandb and found.wandb.entity and found.wandb.entity != there.get("entity", found.wandb.entity):
        why = f"runs of {base.name} belong to the entity {there['entity']}: leave entity out"
    else:
        return {"tracking": {**there, **found.settings}}
    raise Problem(400, f"Integration {found.type} can't be had: {why}.", "integrations")
