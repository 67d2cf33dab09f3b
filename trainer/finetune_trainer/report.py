"""What a stage tells whoever launched it: its progress while it runs, its result when it ends.

Progress is served as JSON on `/status`; a result travels in the termination message (`finetune_trainer.outcome`) and
lies in the workspace, written last, as the mark that the stage is complete. The operator copies both into the
FineTuneJob's status. Pydantic only.
"""

from datetime import datetime

from finetune_trainer.config import Contract, Format

STATUS_PORT = 8080


class Progress(Contract):
    """How far a running stage is. Loss in nats per token; tokens_per_second over all devices; eta in UTC."""

    stage: str
    activity: str = ""
    step: int = 0
    total_steps: int = 0
    epoch: float | None = None
    loss: float | None = None
    validation_loss: float | None = None
    tokens_per_second: float | None = None
    eta: datetime | None = None


class Rows(Contract):
    """Rows per split."""

    train: int
    validation: int = 0
    test: int = 0


class DatasetReport(Contract):
    """The rows as prepare found them. `tokens` are train's; `longer_than_max_length` counts its rows that are cut."""

    format: Format
    rows: Rows
    tokens: int
    longest: int
    longer_than_max_length: int
    digest: str


class ModelReport(Contract):
    """The base model as prepare resolved it."""

    commit: str | None = None
    parameters: int
    context_length: int


class Plan(Contract):
    """The hyperparameters in use, chosen or given, and why each chosen one was (`reasons`: field → sentence)."""

    batch_size: int
    gradient_accumulation: int
    max_length: int
    learning_rate: float
    total_steps: int
    context_length: int
    estimated_memory_bytes: int
    estimated_trained_tokens: int
    reasons: dict[str, str] = {}


class PrepareResult(Contract):
    """What prepare leaves in `prepared.json`. `revision`: the run config's that it was made for."""

    revision: str = ""
    model: ModelReport
    dataset: DatasetReport
    plan: Plan


class ArtifactReport(Contract):
    """The artifact: digest over its files, and their size."""

    digest: str
    bytes: int


class Usage(Contract):
    """What training took. accelerator_seconds counts every device, zero on CPUs."""

    trained_tokens: int
    seconds: float
    accelerator_seconds: float = 0


class TrainResult(Contract):
    """What train leaves in `artifact/artifact.json`."""

    artifact: ArtifactReport
    usage: Usage
    steps: int
    loss: float | None = None
    validation_loss: float | None = None
