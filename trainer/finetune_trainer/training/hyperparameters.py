"""Chooses what the manifest leaves out: pure arithmetic over what was counted, each choice with its reason.

Called by `prepare` and `plans`. The sentences reach the user as status.plan.reasons.
"""

import math
from dataclasses import dataclass

from finetune_trainer.contract.config import AdapterType, Sharding, TrainingConfig
from finetune_trainer.contract.outcome import Outcome, StageError
from finetune_trainer.contract.results import Plan
from finetune_trainer.data.base import ModelFigures
from finetune_trainer.training.memory import ASSUMED, GIB, Device, Pass, TokenLoad, TrainingFootprint, divided, refusal
from finetune_trainer.training.methods import RECIPES

# Lengths are rounded up to this, so that a few longer rows in the next version of the data change nothing.
LENGTH_STEP = 64
# Attention's cost grows with the square of the length: more than this is for the user to ask for.
LONGEST_CHOSEN = 4_096
# A served model is asked longer questions, and by chat clients with a history, than it was trained on.
LEAST_CONTEXT = 2_048
STEPS_PER_EPOCH = 50
SMALLEST_BATCH, LARGEST_BATCH = 4, 64


@dataclass(frozen=True)
class TrainCounts:
    """What was counted: rows and tokens that are trained, those that are learned, and the longest row's tokens before
    it was cut.
    """

    count: int
    tokens: int
    learned: int
    longest: int


def choose(
    training: TrainingConfig,
    counts: TrainCounts,
    model: ModelFigures,
    device: Device,
    sharding: Sharding = Sharding.AUTO,
) -> Plan:
    """The plan for so many devices. Raises StageError: CONFIG_INVALID for what the model can't do, OUT_OF_MEMORY for
    what the device can't.
    """
    reasons: dict[str, str] = {}
    devices = device.processes
    max_length = longest_trained(training, counts.longest, model)
    if training.max_length is None:
        reasons["maxLength"] = _why_max_length(counts.longest, max_length)
    batch_size = training.batch_size or _batch_size(counts, devices, reasons)
    total_steps = training.max_steps or _total_steps(training, counts, batch_size, reasons)
    learning_rate = training.learning_rate or _learning_rate(training, model, reasons)
    recipe = RECIPES[training.method]
    longest = recipe.sequences * min(counts.longest, max_length)
    step = batch_size // devices * longest
    load = TokenLoad(longest, step, counts.learned / counts.tokens, recipe.sequences, training.method.writes)
    sized = divided(TrainingFootprint(model, training.adapter, device, load), sharding)
    if refused := refusal(sized.at_best):
        raise refused
    if sized.sharded:
        reasons["sharding"] = f"{devices} devices divide weights, gradients and moments among them{_why(sharding)}"
    taken = _passes(sized, reasons)
    return Plan(
        batch_size=batch_size,
        tokens_per_pass=taken.tokens,
        max_length=max_length,
        learning_rate=learning_rate,
        total_steps=total_steps,
        context_length=_context_length(max_length, model, reasons),
        estimated_memory_bytes=sized.memory(taken),
        estimated_trained_tokens=round(counts.tokens / counts.count * batch_size * total_steps),
        reasons=reasons,
    )


def _why(sharding: Sharding) -> str:
    return ", since one can't hold them" if sharding == Sharding.AUTO else ""


def longest_trained(training: TrainingConfig, longest: int, model: ModelFigures) -> int:
    """maxLength: the longest row, rounded up, as far as the model and LONGEST_CHOSEN go, unless the manifest names it.

    Raises StageError (CONFIG_INVALID) for more than the model can take.
    """
    if training.max_length is None:
        return min(math.ceil(longest / LENGTH_STEP) * LENGTH_STEP, LONGEST_CHOSEN, model.context_length)
    if training.max_length > model.context_length:
        raise StageError(
            Outcome.CONFIG_INVALID,
            f"training.maxLength {training.max_length} is longer than the model's context of {model.context_length} "
            f"tokens: choose {model.context_length} or less, or leave it out.",
        )
    return training.max_length


