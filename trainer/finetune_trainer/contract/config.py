"""The run config: the one file that tells the trainer what to do.

The operator and the local backend render it, every stage of the trainer parses it, and it is the immutable record of
what a revision's weights depend on. Pydantic only: importing this module costs the operator no torch.
What evaluate is told lies beside it, in a file of its own: it changes no weight.
"""

import hashlib
import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel


class Contract(BaseModel):
    """Base of all that is written to or read from a file or a pod: camelCase outside, frozen, nothing unknown."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True, extra="forbid")


class Format(StrEnum):
    """How a dataset's rows are written: TRL's dataset types, instruction as Alpaca wrote it, ShareGPT's chats, and
    preferences as OpenAI takes them.
    """

    AUTO = "auto"
    CHAT = "chat"
    PROMPT_COMPLETION = "prompt-completion"
    TEXT = "text"
    INSTRUCTION = "instruction"
    SHAREGPT = "sharegpt"
    PREFERENCE = "preference"
    OPENAI_PREFERENCE = "openai-preference"
    UNPAIRED_PREFERENCE = "unpaired-preference"


class OnSensitive(StrEnum):
    """What becomes of rows that seem to hold secrets or personal data: told, refused, or not looked for."""

    WARN = "warn"
    FAIL = "fail"
    IGNORE = "ignore"


class Method(StrEnum):
    """How the model learns from the rows."""

    SFT = "sft"
    DPO = "dpo"
    KTO = "kto"
    REWARD = "reward"

    @property
    def writes(self) -> bool:
        """Whether what is trained writes answers. A reward model has a head that makes one number of them instead."""
        return self != Method.REWARD


class DpoLoss(StrEnum):
    """TRL's loss types of DPO: those that judge each pair by itself, and sft, the loss of the chosen answer alone."""

    SIGMOID = "sigmoid"
    SIGMOID_NORM = "sigmoid_norm"
    HINGE = "hinge"
    IPO = "ipo"
    ROBUST = "robust"
    NCA_PAIR = "nca_pair"
    BCO_PAIR = "bco_pair"
    APO_ZERO = "apo_zero"
    APO_DOWN = "apo_down"
    SFT = "sft"


class AdapterType(StrEnum):
    """What is trained: a LoRA adapter, one beside weights of four bits, a DoRA adapter, or (none) every weight."""

    LORA = "lora"
    QLORA = "qlora"
    DORA = "dora"
    NONE = "none"

    @property
    def beside_base(self) -> bool:
        """Whether one engine answers as the base model and as what was trained: vLLM loads LoRA adapters alone.

        What QLoRA trains is one, and is served beside the weights as they are stored.
        """
        return self in (AdapterType.LORA, AdapterType.QLORA)


class Source(Contract):
    """Where a file or a directory comes from: the URI as the user wrote it, and its path when somebody mounted it.

    `checksum`: of the file that is meant, sha256: and its hex digits.
    """

    uri: str
    path: Path | None = None
    checksum: str | None = None


class Origin(Contract):
    """Another FineTuneJob's artifact that a base model is made of (`training.inherit`).

    `digest`: as the record of the revision has it, whose files lie in `files`; `step`: of the checkpoint that is meant
    in place of the artifact. `base`: what that was trained from; without a path it lies among the files, or where a
    link among them leads, into `cache`. `lineage`: what all of it goes back to, the nearest first. `bucket`: where the
    files are brought from, which are on no volume.
    """

    digest: str
    files: Path
    step: int | None = None
    base: Source
    cache: Source | None = None
    lineage: tuple[str, ...] = ()
    bucket: str | None = None


class ModelConfig(Contract):
    """The base model. `cache`: where others have it, too; without one prepare brings it for this revision alone."""

    source: Source
    revision: str | None = None
    trust_remote_code: bool = False
    origin: Origin | None = None
    cache: Source | None = None

    @property
    def name(self) -> str:
        """Its id on the hub, or the URI that the manifest gave; of a local path no more than its end."""
        uri = self.source.uri
        local = uri.startswith("file://")
        return uri.rstrip("/").rpartition("/")[2] if local else uri.removeprefix("hf://")


class SplitConfig(Contract):
    """A split with a source of its own, or a fraction cut from train."""

    source: Source | None = None
    fraction: Annotated[float, Field(gt=0, lt=1)] | None = None

    @model_validator(mode="after")
    def _one_of(self) -> "SplitConfig":
        if (self.source is None) == (self.fraction is None):
            raise ValueError("a split has either a source or a fraction")
        return self


