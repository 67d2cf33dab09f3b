"""When and how much: the arithmetic of a training run, decided before any library is loaded.

Pure functions for `train`; no torch.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from finetune_trainer.contract.outcome import Outcome, StageError
from finetune_trainer.contract.report import Plan

# A linear warm-up over the first 3 % of the steps and a cosine decay to zero: the recipe of Stanford Alpaca
# (https://github.com/tatsu-lab/stanford_alpaca), which most supervised fine-tuning since has kept.
WARMUP = 0.03
# Validating is a forward pass, a third of a training step (Kaplan et al. 2020, section 2.1: 2 of 6 FLOPs per weight and
# token). It may take a tenth of the training's time, and no more than four looks at the curve are needed.
VALIDATION_SHARE = 0.1
VALIDATIONS = 4
# Rows in metrics.jsonl: enough to draw a curve from, whatever the length of the run.
LOG_ROWS = 500
# Batches whose rows are sorted by length together: long enough to save padding, short enough to stay a shuffle.
WINDOW = 8


@dataclass(frozen=True)
class Batch:
    """Rows that one device takes at once, and how many such micro-batches make a step."""

    rows: int
    accumulation: int


def split(plan: Plan, devices: int) -> Batch:
    """Share the planned batch among `devices` without changing its size or exceeding the planned micro-batch.

    Raises StageError (CONFIG_INVALID) when the batch can't be shared evenly.
    """
    check_shared(plan.batch_size, devices)
    share = plan.batch_size // devices
    largest = max(1, plan.batch_size // plan.gradient_accumulation)
    rows = next(rows for rows in range(min(share, largest), 0, -1) if share % rows == 0)
    return Batch(rows, share // rows)


def check_shared(batch_size: int, devices: int) -> None:
    """Raise StageError (CONFIG_INVALID) when a batch of this size can't be shared evenly."""
    if batch_size % devices:
        raise StageError(
            Outcome.CONFIG_INVALID,
            f"training.batchSize {batch_size} can't be shared evenly by {devices} devices; "
            f"choose a multiple of {devices}.",
        )


def order(lengths: Sequence[int], batch_size: int, steps: int, seed: int) -> list[int]:
    """Indices of the rows that the steps take, `batch_size` after `batch_size`: every epoch in an order of its own.

    Rows of like length share a batch, which saves padding. What a step takes depends on these arguments alone, so a
    resumed run, on however many devices, takes what the uninterrupted one would have.
    """
    chance = random.Random(seed)  # noqa: S311 - a shuffle, no secret
    stream: list[int] = []
    while len(stream) < steps * batch_size:
        stream += chance.sample(range(len(lengths)), len(lengths))
    window = WINDOW * batch_size
    found: list[int] = []
    for start in range(0, steps * batch_size, window):
        rows = sorted(stream[start : min(start + window, steps * batch_size)], key=lengths.__getitem__)
        batches = [rows[at : at + batch_size] for at in range(0, len(rows), batch_size)]
        for batch in chance.sample(batches, len(batches)):
            found += batch
    return found


def rate(step: int, total: int) -> float:
    """The learning rate of a step, counted from 0, as a share of its peak.

    The libraries' warm-up begins at 0, so that its first step, and with one step all of training, learns nothing; here
    the first of n has 1/n. None of their cosines has both that and a last step that learns.
    """
    warmup = math.ceil(total * WARMUP)
    if step < warmup:
        return (step + 1) / warmup
    return (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup))) / 2


def log_every(total: int) -> int:
    """Steps between two rows of metrics."""
    return math.ceil(total / LOG_ROWS)


def validate_every(total: int, batch_size: int, rows: int) -> int:
    """Steps between two validations of `rows` rows; the last step is validated anyway."""
    affordable = rows / (3 * VALIDATION_SHARE * batch_size)
    return max(1, math.ceil(total / VALIDATIONS), math.ceil(affordable))


def expected_end(now: datetime, seconds: float, done: int, left: int) -> datetime | None:
    """When `left` steps will be done if they go as the `done` ones did in `seconds`."""
    return now + timedelta(seconds=seconds / done * left) if done else None
