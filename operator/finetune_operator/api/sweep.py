"""The manifest's `training.sweep`: which values are tried, and what of `training` can't stand beside them.

Swept are hyperparameters under which validation losses stay comparable: other rows, another length, method or loss
would each be measured by another ruler.
"""

from collections.abc import Callable
from functools import partial
from operator import attrgetter
from typing import Annotated, Any, TypeVar

from finetune_trainer.contract.config import AdapterType
from pydantic import Field

from finetune_operator.api.rules import ApiModel, Rule
from finetune_operator.api.values import Alpha, BatchSize, Dropout, Epochs, LearningRate, Rank, distinct

T = TypeVar("T")
Values = Annotated[
    list[T],
    Field(min_length=1, max_length=16),
    Rule("self.all(a, self.exists_one(b, a == b))", "names a value twice", distinct),
]


class SweepParameters(ApiModel):
    """The values that are tried, by field of training. What is swept is not set there as well."""

    learning_rate: Values[LearningRate] | None = None
    """Peak learning rates."""
    epochs: Values[Epochs] | None = None
    """Passes over the training rows."""
    batch_size: Values[BatchSize] | None = None
    """Rows per optimizer step, over all devices."""
    adapter_rank: Annotated[Values[Rank] | None, Field(alias="adapter.rank")] = None
    """The adapter's ranks; those that vLLM can serve."""
    adapter_alpha: Annotated[Values[Alpha] | None, Field(alias="adapter.alpha")] = None
    """LoRA's scaling numerators. Left out: each trial's is twice its rank."""
    adapter_dropout: Annotated[Values[Dropout] | None, Field(alias="adapter.dropout")] = None
    """Dropouts on the adapter's input."""

    @property
    def given(self) -> dict[str, tuple[int | float, ...]]:
        """What is swept, by its path in training."""
        return {name: tuple(found) for name, found in self.model_dump(by_alias=True, exclude_none=True).items()}

    rules = (
        Rule(
            "has(self.learningRate) || has(self.epochs) || has(self.batchSize) || "
            "has(self.adapter__dot__rank) || has(self.adapter__dot__alpha) || has(self.adapter__dot__dropout)",
            "names nothing to try: give values of learningRate, epochs, batchSize, adapter.rank, adapter.alpha or "
            "adapter.dropout",
            lambda parameters: bool(parameters.given),
        ),
    )


class Sweep(ApiModel):
    """Several trainings of the same rows. The one with the lowest validation loss becomes the revision's artifact."""

    parameters: SweepParameters
    """The values that are tried."""
    max_trials: Annotated[int, Field(ge=1, le=32)] = 16
    """At most so many trials: of more combinations than that, a sample that training.seed decides."""
    early_stopping: bool = False
    """Whether a trial ends at a quarter or at half of its steps where its validation loss is not among the better half
    of those that came as far (asynchronous successive halving). What it came to by then counts as any other's."""
    parallel: Annotated[int, Field(ge=1, le=32)] = 1
    """How many pods take trials at the same time, each with training.resources. More than one needs a ReadWriteMany
    workspace."""


def swept_alone() -> tuple[Rule, ...]:
    """The rules of `training` beside a sweep."""
    return (
        *(_no_value_beside(field, f"has(self.{field})", partial(_is_unset, name)) for field, name in _PLAIN.items()),
        _no_value_beside("adapter.alpha", "has(self.adapter.alpha)", lambda training: training.adapter.alpha is None),
        # The API server has filled in the defaults when it checks: it can't tell one that was written out.
        _no_value_beside(
            "adapter.rank",
            "has(self.adapter.rank) && self.adapter.rank != 16",
            lambda training: training.adapter.rank == 16,
        ),
        _no_value_beside(
            "adapter.dropout",
            "has(self.adapter.dropout) && self.adapter.dropout != 0.0",
            lambda training: training.adapter.dropout == 0,
        ),
        Rule(
            "!has(self.sweep) || !has(self.maxSteps) || !has(self.sweep.parameters.epochs)",
            "takes the place of epochs, which are swept: remove it, or epochs from sweep.parameters",
            lambda training: (
                training.sweep is None or training.max_steps is None or training.sweep.parameters.epochs is None
            ),
            "maxSteps",
        ),
        Rule(
            "!has(self.sweep) || self.adapter.type != 'none' || !(has(self.sweep.parameters.adapter__dot__rank) || "
            "has(self.sweep.parameters.adapter__dot__alpha) || has(self.sweep.parameters.adapter__dot__dropout))",
            "has values for an adapter, and adapter.type is none: remove them, or choose lora, qlora or dora",
            lambda training: (
                training.sweep is None
                or training.adapter.type != AdapterType.NONE
                or not any(name.startswith("adapter.") for name in training.sweep.parameters.given)
            ),
            "sweep.parameters",
        ),
        Rule(
            "!has(self.sweep) || !has(self.nodes) || self.nodes <= 1",
            "goes with nodes 1 only: each trial trains on one, and sweep.parallel says how many train at the same time",
            lambda training: training.sweep is None or training.nodes == 1,
            "sweep",
        ),
        Rule(
            "!has(self.sweep) || !has(self.budget)",
            "ends one training, and a sweep is several: leave it out, or the sweep",
            lambda training: training.sweep is None or training.budget is None,
            "budget",
        ),
    )


_PLAIN = {"learningRate": "learning_rate", "epochs": "epochs", "batchSize": "batch_size"}


def _is_unset(name: str, training: Any) -> bool:
    return getattr(training, name) is None


def _no_value_beside(field: str, given: str, is_unset: Callable[[Any], bool]) -> Rule:
    """The rule that what is swept has no value beside that."""
    swept = attrgetter(_PLAIN.get(field, field.replace(".", "_")))
    key = field.replace(".", "__dot__")
    return Rule(
        f"!has(self.sweep) || !has(self.sweep.parameters.{key}) || !({given})",
        "is swept, so it has no value of its own: remove it here, or from sweep.parameters",
        lambda training: training.sweep is None or swept(training.sweep.parameters) is None or is_unset(training),
        field,
    )