class DatasetConfig(Contract):
    """The rows to learn from. `columns` maps the format's column to the user's."""

    train: Source
    validation: SplitConfig | None = None
    test: SplitConfig | None = None
    format: Format = Format.AUTO
    columns: dict[str, str] = {}
    system_prompt: str | None = None


class AdapterConfig(Contract):
    """PEFT's LoraConfig, as far as the manifest exposes it, and the one setting of its LoRA+ optimizer.

    `modules_to_save`: the modules that are trained as a whole beside it.
    """

    type: AdapterType = AdapterType.LORA
    rank: int = 16
    alpha: int | None = None
    dropout: float = 0.0
    use_rslora: bool = False
    loraplus_lr_ratio: float | None = None
    target_modules: tuple[str, ...] = ("all-linear",)
    modules_to_save: tuple[str, ...] = ()

    @property
    def beside_base(self) -> bool:
        """See AdapterType; vLLM loads no adapter that brings whole modules."""
        return self.type.beside_base and not self.modules_to_save


class DpoConfig(Contract):
    """TRL's DPOConfig, as far as the manifest exposes it. No `loss_weights`: each loss counts as 1."""

    beta: float = 0.1
    loss_type: tuple[DpoLoss, ...] = (DpoLoss.SIGMOID,)
    loss_weights: tuple[float, ...] | None = None
    label_smoothing: float = 0.0


class KtoConfig(Contract):
    """TRL's KTOConfig, as far as the manifest exposes it."""

    beta: float = 0.1
    desirable_weight: float = 1.0
    undesirable_weight: float = 1.0


class RewardConfig(Contract):
    """TRL's RewardConfig, as far as the manifest exposes it."""

    center_rewards_coefficient: float | None = None


class SweepConfig(Contract):
    """What is tried: every combination of the values of `parameters`, by their path in training, or `max_trials` of
    them. `finetune_trainer.contract.sweep` makes trials of it. `early_stopping`: a trial that others outdo ends early.
    """

    parameters: dict[str, tuple[int | float, ...]]
    max_trials: int = 16
    early_stopping: bool = False


class TrainingConfig(Contract):
    """Hyperparameters; those left out are chosen by prepare (`finetune_trainer.contract.results.Plan`)."""

    method: Method = Method.SFT
    dpo: DpoConfig | None = None
    kto: KtoConfig | None = None
    reward: RewardConfig | None = None
    adapter: AdapterConfig = AdapterConfig()
    epochs: float | None = None
    max_steps: int | None = None
    learning_rate: float | None = None
    batch_size: int | None = None
    max_length: int | None = None
    sweep: SweepConfig | None = None
    seed: int = 42

    @property
    def beside_base(self) -> bool:
        """Whether one engine answers as the base model and as what was trained: see AdapterConfig.

        Beside a head of its own a base model could not answer any more.
        """
        return self.adapter.beside_base and self.method.writes

    @property
    def merged(self) -> bool:
        """Whether the adapter is merged with its base model into a whole model beside it, which is what is served."""
        return not self.beside_base and self.adapter.type != AdapterType.NONE


class Sharding(StrEnum):
    """Whether weights, gradients and optimizer states are divided among the devices of a training (FSDP2): full, none,
    or, auto, where one device can't hold them. No weight depends on it.
    """

    AUTO = "auto"
    NONE = "none"
    FULL = "full"


class TrackerType(StrEnum):
    """Where a training is followed from outside."""

    MLFLOW = "mlflow"
    TENSORBOARD = "tensorboard"
    TRACKIO = "trackio"
    WANDB = "wandb"


class TrackingConfig(Contract):
    """A tracker; no weight depends on it.

    `url`: its server. `project`: MLflow's experiment, or the others' project. `entity`, `name` and `tags`: Weights &
    Biases' own; without `name` the run has the revision's.
    """

    type: TrackerType
    url: str | None = None
    project: str | None = None
    entity: str | None = None
    name: str | None = None
    tags: tuple[str, ...] = ()


# What a Secret for a tracker may hold; in a pod each has FINETUNE_TRACKING_ before it.
TRACKING_KEYS = {
    TrackerType.MLFLOW: ("MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"),
    TrackerType.TENSORBOARD: (),
    TrackerType.TRACKIO: ("TRACKIO_WRITE_TOKEN",),
    TrackerType.WANDB: ("WANDB_API_KEY",),
}


class RunConfig(Contract):
    """Everything that prepare and train are told. `name` is the FineTuneJob's and the served model's."""

    name: str
    revision: str
    model: ModelConfig
    dataset: DatasetConfig
    training: TrainingConfig = TrainingConfig()

    @property
    def base_name(self) -> str:
        """The model name under which the untuned base model answers beside the tuned one."""
        return base_name(self.name)


