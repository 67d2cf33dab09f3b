"""The FineTuneJob's status: what the operator (and the local backend) tell the user.

Numbers that may be fractions are strings, the API conventions' rule. The whole document is made anew at each reconcile
by `plan.plan`; nothing else writes it.
"""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from finetune_operator.api.requests import EngineRequests
from finetune_operator.api.rules import ApiModel
from finetune_operator.api.values import KeyedBy


class Condition(ApiModel):
    """A condition in the shape of metav1.Condition."""

    type: str
    """What the condition is about."""
    status: Literal["True", "False", "Unknown"]
    """Whether it holds."""
    reason: str
    """Why, as one documented word."""
    message: str
    """What happened, to which object, and what to do."""
    observed_generation: int
    """The generation of the manifest that it speaks of."""
    last_transition_time: datetime
    """When status last changed."""


class Phase(StrEnum):
    """The conditions in one word, for people."""

    PENDING = "Pending"
    INVALID = "Invalid"
    PREPARING = "Preparing"
    QUEUED = "Queued"
    TRAINING = "Training"
    PUBLISHING = "Publishing"
    MERGING = "Merging"
    HOSTING = "Hosting"
    EVALUATING = "Evaluating"
    PROMOTING = "Promoting"
    SERVING = "Serving"
    SUCCEEDED = "Succeeded"
    BLOCKED = "Blocked"
    SUSPENDED = "Suspended"
    REJECTED = "Rejected"
    FAILED = "Failed"


# What became of a revision that another one took the place of; as its outcome, beside the phases that end one.
SUPERSEDED = "Superseded"


class ModelStatus(ApiModel):
    """The base model as it was found."""

    commit: str | None = None
    """The commit that an hf:// revision stood for."""
    lineage: list[str] = []
    """Of an ftj:// source: the revision that it stood for, and what that goes back to in turn."""
    digest: str | None = None
    """Of an ftj:// source: the digest of the artifact that was merged."""
    license: str | None = None
    """Under which license it is, as its own card says; left out where that says nothing, or can't be read."""
    parameters: int
    """Its number of parameters."""
    context_length: int
    """The longest context that it was made for, in tokens."""


class RowsStatus(ApiModel):
    """Rows per split."""

    train: int
    """Rows to train on."""
    validation: int = 0
    """Rows whose loss is measured."""
    test: int = 0
    """Rows set aside."""


class DatasetStatus(ApiModel):
    """The dataset as it was found."""

    format: str
    """The format of its rows."""
    rows: RowsStatus
    """Rows per split."""
    tokens: int
    """Tokens of train that are trained in an epoch, by the model's own tokenizer and chat template."""
    longest: int
    """Tokens of the longest row in train, before it is cut."""
    longer_than_max_length: int
    """Rows of train that are longer than maxLength and are cut."""
    teaching_nothing: int | None = None
    """Rows of train that are left out, since no answer is left to learn: each has the weight 0 or is cut off."""
    digest: str
    """A digest of the rows."""


class PlanStatus(ApiModel):
    """The hyperparameters in use, and why those that were left out got their values."""

    batch_size: int
    """Rows per optimizer step, over all devices."""
    tokens_per_pass: int
    """Tokens that pass through the model at once, at most; a step takes as many passes as its rows need."""
    max_length: int
    """Tokens per row."""
    learning_rate: str
    """The peak learning rate."""
    total_steps: int
    """Optimizer steps."""
    context_length: int
    """The context that is served, in tokens."""
    estimated_memory: str
    """An estimate of the device memory that training needs."""
    estimated_trained_tokens: int
    """Tokens that training will see."""
    estimated_seconds: int | None = None
    """How long training will take, by an earlier revision that was trained alike (reasons say which). Where there is
    none, status.progress.eta tells it from the first steps on."""
    reasons: dict[str, str] = {}
    """Why each chosen value was chosen."""