def _why_max_length(longest: int, chosen: int) -> str:
    limit = "" if longest <= chosen else f"; more than {chosen} is not chosen for this model"
    return f"the longest row has {longest} tokens{limit}"


def _batch_size(counts: TrainCounts, devices: int, reasons: dict[str, str]) -> int:
    """A power of two that makes about STEPS_PER_EPOCH: small data gets enough steps to learn, large isn't held up.

    OpenAI's fine-tuning scales its default batch with the data too (0.2 % of the rows, in its first documentation).
    Devices share a batch evenly: it is the next multiple of their number.
    """
    fitting = 1 << round(math.log2(max(1.0, counts.count / STEPS_PER_EPOCH)))
    chosen = math.ceil(min(LARGEST_BATCH, max(SMALLEST_BATCH, fitting)) / devices) * devices
    steps = math.ceil(counts.count / chosen)
    shared = f", and {devices} devices share it evenly" if devices > 1 else ""
    reasons["batchSize"] = f"it makes {steps} steps an epoch of {counts.count} rows{shared}"
    return chosen


def epochs(rows: int) -> float:
    """OpenAI's default number of epochs: 3, more for fewer than 34 rows, fewer for more than 8,333.

    From the cookbook's Chat_finetuning_data_prep notebook.
    """
    if rows * 3 < 100:
        return min(25, 100 // rows)
    return max(1, 25_000 // rows) if rows * 3 > 25_000 else 3


def _total_steps(training: TrainingConfig, counts: TrainCounts, batch_size: int, reasons: dict[str, str]) -> int:
    wanted = training.epochs or epochs(counts.count)
    steps = max(1, math.ceil(wanted * counts.count / batch_size))
    if training.epochs is None:
        times = "1 epoch is" if wanted == 1 else f"{wanted:g} epochs are"
        reasons["totalSteps"] = f"{times} usual for {counts.count} rows"
    return steps


def _learning_rate(training: TrainingConfig, model: ModelFigures, reasons: dict[str, str]) -> float:
    """Smaller models take, and need, higher rates; adapters take ten times those of full fine-tuning.

    The method says what is usual for full fine-tuning at a billion parameters. It falls with the cube root of the size,
    as the peak rates of Brown et al. 2020 (arXiv:2005.14165, table 2.1: 6e-4 at 125M to 0.6e-4 at 175B). Ten times:
    Schulman et al. 2025, LoRA Without Regret, whatever the rank. SmolLM2-135M gets 3.9e-4 for sft, where 5e-4 was
    measured to work well.
    """
    rate = RECIPES[training.method].rate * (1e9 / model.parameters) ** (1 / 3)
    what = "every weight"
    if training.adapter.type != AdapterType.NONE:
        rate, what = rate * 10, "an adapter"
    chosen = float(f"{rate:.1e}")
    reasons["learningRate"] = f"usual for {what} of a model with {model.parameters / 1e6:,.0f} million parameters"
    return chosen


def _passes(training: TrainingFootprint, reasons: dict[str, str]) -> Pass:
    """As many tokens as the memory has room for; train looks at its device, and may take others."""
    chosen = training.chosen or training.least
    all_of_them = "all rows of a step" if chosen.tokens == training.load.step else "as many rows"
    again = "; activations are recomputed, or they would be far fewer" if chosen.recompute else ""
    reasons["tokensPerPass"] = (
        f"{all_of_them} pass through the model together, one behind the other, without padding{_room(training)}{again}"
    )
    return chosen


def _room(training: TrainingFootprint) -> str:
    if training.device.memory is not None:
        return ""
    return f"; planned for {ASSUMED / GIB:.0f} GiB of memory: how much there is, is not known before training looks"


def _context_length(max_length: int, model: ModelFigures, reasons: dict[str, str]) -> int:
    chosen = min(model.context_length, max(LEAST_CONTEXT, 2 * max_length))
    why = "all that the model has" if chosen == model.context_length else "room for twice the longest trained row"
    reasons["contextLength"] = why if chosen != LEAST_CONTEXT else f"{why}, and for a conversation"
    return chosen