def base_name(name: str) -> str:
    """The model name under which the base model answers beside a tuned one of that name."""
    return f"{name}-base"


class Metric(StrEnum):
    """How an answer is held against its reference; docs/metrics.md defines each."""

    EXACT_MATCH = "exact_match"
    TOKEN_F1 = "token_f1"  # noqa: S105  (a metric)
    ROUGE_L = "rouge_l"
    JSON_VALID = "json_valid"
    JSON_FIELDS_F1 = "json_fields_f1"
    LABEL_ACCURACY = "label_accuracy"
    MACRO_F1 = "macro_f1"
    SQL_EXECUTION = "sql_execution"
    INVERSE_PERPLEXITY = "inverse_perplexity"
    REWARD_ACCURACY = "reward_accuracy"
    RANKING_ACCURACY = "ranking_accuracy"
    JUDGE = "judge"

    @property
    def likely(self) -> bool:
        """Whether it is made of likelihoods, which the engine tells and an endpoint does not."""
        return self in (Metric.INVERSE_PERPLEXITY, Metric.REWARD_ACCURACY)


class BaselineType(StrEnum):
    """What would be used without fine-tuning: the base model in one way or another, or another model's endpoint."""

    ZERO_SHOT = "zero-shot"
    FEW_SHOT = "few-shot"
    RETRIEVAL = "retrieval"
    STRUCTURED = "structured"
    ENDPOINT = "endpoint"


class EndpointConfig(Contract):
    """A model behind an OpenAI-compatible endpoint such as https://HOST/v1."""

    url: str
    model: str


class BaselineConfig(Contract):
    """One baseline. `examples`: rows of train in each prompt; fixed ones for few-shot, the most similar for retrieval.

    The others have none. `prompt`: the task in words, as the system message. `endpoint`: of that type; reports call it
    by `name`, or by its model.
    """

    type: BaselineType
    examples: Annotated[int, Field(ge=0)] = 0
    prompt: str | None = None
    name: str | None = None
    endpoint: EndpointConfig | None = None

    @property
    def label(self) -> str:
        """What reports call it."""
        return self.name or self.endpoint.model if self.endpoint else self.type.value


# As many as people put into a prompt by hand; more cost prompt tokens on every request.
EXAMPLES = 4
DEFAULT_BASELINES = (
    BaselineConfig(type=BaselineType.ZERO_SHOT),
    BaselineConfig(type=BaselineType.FEW_SHOT, examples=EXAMPLES),
    BaselineConfig(type=BaselineType.RETRIEVAL, examples=EXAMPLES),
)


class LmEvalConfig(Contract):
    """Tasks of lm-evaluation-harness: the directory that has them, which of them, and at most how many rows of each."""

    source: Source
    tasks: tuple[str, ...]
    limit: int = 200


class GateConfig(Contract):
    """What the tuned model has to reach: see `finetune_trainer.contract.gate`. No metric: the evaluation's first."""

    metric: Metric | None = None
    minimum: float | None = None
    margin: float = 0.0
    confidence: float = 0.95


class TokenPrices(Contract):
    """What a million tokens of prompts and of completions cost, and of prompts that stood in the prefix cache.

    Without a price of their own the latter cost what every prompt costs.
    """

    million_prompt_tokens: float | None = None
    million_completion_tokens: float | None = None
    million_cached_tokens: float | None = None


class Prices(TokenPrices):
    """What the report reckons with: an hour of one accelerator, and tokens.

    The tokens' prices are those of the endpoint that would be used without fine-tuning and with it; left out, a
    request costs the time that it keeps the accelerator busy. `endpoints`: those of baselines of that type, by label.
    """

    currency: str = "USD"
    accelerator_hour: float | None = None
    endpoints: dict[str, TokenPrices] = {}

    def of(self, label: str, remote: bool) -> TokenPrices:
        """The tokens' prices of a contender; `remote`: it is an endpoint's."""
        return self.endpoints.get(label, TokenPrices()) if remote else self