class ProgressStatus(ApiModel):
    """How far the running stage is."""

    stage: str
    """The stage."""
    activity: str | None = None
    """What it is doing."""
    notice: str | None = None
    """What went otherwise than planned, and goes on: that memory ran out and passes became smaller."""
    trial: int | None = None
    """Of a sweep, the trial that is under way; of several pods, that of the first one."""
    trials: int | None = None
    """How many it has."""
    step: int = 0
    """Steps done."""
    total_steps: int = 0
    """Steps in all."""
    epoch: str | None = None
    """Passes over the rows so far."""
    loss: str | None = None
    """The training loss: of method sft in nats per token, of dpo the mean over pairs."""
    validation_loss: str | None = None
    """The last validation loss."""
    validation_reward_accuracy: str | None = None
    """Of method dpo: the share of validation's pairs whose chosen answer has the higher reward."""
    tokens_per_second: str | None = None
    """The speed, over all devices."""
    eta: datetime | None = None
    """When the stage is expected to end."""
    tracking: str | None = None
    """Where a tracker shows it."""


class ArtifactStatus(ApiModel):
    """The trained artifact."""

    uri: str
    """Where it lies."""
    digest: str
    """A digest over its files."""
    bytes: int
    """Its size."""


class CheckpointStatus(ApiModel):
    """Weights that training came by and that are kept."""

    name: str
    """What the annotation finetune.dev/promote takes."""
    step: int
    """The step that they are of."""
    validation_loss: str | None = None
    """Their loss on the validation rows, in nats per token."""
    uri: str
    """Where they lie."""
    digest: str
    """A digest over the files."""
    bytes: int
    """Their size."""


class TrialStatus(ApiModel):
    """A trial of a sweep."""

    number: int
    """Its number, from 1."""
    parameters: dict[str, str]
    """What was tried, by field of training."""
    outcome: str
    """Succeeded, Stopped (early, since others outdid it), or the reason that it failed for."""
    message: str | None = None
    """Why it failed."""
    validation_loss: str | None = None
    """The loss of its best weights on the validation rows; the lowest one is taken."""
    trained_tokens: int | None = None
    """Tokens that it saw."""
    seconds: int | None = None
    """How long it ran, restarts included."""
    taken: bool = False
    """Whether it is the revision's artifact."""


class LossStatus(ApiModel):
    """Losses at a step of training."""

    step: int
    """The step."""
    loss: str | None = None
    """The training loss."""
    validation_loss: str | None = None
    """The loss on the validation rows, where they were looked at."""


class TrackingStatus(ApiModel):
    """Where training was followed from outside."""

    type: str
    """The tracker."""
    url: str | None = None
    """Where it shows the revision's run."""


class UsageStatus(ApiModel):
    """What training took."""

    trained_tokens: int
    """Tokens that training saw."""
    seconds: int
    """How long it ran, restarts included."""
    accelerator_seconds: int
    """The same times the number of accelerators; 0 on CPUs."""


class ScoreStatus(ApiModel):
    """A metric's value over all rows."""

    score: str
    """The value, from 0 to 1."""
    low: str
    """The lower end of its 95% interval."""
    high: str
    """The upper end of its 95% interval."""


class ComparisonStatus(ApiModel):
    """The tuned model minus this baseline, row by row."""

    difference: str
    """The difference."""
    low: str
    """The lower end of its 95% interval."""
    high: str
    """The upper end of its 95% interval."""
    bounds: dict[str, str]
    """The confidence: what the difference exceeds with it."""


class RequestsStatus(ApiModel):
    """What the requests of a contender took."""

    prompt_tokens: str
    """Tokens of a prompt, on average."""
    completion_tokens: str
    """Tokens of an answer, on average."""
    latency_p50: str
    """Half the answers came within so many seconds."""
    latency_p95: str
    """95 of 100 answers came within so many seconds."""
    requests_per_second: str
    """Answers a second, of an endpoint kept busy."""
    too_long: int = 0
    """Rows whose prompt and right answer do not fit the context; they count as answered wrong."""
    fewer_examples: int = 0
    """Rows whose prompt has fewer examples than asked for, because no more fit the context."""
    cut: int = 0
    """Answers that ended because there was no more room for them."""
    cached_tokens: str | None = None
    """Of a prompt's tokens those in the prefix cache, on average; left out where the engine does not tell."""


class ContenderStatus(ApiModel):
    """One way to answer the test rows, measured."""

    model: str | None = None
    """Of a baseline behind an endpoint of its own: the model's name there."""
    scores: dict[str, ScoreStatus]
    """The metric: its value."""
    comparisons: dict[str, ComparisonStatus] = {}
    """The metric: the tuned model's distance from this baseline."""
    requests: RequestsStatus
    """What its requests took."""


