"""The FineTuneJob's spec: the one source of the CRD, of `kubectl explain` and of what the local backend accepts.

Field docstrings are the sentences users read in `kubectl explain`. `api.status` has the other half of the object,
`api.crd` turns both into the CustomResourceDefinition. A field that nothing acts on does not belong here.
"""

import re
from enum import StrEnum
from typing import Annotated, Any, Literal

from finetune_trainer.config import AdapterType, Format, Method
from pydantic import Field, WithJsonSchema

from finetune_operator.api.rules import ApiModel, Rule

GROUP = "finetune.dev"
VERSION = "v1alpha1"
KIND = "FineTuneJob"
PLURAL = "finetunejobs"
API_VERSION = f"{GROUP}/{VERSION}"
# The longest object derived from a FineTuneJob is the Job NAME-REVISION-evaluate, whose name is a label value of 63.
NAME_MAX_LENGTH = 45

# The ranks that vLLM can serve (`--max-lora-rank`), without 1.
Rank = Literal[8, 16, 32, 64, 128, 256, 320, 512]


def _matches(pattern: str, message: str) -> Rule:
    return Rule(f"self.matches('^({pattern})$')", message, lambda value: re.fullmatch(pattern, value) is not None)


def _not_file(instead: str) -> Rule:
    return Rule("!self.startsWith('file://')", f"file:// exists only for `finetune run`; in a cluster use {instead}")


# A Service's name starts with a letter.
NAME_RULES = (
    _matches(
        "[a-z]([-a-z0-9]*[a-z0-9])?",
        "must be lower-case letters, digits and '-', start with a letter and end with a letter or digit: "
        "the model's Service takes this name",
    ),
    Rule(
        f"self.size() <= {NAME_MAX_LENGTH}",
        f"must be at most {NAME_MAX_LENGTH} characters: longer names are made from it for Jobs and volumes",
        lambda name: len(name) <= NAME_MAX_LENGTH,
    ),
)

_OBJECT = "[a-z0-9]([-.a-z0-9]*[a-z0-9])?"
_PLACES = f"s3://[^/]+/.+|pvc://{_OBJECT}/.+|file://.+"
_MODEL_URIS = "hf://ORG/NAME, s3://BUCKET/PREFIX or pvc://CLAIM/PATH"
_DATA_URIS = "hf://datasets/ORG/NAME/FILE, s3://BUCKET/KEY, pvc://CLAIM/PATH or configmap://NAME/KEY"

ModelUri = Annotated[
    str,
    Field(max_length=1024),
    _matches(f"hf://[-.a-zA-Z0-9_]+/[-.a-zA-Z0-9_]+|s3://[^/]+|{_PLACES}", f"must be {_MODEL_URIS}"),
    _not_file(_MODEL_URIS),
]
DataUri = Annotated[
    str,
    Field(max_length=1024),
    _matches(f"hf://datasets/[^/]+/[^/]+/.+|configmap://{_OBJECT}/[-.a-zA-Z0-9_]+|{_PLACES}", f"must be {_DATA_URIS}"),
    _not_file(_DATA_URIS),
]
# Six digits a unit keep the sum within an int64 of nanoseconds, the API machinery's own duration.
_DURATION = "([0-9]{1,6}h)?([0-9]{1,6}m)?([0-9]{1,6}s)?"
Duration = Annotated[
    str,
    Field(max_length=32),
    Rule(
        f"self.matches('^{_DURATION}$') && self.matches('[1-9]')",
        "must be a duration longer than zero, such as 90m, 6h or 1h30m",
        lambda value: bool(re.fullmatch(_DURATION, value) and re.search("[1-9]", value)),
    ),
]
Quantity = Annotated[
    int | str,
    WithJsonSchema(
        {
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "x-kubernetes-int-or-string": True,
            "pattern": r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$",
        }
    ),
]
Fraction = Annotated[
    float,
    Rule(
        "self > 0.0 && self < 1.0", "a fraction must lie between 0 and 1, both excluded", lambda value: 0 < value < 1
    ),
]
Opaque = Annotated[dict[str, Any], WithJsonSchema({"type": "object", "x-kubernetes-preserve-unknown-fields": True})]


class LocalObject(ApiModel):
    """A reference to an object of the FineTuneJob's own namespace."""

    name: Annotated[str, Field(min_length=1, max_length=253)]
    """The object's name."""


class Credentials(ApiModel):
    """Credentials, by reference."""

    secret_ref: LocalObject
    """A Secret with any of the keys HF_TOKEN, HF_ENDPOINT, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_REGION and AWS_ENDPOINT_URL."""