class EvaluationConfig(Contract):
    """What evaluate measures. `gate`, `prices` and `accelerators` change what the report says, and nothing that is
    measured.
    """

    # Empty: chosen from the data.
    metrics: tuple[Metric, ...] = ()
    baselines: tuple[BaselineConfig, ...] = ()
    # The manifest names them: else DEFAULT_BASELINES bring structured along where the answers are JSON or labels.
    only_these: bool = False
    # The base model answers from an engine of its own, as large as the tuned one's.
    base_alone: bool = False
    # The tuned model is asked as a part of its base model, where merge could make one.
    merged: bool = False
    # At most so many rows of test.
    sample_size: Annotated[int, Field(ge=1)] = 200
    seed: int = 42
    judge: EndpointConfig | None = None
    lm_eval: LmEvalConfig | None = None
    # Left out: chosen from the rows.
    max_answer_tokens: Annotated[int, Field(ge=1)] | None = None
    # Variables of the model's chat template.
    chat_template_kwargs: dict[str, bool | int | float | str] = {}
    gate: GateConfig | None = None
    prices: Prices = Prices()
    # Of all replicas that serve.
    accelerators: int = 0

    @property
    def id(self) -> str:
        """Eight hex digits, the same for the same measurement. A field left at its default does not count."""
        unmeasured = {"gate", "prices", "accelerators"}
        measured = self.model_dump(mode="json", by_alias=True, exclude_defaults=True, exclude=unmeasured)
        return hashlib.sha256(json.dumps(measured, sort_keys=True).encode()).hexdigest()[:8]


# In the artifact: what training came to, written last, what it was told, and where it comes from.
ARTIFACT, RUN_CONFIG, PROVENANCE = "artifact.json", "run_config.json", "provenance.json"
# What it is made of.
BOM = "bom.json"
# PEFT's: a directory that has it is an adapter.
ADAPTER_CONFIG = "adapter_config.json"
# How training went, a row for each logged step. Beside report.json: the report as a page, and every test row.
METRICS_FILE, REPORT_PAGE, REPORT_ROWS = "metrics.jsonl", "report.html", "rows.jsonl"
# Beside an artifact that was published and signed: OpenSSF Model Signing's signature.
SIGNATURE = "model.sig"
# What the Secret of output.sign holds: a private key, and its password where it is encrypted. In a pod each has
# FINETUNE_OUTPUT_ before it.
SIGNING_KEYS = ("SIGNING_KEY", "SIGNING_PASSWORD")
# The variable that tells train of its own image.
IMAGE = "FINETUNE_IMAGE"
# Where somebody mounted a file is nobody's business outside.
PATHS: dict[str, Any] = {
    "model": {
        "source": {"path"},
        "origin": {"files": True, "base": {"path"}, "cache": True, "bucket": True},
        "cache": True,
    },
    "dataset": {"train": {"path"}, "validation": {"source": {"path"}}, "test": {"source": {"path"}}},
}


# What tells, while it is there, that a process holds nearly all of its pod's memory.
MEMORY_MARK = "hardly-any-memory"


class Workspace:
    """The layout of a revision's volume. Every stage that mounts it finds the others' files through this class."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.number: int | None = None
        self.model = root / "model"
        self.spool = root / "spool"
        self.data = root / "data"
        self.prepared = root / "prepared.json"
        self.data_report = root / "data-report.json"
        self.checkpoints = root / "checkpoints"
        self.precision = self.checkpoints / "precision"
        self.compiled = self.checkpoints / "compiled"
        self.best = self.checkpoints / "best"
        self.tracked = self.checkpoints / "tracked"
        self.tensorboard = root / "tensorboard"
        self.attempt = self.checkpoints / "attempt.json"
        self.spent = self.checkpoints / "spent.json"
        self.memory_mark = self.checkpoints / MEMORY_MARK
        self.artifact = root / "artifact"
        self.kept = root / "kept"
        self.whole = root / "whole"
        self.gguf = root / "gguf"
        self.merged = root / "merged"
        self.merged_with = root / "merged.json"
        self.trials = root / "trials"
        self.trained = self.artifact / ARTIFACT
        self.trained_with = self.artifact / RUN_CONFIG
        self.evaluations = root / "evaluations"
        self.answers = self.evaluations / "answers.jsonl"

    def evaluation(self, config: EvaluationConfig) -> Path:
        """Where one evaluation leaves its results."""
        return self.evaluations / config.id

    def checkpoint(self, step: int) -> Path:
        """Where the weights of a step lie that were kept beside the artifact."""
        return self.kept / str(step)

    def trial(self, number: int) -> "Workspace":
        """A trial's part of a sweep: all have the model, the rows and the precision in common, and nothing else."""
        found = Workspace(self.trials / str(number))
        found.model, found.data, found.number = self.model, self.data, number
        # Where two are nearly as fast, losses would be measured by two rulers.
        found.precision = self.trials / self.precision.name
        return found

    def rows(self, split: str) -> Path:
        """The rows of a split as they are asked."""
        return self.data / f"{split}.jsonl"

    def learned(self, split: str) -> Path:
        """What is trained of a split, in tokens."""
        return self.data / f"{split}.arrow"

    def base_model(self, config: RunConfig) -> Path:
        """Where the base model lies: mounted by the user's claim or path, else fetched by prepare."""
        return config.model.source.path or self.model