class EvaluationStatus(ApiModel):
    """How the current revision was measured."""

    id: str
    """A digest of what was measured: the same until evaluation (but its gate) or the seed change."""
    passed: bool
    """Whether the gate is met; true where there is none."""
    metric: str
    """The metric that decides."""
    tuned: str
    """The tuned model's score."""
    baselines: dict[str, str] = {}
    """The baselines' scores."""
    best_baseline: str | None = None
    """The baseline with the highest score."""
    metric_summary: str
    """The tuned score, for `kubectl get`."""
    best_baseline_summary: str | None = None
    """The best baseline's score, for `kubectl get`."""
    prompt_tokens_per_request: dict[str, str] = {}
    """What each contender pays for in prompt tokens."""
    metrics: list[str]
    """All metrics that were measured."""
    reason: str
    """Why they were chosen."""
    rows: int
    """Rows of test that were asked."""
    leaked: int = 0
    """Rows of test left out because they stand in train."""
    near_duplicates: int = 0
    """Rows of test left out because train has nearly the same."""
    drift: ScoreStatus | None = None
    """How far the tuned model's answers to general prompts are from the base model's: 0 for the same words, 1 for none
    in common."""
    contenders: dict[str, ContenderStatus]
    """Everything that was measured, by contender."""
    report: str
    """Where the report lies."""


class Endpoint(ApiModel):
    """Where the model answers."""

    url: str
    """The base URL for an OpenAI client; of a reward model, where answers are posted to be rated."""
    model: str
    """The model's name there."""


class HistoryEntry(ApiModel):
    """A revision of the past or present."""

    revision: str
    """The revision."""
    outcome: str
    """What became of it."""
    artifact: ArtifactStatus | None = None
    """What it made."""
    metric: str | None = None
    """The tuned model's score on the metric that decided."""


class FineTuneJobStatus(ApiModel):
    """What the operator tells the user."""

    observed_generation: int = 0
    """The generation of the manifest that this status speaks of."""
    phase: Phase = Phase.PENDING
    """The conditions in one word, for people; machines read the conditions."""
    conditions: Annotated[list[Condition], KeyedBy("type")] = []
    """Accepted, DataReady, Trained, Hosted, Evaluated, Promoted and Ready; Reconciling or Stalled while they apply."""
    revision: str | None = None
    """The revision being worked on."""
    served_revision: str | None = None
    """The revision that the endpoint answers with."""
    model: ModelStatus | None = None
    """The base model as it was found."""
    dataset: DatasetStatus | None = None
    """The dataset as it was found."""
    plan: PlanStatus | None = None
    """The hyperparameters in use."""
    progress: ProgressStatus | None = None
    """How far the running stage is."""
    progress_summary: str | None = None
    """Progress in one word, for `kubectl get`."""
    artifact: ArtifactStatus | None = None
    """The current revision's artifact."""
    checkpoints: Annotated[list[CheckpointStatus], Field(max_length=10)] | None = None
    """What of the current revision's training is kept, the lowest validation loss first, which is the artifact."""
    trials: Annotated[list[TrialStatus], Field(max_length=32)] | None = None
    """Of a sweep the trials that have ended, in order."""
    curve: Annotated[list[LossStatus], Field(max_length=64)] | None = None
    """How the losses of the current revision's training went, in steps that are evenly apart; of a sweep those of the
    trial that is under way, and at its end of the one that was taken."""
    tracking: TrackingStatus | None = None
    """Where training the current revision was followed from outside."""
    usage: UsageStatus | None = None
    """What training the current revision took."""
    evaluation: EvaluationStatus | None = None
    """How the current revision was measured."""
    endpoint: Endpoint | None = None
    """Where the model answers."""
    replicas: int | None = None
    """Serving pods that there are, ready or not; autoscalers read it."""
    available_replicas: int | None = None
    """Serving pods that answer."""
    requests: EngineRequests | None = None
    """How busy they are, as of a minute ago; left out while none has told. A shared Engine (hosting.engine) has it and
    the pods in its own status."""
    selector: str | None = None
    """The serving pods' labels as a selector; autoscalers find the pods whose load they measure by it."""
    history: Annotated[list[HistoryEntry], Field(max_length=10)] = []
    """The last ten revisions, newest first."""
