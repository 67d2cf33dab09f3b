"""The FineTuneJob's spec: the one source of the CRD, of `kubectl explain` and of what the local backend accepts.

Field docstrings are the sentences users read in `kubectl explain`. `api.status` has the other half of the object,
`api.crd` turns both into the CustomResourceDefinition. A field that nothing acts on does not belong here.
"""

from enum import StrEnum
from typing import Annotated, Literal

from finetune_trainer.config import AdapterType, Format, Method
from pydantic import ConfigDict, Field

from finetune_operator.api.pods import LocalObject, Pod, Resources
from finetune_operator.api.rules import ApiModel, Rule
from finetune_operator.api.status import FineTuneJobStatus
from finetune_operator.api.values import DataUri, Duration, Fraction, JobName, ModelUri, Size

GROUP = "finetune.dev"
VERSION = "v1alpha1"
KIND = "FineTuneJob"
PLURAL = "finetunejobs"
API_VERSION = f"{GROUP}/{VERSION}"

# The ranks that vLLM can serve (`--max-lora-rank`), without 1.
Rank = Literal[8, 16, 32, 64, 128, 256, 320, 512]


class Credentials(ApiModel):
    """Credentials, by reference."""

    secret_ref: LocalObject
    """A Secret with any of the keys HF_TOKEN, HF_ENDPOINT, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN,
    AWS_REGION and AWS_ENDPOINT_URL."""


class Model(ApiModel):
    """What to start from."""

    source: ModelUri
    """The base model: hf://ORG/NAME, s3://BUCKET/PREFIX or pvc://CLAIM/PATH (and file://PATH for `finetune run`)."""
    revision: Annotated[str, Field(min_length=1, max_length=255)] | None = None
    """A branch, tag or commit of an hf:// model. It is resolved to a commit when the data is prepared, and
    status.model.commit records which. Left out: main."""
    credentials: Credentials | None = None
    """For a gated or private model."""
    trust_remote_code: bool = False
    """Run the Python code that comes with the model. Off: such a model is refused."""

    rules = (
        Rule(
            "!has(self.revision) || self.source.startsWith('hf://')",
            "goes with an hf:// source only: remove it, or choose such a source",
            lambda model: model.revision is None or model.source.startswith("hf://"),
            "revision",
        ),
    )


class Train(ApiModel):
    """The rows to train on."""

    source: DataUri
    """hf://datasets/ORG/NAME/FILE, s3://BUCKET/KEY, pvc://CLAIM/PATH or configmap://NAME/KEY (and file://PATH for
    `finetune run`). JSON Lines, JSON, CSV or Parquet."""


class Split(ApiModel):
    """A split: rows of its own, or a fraction of train."""

    source: DataUri | None = None
    """Rows of its own, in the same places and formats as train."""
    fraction: Fraction | None = None
    """The fraction of train's rows that is set aside, chosen by the seed."""

    rules = (
        Rule(
            "has(self.source) != has(self.fraction)",
            "needs either source or fraction, and not both",
            lambda split: (split.source is None) != (split.fraction is None),
        ),
    )


class Dataset(ApiModel):
    """What to learn from."""

    train: Train
    """The rows to train on."""
    validation: Split = Split(fraction=0.1)
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

    rules = (
        Rule(
            "!has(self.test) || !has(self.test.fraction) || "
            "self.test.fraction + (has(self.validation.fraction) ? self.validation.fraction : 0.0) < 1.0",
            "the fractions of validation and test leave no row to train on: together they must stay below 1",
            lambda dataset: sum(split.fraction or 0 for split in (dataset.validation, dataset.test) if split) < 1,
            "test",
        ),
    )


class Adapter(ApiModel):
    """What is trained beside the frozen base model (PEFT's LoraConfig)."""

    type: AdapterType = AdapterType.LORA
    """lora, dora (merged into the base model for serving, since vLLM loads no DoRA adapters), or none for full
    fine-tuning."""
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
            "has no meaning with adapter.type none: remove it, or choose lora or dora",
            lambda adapter: adapter.type != AdapterType.NONE or adapter.alpha is None,
            "alpha",
        ),
    )


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
    """Tokens per row; status.dataset.longerThanMaxLength counts the rows that are cut. Left out: chosen, see
    status.plan."""
    seed: Annotated[int, Field(ge=0, le=2147483647)] = 42
    """The seed of splits, initial weights and order."""
    resources: Resources = Resources()
    """The training pod's resources."""
    max_runtime: Duration | None = None
    """The longest that preparing, and then training, may take, waiting included."""
    retries: Annotated[int, Field(ge=0, le=10)] = 3
    """How often a stage is run again after a failure that a retry can mend. Disruptions (a drained node) are not
    counted."""
    pod: Pod = Pod()
    """Settings of the stage pods; the pod that prepares the data runs where the training pod can."""
    image: Annotated[str, Field(min_length=1)] | None = None
    """The trainer image. Left out: the operator's."""

    rules = (
        Rule(
            "!(has(self.epochs) && has(self.maxSteps))",
            "training takes either epochs or maxSteps",
            lambda training: training.epochs is None or training.max_steps is None,
            "maxSteps",
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
    """surge: the old revision serves until the new one answers, which needs accelerators for both. recreate: the old
    one gives its accelerators to the new one's training and hosting, and comes back if that fails."""
    pod: Pod = Pod()
    """Settings of the serving pods."""
    image: Annotated[str, Field(min_length=1)] | None = None
    """A vLLM image. Left out: the operator's."""


AccessMode = Literal["ReadWriteOnce", "ReadWriteMany"]


class WorkspaceVolume(ApiModel):
    """The volume that each revision gets for the base model, its rows, checkpoints and artifact."""

    size: Size = "20Gi"
    """Its size. A change acts on the next revision."""
    storage_class_name: str | None = None
    """Its storage class. Left out: the cluster's default. A change acts on the next revision."""
    access_modes: Annotated[list[AccessMode], Field(min_length=1, max_length=2)] = ["ReadWriteOnce"]
    """ReadWriteOnce keeps a revision's pods on one node; ReadWriteMany lets them spread. A change acts on the next
    revision."""


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
            "self.hosting.replicas <= 1 || 'ReadWriteMany' in self.workspace.accessModes",
            "above 1 needs workspace.accessModes [ReadWriteMany]: "
            "a ReadWriteOnce volume holds all replicas on one node",
            lambda spec: spec.hosting.replicas == 1 or "ReadWriteMany" in spec.workspace.access_modes,
            "hosting.replicas",
        ),
    )


class Metadata(ApiModel):
    """The part of an object's metadata that the local backend reads; the API server checks the rest."""

    model_config = ConfigDict(extra="ignore")

    name: JobName
    """The FineTuneJob's name, and the served model's."""
    namespace: str | None = None
    """Its namespace."""


class FineTuneJob(ApiModel):
    """A base model and a dataset, and what becomes of them: a fine-tuned model that is served."""

    api_version: Literal["finetune.dev/v1alpha1"]
    """finetune.dev/v1alpha1."""
    kind: Literal["FineTuneJob"]
    """FineTuneJob."""
    metadata: Metadata
    """Standard object metadata."""
    spec: FineTuneJobSpec
    """What the user wants."""
    status: FineTuneJobStatus | None = None
    """What the operator tells."""