class Model(ApiModel):
    """What to start from."""

    source: ModelUri
    """The base model: hf://ORG/NAME, s3://BUCKET/PREFIX or pvc://CLAIM/PATH (and file://PATH for `finetune run`)."""
    revision: Annotated[str, Field(min_length=1, max_length=255)] | None = None
    """A branch, tag or commit of an hf:// model. It is resolved to a commit when the data is prepared, and status.model.commit records which. Left out: main."""
    credentials: Credentials | None = None
    """For a gated or private model."""
    trust_remote_code: bool = False
    """Run the Python code that comes with the model. Off: such a model is refused."""

    rules = (
        Rule(
            "!has(self.revision) || self.source.startsWith('hf://')",
            "model.revision goes with an hf:// source only",
            lambda model: model.revision is None or model.source.startswith("hf://"),
            "revision",
        ),
    )


class Train(ApiModel):
    """The rows to train on."""

    source: DataUri
    """hf://datasets/ORG/NAME/FILE, s3://BUCKET/KEY, pvc://CLAIM/PATH or configmap://NAME/KEY (and file://PATH for `finetune run`). JSON Lines, JSON, CSV or Parquet."""


class Split(ApiModel):
    """A split: rows of its own, or a fraction of train."""

    source: DataUri | None = None
    """Rows of its own, in the same places and formats as train."""
    fraction: Fraction | None = None
    """The fraction of train's rows that is set aside, chosen by the seed."""

    rules = (
        Rule(
            "has(self.source) != has(self.fraction)",
            "a split takes either source or fraction",
            lambda split: (split.source is None) != (split.fraction is None),
        ),
    )


class Dataset(ApiModel):
    """What to learn from."""

    train: Train
    """The rows to train on."""
    validation: Split | None = Split(fraction=0.1)
    """The rows whose loss is measured while training. Left out: a tenth of train."""
    test: Split | None = None
    """Rows that are set aside and never trained on."""
    format: Format = Format.AUTO
    """How the rows are written. auto recognises it from the columns."""
    columns: Annotated[dict[str, str], Field(max_length=16)] = {}
    """The format's column: the user's column. For example {prompt: question, completion: answer}."""
    system_prompt: Annotated[str, Field(min_length=1)] | None = None
    """A system message for rows that have none."""
    credentials: Credentials | None = None
    """For a private dataset."""


class Adapter(ApiModel):
    """What is trained beside the frozen base model (PEFT's LoraConfig)."""

    type: AdapterType = AdapterType.LORA
    """lora, dora (merged into the base model for serving, since vLLM loads no DoRA adapters), or none for full fine-tuning."""
    rank: Rank = 16
    """The adapter's rank; the values are those that vLLM can serve."""
    alpha: Annotated[int, Field(ge=1)] | None = None
    """LoRA's scaling numerator. Left out: twice the rank."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout on the adapter's input."""
    target_modules: Annotated[list[str], Field(min_length=1, max_length=32)] = ["all-linear"]
    """The modules that get an adapter, by name; all-linear is every linear layer but the output's."""

    rules = (
        Rule(
            "self.type != 'none' || !has(self.alpha)",
            "adapter.alpha has no meaning with adapter.type none; remove it, or choose lora or dora",
            lambda adapter: adapter.type != AdapterType.NONE or adapter.alpha is None,
            "alpha",
        ),
    )


class Resources(ApiModel):
    """A container's resources, as in a Pod."""

    limits: Annotated[dict[str, Quantity], Field(max_length=16)] = {}
    """The most the container may use, for example {nvidia.com/gpu: 1}."""
    requests: Annotated[dict[str, Quantity], Field(max_length=16)] = {}
    """What the node must have free for it."""


class Toleration(ApiModel):
    """A Pod's toleration."""

    key: str | None = None
    """The taint's key."""
    operator: Literal["Exists", "Equal"] | None = None
    """Exists or Equal."""
    value: str | None = None
    """The taint's value."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """The taint's effect; left out: all effects."""
    toleration_seconds: int | None = None
    """How long a NoExecute taint is tolerated."""


class SecretKey(ApiModel):
    """A key of a Secret."""

    name: Annotated[str, Field(min_length=1)]
    """The Secret's name."""
    key: Annotated[str, Field(min_length=1)]
    """The key in it."""


class ValueFrom(ApiModel):
    """Where an environment variable's value comes from."""

    secret_key_ref: SecretKey
    """A key of a Secret."""


class EnvVar(ApiModel):
    """An environment variable."""

    name: Annotated[str, Field(min_length=1)]
    """The variable's name."""
    value: str | None = None
    """Its value."""
    value_from: ValueFrom | None = None
    """Where its value comes from, in place of value."""

    rules = (
        Rule(
            "has(self.value) != has(self.valueFrom)",
            "an environment variable takes either value or valueFrom",
            lambda env: (env.value is None) != (env.value_from is None),
        ),
    )


class Pod(ApiModel):
    """What the cluster's owner may want to say about the pods; the rest of the PodSpec is the operator's."""

    node_selector: dict[str, str] = {}
    """Labels of the nodes the pods may run on."""
    tolerations: list[Toleration] = []
    """Taints the pods tolerate."""
    affinity: Opaque = {}
    """Affinity, as in a Pod."""
    service_account_name: str | None = None
    """The pods' service account; its token is not mounted."""
    image_pull_secrets: list[LocalObject] = []
    """Secrets for the image registry."""
    priority_class_name: str | None = None
    """The pods' priority class."""
    labels: dict[str, str] = {}
    """Labels added to the pods."""
    annotations: dict[str, str] = {}
    """Annotations added to the pods."""
    env: list[EnvVar] = []
    """Environment variables added to the main container."""


