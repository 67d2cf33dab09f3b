"""What a stage tells whoever launched it: its progress while it runs, its result when it ends.

Progress is served as JSON on `/status`; a result travels in the termination message (`outcome`) and lies in the
workspace, written last, as the mark that the stage is complete. The operator copies both into the FineTuneJob's status.
"""

from datetime import datetime
from typing import Annotated

from pydantic import Field

from finetune_trainer.contract.config import Contract, Format, Metric, OnSensitive, TrackerType
from finetune_trainer.contract.curve import Curve, Finite
from finetune_trainer.contract.sweep import told

STATUS_PORT = 8080
# What reports call the tuned model, beside the names of its baselines.
TUNED = "tuned"
# A number of things: what JSON carries exactly, and what a FineTuneJob's status takes.
Count = Annotated[int, Field(ge=0, le=2**53)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Progress(Contract):
    """How far a running stage is. Loss in nats per token; tokens_per_second over all devices; eta in UTC.

    `validation_reward_accuracy`: of the methods that rank answers, the share of validation's rows whose rewards are as
    they should be. Its loss is the mean of its pairs'.
    `tracking`: where a tracker shows it. `notice`: what went otherwise than planned, and goes on. `trial`: of a sweep,
    which of how many `trials` it is; `ended`: those that had when it began. `curve`: the losses so far, those of
    runs that it resumes included.
    """

    stage: str
    trial: Count | None = None
    trials: Count | None = None
    ended: "tuple[Trial, ...]" = ()
    activity: str = ""
    notice: str = ""
    step: Count = 0
    total_steps: Count = 0
    epoch: Amount | None = None
    loss: Finite | None = None
    validation_loss: Finite | None = None
    validation_reward_accuracy: Amount | None = None
    tokens_per_second: Amount | None = None
    eta: datetime | None = None
    tracking: str | None = None
    curve: Curve = ()


class Rows(Contract):
    """Rows per split."""

    train: Count
    validation: Count = 0
    test: Count = 0


class DatasetInfo(Contract):
    """The rows as prepare found them. `rows` and `tokens` are what is trained, after the cut to maxLength.

    Of train's: `longest`, before the cut; `longer_than_max_length`, rows that are cut; `teaching_nothing`, rows that
    are left out since no answer is left to learn in them.
    """

    format: Format
    rows: Rows
    tokens: Count
    longest: Count
    longer_than_max_length: Count
    digest: str
    teaching_nothing: Count = 0


class ModelInfo(Contract):
    """The base model as prepare resolved it. `digest` and `lineage`: of one that another FineTuneJob has trained.
    `license`: None where its card says none.
    """

    commit: str | None = None
    digest: str | None = None
    lineage: tuple[str, ...] = ()
    license: str | None = None
    parameters: Count
    context_length: Count


class FetchResult(Contract):
    """A model that was fetched for an engine: the commit that a hub's revision stood for."""

    commit: str | None = None


class Plan(Contract):
    """The hyperparameters in use, chosen or given, and why each chosen one was (`reasons`: field → sentence)."""

    batch_size: Count
    tokens_per_pass: Count
    max_length: Count
    learning_rate: float
    total_steps: Count
    context_length: Count
    estimated_memory_bytes: Count
    estimated_trained_tokens: Count
    reasons: dict[str, str] = {}


class PrepareResult(Contract):
    """What prepare leaves in `prepared.json`. `revision`: the run config's that it was made for.

    `on_sensitive`: what it was told to do about secrets and personal data. `formats`: what the base model can be
    published as, of that which was asked for. `warnings`: what is odd about the rows, a sentence each;
    data-report.json has more.
    """

    revision: str = ""
    on_sensitive: OnSensitive = OnSensitive.WARN
    formats: tuple[str, ...] = ()
    model: ModelInfo
    dataset: DatasetInfo
    plan: Plan
    warnings: tuple[str, ...] = ()


class ArtifactInfo(Contract):
    """The artifact: digest over its files, and their size."""

    digest: str
    bytes: Count


class Usage(Contract):
    """What training took.

    `seconds`: of the steps that led to the artifact. `accelerator_seconds`: of every device and every try, the loading
    of the model included; zero on CPUs.
    """

    trained_tokens: Count
    seconds: float
    accelerator_seconds: float = 0


class Checkpoint(Contract):
    """The weights of a step that were kept: their loss on the validation rows, and a directory's digest and size."""

    step: Count
    validation_loss: float | None
    digest: str
    bytes: Count


class Tracked(Contract):
    """What became of a tracker's run. `url`: where it is shown; `problem`: what of it did not get there, a sentence."""

    type: TrackerType
    url: str | None = None
    problem: str = ""


STOPPED = "Stopped"


class Trial(Contract):
    """What became of a trial of a sweep. `outcome`: Succeeded, Stopped (early, since others outdid it), or the reason
    that it failed for, with its `message`.

    `validation_loss`: of what its artifact is; `usage`: there is none where it failed. `taken`: it is the revision's.
    """

    number: Count
    parameters: dict[str, int | float]
    outcome: str
    message: str = ""
    validation_loss: Finite | None = None
    usage: Usage | None = None
    taken: bool = False


class TrainResult(Contract):
    """What train leaves in `artifact/artifact.json`. The losses are those of the last step.

    `checkpoints`: what was kept, the best first, which is the artifact. Empty where there are no rows for validation:
    the artifact is of the last step then. `validation_reward_accuracy`: see Progress, at the artifact's step. `notice`:
    what went otherwise than planned. `spent`: of a training that ended before its last step since its budget was used
    up, a sentence. `stopped`: it ended early, since other trials outdid it. `trials`: of a sweep all, in order;
    everything else is told of the one that was taken, but `usage`, which is of all together. `curve`: in the
    termination message alone, where there is room for it; beside artifact.json lies metrics.jsonl, which has it whole.
    """

    artifact: ArtifactInfo
    usage: Usage
    steps: Count
    loss: float | None = None
    validation_loss: float | None = None
    validation_reward_accuracy: Amount | None = None
    notice: str = ""
    spent: str = ""
    checkpoints: tuple[Checkpoint, ...] = ()
    tracked: Tracked | None = None
    stopped: bool = False
    trials: tuple[Trial, ...] = ()
    curve: Curve = Field((), exclude_if=lambda curve: not curve)

    @property
    def taken(self) -> int | None:
        """The number of the trial that was taken; None where there was no sweep."""
        return next((trial.number for trial in self.trials if trial.taken), None)

    @property
    def swept(self) -> str:
        """Which trial was taken, as a sentence; empty where there was no sweep."""
        best = next((trial for trial in self.trials if trial.taken), None)
        if best is None:
            return ""
        failed = sum(trial.usage is None for trial in self.trials)
        stopped = sum(trial.outcome == STOPPED for trial in self.trials)
        loss = "" if best.validation_loss is None else f", with the lowest validation loss, {best.validation_loss:.4f}"
        others = f"; {stopped} stopped early" if stopped else ""
        others += f"; {failed} failed (status.trials says why)" if failed else ""
        return f"Trial {best.number} of {len(self.trials)} was taken ({told(best.parameters)}){loss}{others}."

    @property
    def chosen(self) -> str:
        """Why the artifact is not of the last step, as a sentence; empty where it is."""
        best = self.checkpoints[0] if self.checkpoints else None
        if best is None or best.step == self.steps:
            return ""
        lowest, last = (
            "no number" if loss is None else f"{loss:.4f}" for loss in (best.validation_loss, self.validation_loss)
        )
        return (
            f"The artifact has the weights of step {best.step} of {self.steps}, where the validation loss was lowest: "
            f"{lowest}, and {last} at the end."
        )


class PublishResult(Contract):
    """What publish did: the artifact's address outside of the workspace.

    `merged`: that of the whole model; `gguf`: that of the whole model as a GGUF file.

    `lineage`: of an adapter that was published without a base model that another FineTuneJob has trained, what that
    goes back to, itself first.
    """

    uri: str
    artifact: ArtifactInfo
    merged: str | None = None
    gguf: str | None = None
    lineage: tuple[str, ...] = ()


class MergeResult(Contract):
    """What merge did. `artifact`: the digest of what was merged; `bytes`: the size of the whole model that it made.

    `apart`: why the adapter is to be served in its place, as a sentence; there is no whole model then.
    """

    artifact: str
    bytes: int = 0
    apart: str | None = None


# The confidences that a gate can ask for.
CONFIDENCES = ("0.8", "0.9", "0.95", "0.99")


class Score(Contract):
    """A metric's value over all rows, in 0..1, and its 95% interval."""

    score: float
    low: float
    high: float


class Comparison(Contract):
    """Tuned minus baseline, paired by row: the difference, its 95% interval, and one-sided lower bounds.

    `bounds`: confidence (one of CONFIDENCES) to the value that the difference exceeds with that confidence.
    """

    difference: float
    low: float
    high: float
    bounds: dict[str, float]


class Requests(Contract):
    """What the requests of one contender took. Tokens are means per request; latencies in seconds.

    `too_long`: rows whose prompt and right answer did not fit the context, even without examples, and count as answered
    wrong. `fewer_examples`: rows whose prompt got fewer examples than asked for, since no more fitted. `cut`: answers
    that ended because there was no more room. `cached_tokens`: of those of prompts, what stood in the engine's prefix
    cache; None where it does not tell.
    """

    prompt_tokens: float
    completion_tokens: float
    latency_p50: float
    latency_p95: float
    requests_per_second: float
    too_long: Count = 0
    fewer_examples: Count = 0
    cut: Count = 0
    cached_tokens: float | None = None


class Contender(Contract):
    """One way to answer, measured. `comparisons` of the tuned model with it: empty for the tuned model itself.

    `model`: behind an endpoint of its own, the model's name there; None on the engine that serves. Such a one tells no
    likelihoods, and has no score by them. `unread`: judgements of it, two for each row, in which the judge named
    neither answer nor a tie; they count as ties.
    """

    model: str | None = None
    scores: dict[Metric, Score]
    comparisons: dict[Metric, Comparison] = {}
    requests: Requests
    unread: Count = 0

    @property
    def remote(self) -> bool:
        """Whether it answers elsewhere, by prices and with a speed of its own."""
        return self.model is not None


class Benchmark(Contract):
    """A task of lm-evaluation-harness by its first metric. No `base`: that model is not served beside the tuned one."""

    metric: str
    tuned: float
    base: float | None = None


class EvaluateResult(Contract):
    """What evaluate measured. The first of `metrics` decides; `reason` says why it was chosen.

    `leaked` and `near_duplicates`: rows of test left out since they stand in train, exactly or nearly. `baselines` by
    label; none is on the base model where that was not asked, and there is no `drift` then: how far the tuned model's
    answers to general prompts are from the base model's, 0 for the same words and 1 for none in common. `benchmarks` by
    task, where the manifest names some; they decide nothing.
    """

    evaluation: str
    rows: Count
    leaked: Count
    near_duplicates: Count
    metrics: tuple[Metric, ...]
    reason: str
    tuned: Contender
    baselines: dict[str, Contender] = {}
    drift: Score | None = None
    benchmarks: dict[str, Benchmark] = {}
