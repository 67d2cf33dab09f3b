"""The FineTuneJob's spec: the one source of the CRD, of `kubectl explain` and of what the local backend accepts.

Field docstrings are the sentences users read in `kubectl explain`. `api.status` has the other half of the object,
`api.crd` turns both into the CustomResourceDefinition. A field that nothing acts on does not belong here.
"""

import re
from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Literal

from finetune_trainer.config import AdapterType, BaselineType, Format, Method, Metric
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
    test: Split = Split(fraction=0.1)
    """Rows that are set aside and never trained on: with them the result is evaluated before it is promoted. Left out:
    a tenth of train."""
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
            "(has(self.test.fraction) ? self.test.fraction : 0.0) + "
            "(has(self.validation.fraction) ? self.validation.fraction : 0.0) < 1.0",
            "the fractions of validation and test leave no row to train on: together they must stay below 1",
            lambda dataset: sum(split.fraction or 0 for split in (dataset.validation, dataset.test)) < 1,
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
    """The longest that each of preparing, training and evaluating may take, waiting included."""
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


class Baseline(ApiModel):
    """A way to use the base model without fine-tuning, measured beside the tuned one."""

    type: BaselineType
    """zero-shot: the prompt alone; few-shot: behind examples from train, the same for all; retrieval: behind the rows
    of train that are most similar to it (BM25)."""
    examples: Annotated[int, Field(ge=1, le=64)] | None = None
    """few-shot's examples. Left out: 4."""
    top_k: Annotated[int, Field(ge=1, le=64)] | None = None
    """retrieval's rows. Left out: 4."""

    rules = (
        Rule(
            "!has(self.examples) || self.type == 'few-shot'",
            "goes with type few-shot only; retrieval has topK",
            lambda baseline: baseline.examples is None or baseline.type == BaselineType.FEW_SHOT,
            "examples",
        ),
        Rule(
            "!has(self.topK) || self.type == 'retrieval'",
            "goes with type retrieval only; few-shot has examples",
            lambda baseline: baseline.top_k is None or baseline.type == BaselineType.RETRIEVAL,
            "topK",
        ),
    )


class ApiKey(ApiModel):
    """A key, by reference."""

    secret_ref: LocalObject
    """A Secret with the key OPENAI_API_KEY."""


class Judge(ApiModel):
    """The model that the metric judge asks which of two answers is better."""

    url: Annotated[
        str,
        Field(max_length=1024),
        Rule(
            "self.matches('^https?://[^/?#]+(/[^?#]*)?$')",
            "must be the URL of an OpenAI-compatible endpoint, such as https://HOST/v1",
            lambda url: re.fullmatch("https?://[^/?#]+(/[^?#]*)?", url) is not None,
        ),
    ]
    """Its OpenAI-compatible endpoint, such as https://HOST/v1."""
    model: Annotated[str, Field(min_length=1, max_length=255)]
    """The model's name there."""
    credentials: ApiKey | None = None
    """Its key. Left out: it asks for none."""


class Gate(ApiModel):
    """What the tuned model has to reach before it is promoted."""

    metric: Metric | None = None
    """The metric that decides. Left out: the first of metrics."""
    minimum: Annotated[float, Field(ge=0, le=1)] | None = None
    """The score that the tuned model reaches at least."""
    margin: Annotated[float, Field(ge=-1, lt=1)] = 0.0
    """The tuned score exceeds the best baseline's by more than this, at the given confidence."""
    confidence: Annotated[
        float,
        Rule(
            "self in [0.8, 0.9, 0.95, 0.99]",
            "must be 0.8, 0.9, 0.95 or 0.99",
            lambda confidence: confidence in (0.8, 0.9, 0.95, 0.99),
        ),
    ] = 0.95
    """How sure that has to be, by the paired bootstrap over the test rows: 0.8, 0.9, 0.95 or 0.99."""


class Evaluation(ApiModel):
    """Whether it was worth it: how the result is measured against the base model, and what it has to reach."""

    enabled: bool = True
    """false: nothing is measured, and every result is promoted."""
    metrics: Annotated[list[Metric], Field(min_length=1, max_length=4)] | None = None
    """The metrics; the first decides. Left out: chosen from the rows, and status.evaluation.reason says why."""
    baselines: Annotated[list[Baseline], Field(max_length=3)] | None = None
    """What the tuned model is compared with, on the base model. Left out: zero-shot, few-shot with 4 examples and
    retrieval of 4 rows."""
    sample_size: Annotated[int, Field(ge=1, le=100000)] = 200
    """At most so many rows of test are asked, chosen by the seed."""
    judge: Judge | None = None
    """Another model as the judge of answers, for the metric judge."""
    gate: Gate | None = None
    """What has to be reached for promotion. Left out: everything is promoted, and the condition says so."""

    rules = (
        Rule(
            "!has(self.metrics) || self.metrics.all(a, self.metrics.exists_one(b, a == b))",
            "names a metric twice",
            lambda evaluation: _distinct(evaluation.metrics),
            "metrics",
        ),
        Rule(
            "!has(self.baselines) || self.baselines.all(a, self.baselines.exists_one(b, a.type == b.type))",
            "has a type twice: there is one baseline of each",
            lambda evaluation: _distinct([each.type for each in evaluation.baselines or []]),
            "baselines",
        ),
        Rule(
            "self.enabled || !has(self.gate)",
            "needs a measurement: remove it, or set evaluation.enabled to true",
            lambda evaluation: evaluation.enabled or evaluation.gate is None,
            "gate",
        ),
        Rule(
            "(has(self.metrics) && 'judge' in self.metrics) == has(self.judge)",
            "and the metric judge belong together: give both, or neither",
            lambda evaluation: (Metric.JUDGE in (evaluation.metrics or [])) == (evaluation.judge is not None),
            "judge",
        ),
        Rule(
            "!has(self.gate) || !has(self.gate.metric) || (has(self.metrics) && self.gate.metric in self.metrics)",
            "must be one of evaluation.metrics: add it there",
            lambda evaluation: (
                evaluation.gate is None
                or evaluation.gate.metric is None
                or evaluation.gate.metric in (evaluation.metrics or [])
            ),
            "gate.metric",
        ),
    )


def _distinct(values: Sequence[str] | None) -> bool:
    return values is None or len(set(values)) == len(values)


class Rollout(StrEnum):
    """How a new revision takes the place of the one that serves."""

    SURGE = "surge"
    RECREATE = "recreate"


class Hosting(ApiModel):
    """How the result is served."""

    enabled: bool = True
    """false: the job ends when the artifact is there, and evaluated."""
    replicas: Annotated[int, Field(ge=1, le=100)] = 1
    """Serving pods. More than one need a ReadWriteMany workspace."""
    resources: Resources = Resources()
    """The serving pod's resources; an accelerator among its limits selects the GPU image."""
    context_length: Annotated[int, Field(ge=16)] | None = None
    """The longest prompt and answer together, in tokens. Left out: chosen, see status.plan."""
    rollout: Rollout = Rollout.SURGE
    """surge: the old revision serves until the new one answers, which needs accelerators for both. recreate: the old
    one gives its accelerators to the new one's training and hosting, and comes back if that fails."""
    revision_history_limit: Annotated[int, Field(ge=0, le=9)] = 1
    """Earlier revisions whose volumes are kept, so that the annotation finetune.dev/promote: REVISION brings one back
    without training."""
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
    evaluation: Evaluation = Evaluation()
    """Whether it was worth it. Left out: measured, and nothing demanded."""
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