class Training(ApiModel):
    """How the model learns."""

    method: Method = Method.SFT
    """sft: supervised fine-tuning."""
    adapter: Adapter = Adapter()
    """What is trained beside the frozen base model."""
    epochs: Annotated[float, Field(gt=0)] | None = None
    """Passes over the training rows. Left out, with maxSteps left out: chosen, see status.plan."""
    max_steps: Annotated[int, Field(ge=1)] | None = None
    """Optimizer steps, in place of epochs."""
    learning_rate: Annotated[float, Field(gt=0, le=1)] | None = None
    """The peak learning rate. Left out: chosen, see status.plan."""
    batch_size: Annotated[int, Field(ge=1)] | None = None
    """Rows per optimizer step, over all devices. Left out: chosen, see status.plan."""
    max_length: Annotated[int, Field(ge=8)] | None = None
    """Tokens per row; status.dataset.longerThanMaxLength counts the rows that are cut. Left out: chosen, see status.plan."""
    seed: Annotated[int, Field(ge=0, le=2147483647)] = 42
    """The seed of splits, initial weights and order."""
    resources: Resources = Resources()
    """The training pod's resources."""
    max_runtime: Duration | None = None
    """The longest that preparing, and then training, may take, waiting included."""
    retries: Annotated[int, Field(ge=0, le=10)] = 3
    """How often a stage is run again after a failure that a retry can mend. Disruptions (a drained node) are not counted."""
    pod: Pod = Pod()
    """Settings of the stage pods; the pod that prepares the data runs where the training pod can."""
    image: Annotated[str, Field(min_length=1)] | None = None
    """The trainer image. Left out: the operator's."""

    rules = (
        Rule(
            "!(has(self.epochs) && has(self.maxSteps))",
            "training takes either epochs or maxSteps",
            lambda training: training.epochs is None or training.max_steps is None,
        ),
    )


class Rollout(StrEnum):
    """How a new revision takes the place of the one that serves."""

    SURGE = "surge"
    RECREATE = "recreate"


class Hosting(ApiModel):
    """How the result is served."""

    enabled: bool = True
    """false: the job ends when the artifact is there."""
    replicas: Annotated[int, Field(ge=1, le=100)] = 1
    """Serving pods. More than one need a ReadWriteMany workspace."""
    resources: Resources = Resources()
    """The serving pod's resources; an accelerator among its limits selects the GPU image."""
    context_length: Annotated[int, Field(ge=16)] | None = None
    """The longest prompt and answer together, in tokens. Left out: chosen, see status.plan."""
    rollout: Rollout = Rollout.SURGE
    """surge: the old revision serves until the new one answers, which needs accelerators for both. recreate: the old one gives its accelerators to the new one's training and hosting, and comes back if that fails."""
    pod: Pod = Pod()
    """Settings of the serving pods."""
    image: Annotated[str, Field(min_length=1)] | None = None
    """A vLLM image. Left out: the operator's."""


AccessMode = Literal["ReadWriteOnce", "ReadWriteMany"]


class WorkspaceVolume(ApiModel):
    """The volume that each revision gets for the base model, its rows, checkpoints and artifact."""

    size: Quantity = "20Gi"
    """Its size. A change acts on the next revision."""
    storage_class_name: str | None = None
    """Its storage class. Left out: the cluster's default. A change acts on the next revision."""
    access_modes: Annotated[list[AccessMode], Field(min_length=1, max_length=2)] = ["ReadWriteOnce"]
    """ReadWriteOnce keeps a revision's pods on one node; ReadWriteMany lets them spread. A change acts on the next revision."""


class FineTuneJobSpec(ApiModel):
    """What the user wants: a base model, a dataset, and how the one learns from the other and is served."""

    model: Model
    """What to start from."""
    dataset: Dataset
    """What to learn from."""
    training: Training = Training()
    """How the model learns."""
    hosting: Hosting = Hosting()
    """How the result is served."""
    workspace: WorkspaceVolume = WorkspaceVolume()
    """The volume that each revision gets."""
    suspend: bool = False
    """true stops the work on a revision; what serves goes on serving. false resumes it from its last checkpoint."""

    rules = (
        Rule(
            "self.hosting.replicas == 1 || 'ReadWriteMany' in self.workspace.accessModes",
            "hosting.replicas above 1 needs workspace.accessModes [ReadWriteMany]: "
            "a ReadWriteOnce volume holds all replicas on one node",
            lambda spec: spec.hosting.replicas == 1 or "ReadWriteMany" in spec.workspace.access_modes,
            "hosting.replicas",
        ),
    )
