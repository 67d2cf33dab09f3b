"""Chooses what the manifest leaves out: pure arithmetic over what was counted, each choice with its reason.

Called by `prepare`. The sentences reach the user as status.plan.reasons.
"""

import math
from dataclasses import dataclass
from functools import partial

from finetune_trainer.config import AdapterType, TrainingConfig
from finetune_trainer.outcome import Outcome, StageError
from finetune_trainer.report import Plan

# Tokens of one pass through the model that fit beside a small model on most devices; more rows are accumulated.
PASS_TOKENS = 16_384
LENGTH_STEP = 64
LONGEST_CHOSEN = 4_096
LEAST_CONTEXT = 2_048


@dataclass(frozen=True)
class Model:
    """What of the base model the arithmetic needs. `parameters` is a count; the rest as in its config.json."""

    parameters: int
    context_length: int
    hidden_size: int
    layers: int
    vocabulary: int


@dataclass(frozen=True)
class Rows:
    """What was counted: rows and tokens in train, and the longest row."""

    count: int
    tokens: int
    longest: int


def choose(training: TrainingConfig, rows: Rows, model: Model) -> Plan:
    """The plan. Raises StageError (CONFIG_INVALID) for what the model can't do."""
    reasons: dict[str, str] = {}
    max_length = training.max_length or _max_length(rows, model, reasons)
    if max_length > model.context_length:
        raise StageError(
            Outcome.CONFIG_INVALID,
            f"training.maxLength {max_length} is longer than the model's context of {model.context_length} tokens.",
        )
    batch_size = training.batch_size or _batch_size(rows, reasons)
    total_steps = training.max_steps or _total_steps(training, rows, batch_size, reasons)
    learning_rate = training.learning_rate or _learning_rate(training, model, reasons)
    accumulation = _accumulation(batch_size, max_length)
    mean = min(rows.tokens / rows.count, max_length)
    return Plan(
        batch_size=batch_size,
        gradient_accumulation=accumulation,
        max_length=max_length,
        learning_rate=learning_rate,
        total_steps=total_steps,
        context_length=min(model.context_length, max(LEAST_CONTEXT, 2 * max_length)),
        estimated_memory_bytes=_memory(training, model, batch_size // accumulation * max_length),
        estimated_trained_tokens=round(mean * batch_size * total_steps),
        reasons=reasons,
    )


def _max_length(rows: Rows, model: Model, reasons: dict[str, str]) -> int:
    fitting = math.ceil(rows.longest / LENGTH_STEP) * LENGTH_STEP
    chosen = min(fitting, LONGEST_CHOSEN, model.context_length)
    reasons["maxLength"] = (
        f"the longest row has {rows.longest} tokens"
        if chosen == fitting
        else f"the longest row has {rows.longest} tokens, and {chosen} is the most that is chosen for this model"
    )
    return chosen


def _batch_size(rows: Rows, reasons: dict[str, str]) -> int:
    """About fifty steps an epoch: enough steps to learn on small data, few enough to be quick on large."""
    chosen = 2 ** min(6, max(2, round(math.log2(max(1.0, rows.count / 50)))))
    reasons["batchSize"] = f"{rows.count} rows make about {math.ceil(rows.count / chosen)} steps an epoch"
    return int(chosen)


def epochs(rows: int) -> float:
    """OpenAI's default number of epochs: 3, more for fewer than 34 rows, fewer for more than 8,333."""
    if rows * 3 < 100:
        return min(25, 100 // rows)
    return max(1, 25_000 // rows) if rows * 3 > 25_000 else 3


def _total_steps(training: TrainingConfig, rows: Rows, batch_size: int, reasons: dict[str, str]) -> int:
    wanted = training.epochs or epochs(rows.count)
    if training.epochs is None:
        reasons["totalSteps"] = f"{wanted:g} epochs, as is usual for {rows.count} rows"
    return max(1, math.ceil(wanted * rows.count / batch_size))


def _learning_rate(training: TrainingConfig, model: Model, reasons: dict[str, str]) -> float:
    """2e-5 at a billion parameters (TRL's default for full fine-tuning), falling with the cube root of the size as the
    peak rates of Brown et al. 2020, table 2.1; ten times that for an adapter (Schulman et al. 2025, LoRA Without Regret).
    """
    rate = 2e-5 * (1e9 / model.parameters) ** (1 / 3)
    what = "every weight"
    if training.adapter.type != AdapterType.NONE:
        rate, what = rate * 10, "an adapter"
    chosen = float(f"{rate:.1e}")
    reasons["learningRate"] = f"usual for {what} of a model with {model.parameters / 1e6:,.0f} million parameters"
    return chosen


def _accumulation(batch_size: int, max_length: int) -> int:
    """The smallest divisor of the batch size whose passes hold no more than PASS_TOKENS."""
    divisors = (parts for parts in range(1, batch_size + 1) if batch_size % parts == 0)
    return next((parts for parts in divisors if batch_size // parts * max_length <= PASS_TOKENS), batch_size)


def _memory(training: TrainingConfig, model: Model, pass_tokens: int) -> int:
    """Bytes of weights (float32), of gradients and Adam's two moments for what is trained, and of activations.

    Activations: 34 bytes a token, layer and hidden unit (Korthikanti et al. 2022, without attention's square), plus the
    logits and their gradient in float32.
    """
    linear = partial(_adapter_parameters, model.hidden_size, model.layers)
    adapter = training.adapter
    trained = model.parameters if adapter.type == AdapterType.NONE else linear(adapter.rank)
    activations = 34 * pass_tokens * model.layers * model.hidden_size + 8 * pass_tokens * model.vocabulary
    return 4 * model.parameters + 12 * trained + activations


def _adapter_parameters(hidden: int, layers: int, rank: int) -> int:
    """Seven linear layers a block, whose sides add up to about 22 hidden sizes in Llama's shape."""
    return 22 * hidden * layers * rank
