"""The run config: the one file that tells the trainer what to do.

The operator and the local backend render it, every stage of the trainer parses it, and it is the immutable record of
what a revision's weights depend on. Pydantic only: importing this module costs the operator no torch.
"""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel


class Contract(BaseModel):
    """Base of all that is written to or read from a file or a pod: camelCase outside, frozen, nothing unknown."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True, extra="forbid")


class Format(StrEnum):
    """How a dataset's rows are written (TRL's dataset types, and instruction as Alpaca wrote it)."""

    AUTO = "auto"
    CHAT = "chat"
    PROMPT_COMPLETION = "prompt-completion"
    TEXT = "text"
    INSTRUCTION = "instruction"


class Method(StrEnum):
    """How the model learns from the rows."""

    SFT = "sft"


class AdapterType(StrEnum):
    """What is trained: a LoRA adapter, a DoRA adapter, or (none) every weight of the model."""

    LORA = "lora"
    DORA = "dora"
    NONE = "none"


class Source(Contract):
    """Where a file or a directory comes from: the URI as the user wrote it, and its path when somebody mounted it."""

    uri: str
    path: Path | None = None


class ModelConfig(Contract):
    """The base model."""

    source: Source
    revision: str | None = None
    trust_remote_code: bool = False


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
    """PEFT's LoraConfig, as far as the manifest exposes it. `alpha` left out is twice the rank."""

    type: AdapterType = AdapterType.LORA
    rank: int = 16
    alpha: int | None = None
    dropout: float = 0.0
    target_modules: tuple[str, ...] = ("all-linear",)


class TrainingConfig(Contract):
    """Hyperparameters; those left out are chosen by prepare (`finetune_trainer.report.Plan`)."""

    method: Method = Method.SFT
    adapter: AdapterConfig = AdapterConfig()
    epochs: float | None = None
    max_steps: int | None = None
    learning_rate: float | None = None
    batch_size: int | None = None
    max_length: int | None = None
    seed: int = 42


class RunConfig(Contract):
    """Everything that prepare and train are told. `name` is the FineTuneJob's and the served model's."""

    name: str
    revision: str
    model: ModelConfig
    dataset: DatasetConfig
    training: TrainingConfig = TrainingConfig()


class Workspace:
    """The layout of a revision's volume. Every stage that mounts it finds the others' files through this class."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.model = root / "model"
        self.data = root / "data"
        self.prepared = root / "prepared.json"
        self.cache = root / "cache"
        self.checkpoints = root / "checkpoints"
        self.artifact = root / "artifact"
        self.trained = self.artifact / "artifact.json"

    def base_model(self, config: RunConfig) -> Path:
        """Where the base model lies: mounted by the user's claim or path, else fetched by prepare."""
        return config.model.source.path or self.model
