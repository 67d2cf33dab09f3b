"""When and how much: the arithmetic of a training run, decided before any library is loaded.

Pure functions for `train`; no torch.
"""

import math
import random
from datetime import datetime, timedelta

from finetune_trainer.contract.outcome import Outcome, StageError

# A linear warm-up over the first 3 % of the steps and a cosine decay to zero: the recipe of Stanford Alpaca
# (https://github.com/tatsu-lab/stanford_alpaca), which most supervised fine-tuning since has kept.
WARMUP = 0.03
# Validating is a forward pass, a third of a training step (Kaplan et al. 2020, section 2.1: 2 of 6 FLOPs per weight and
# token). It may take a tenth of the training's time, and no more than four looks at the curve are needed.
VALIDATION_SHARE = 0.1
VALIDATIONS = 4
# Rows in metrics.jsonl: enough to draw a curve from, whatever the length of the run.
LOG_ROWS = 500


def share(batch_size: int, devices: int) -> int:
    """The rows of a step that each device takes. Raises StageError (CONFIG_INVALID) where they can't share evenly."""
    check_shared(batch_size, devices)
    return batch_size // devices


def check_shared(batch_size: int, devices: int) -> None:
    """Raise StageError (CONFIG_INVALID) when a batch of this size can't be shared evenly."""
    if batch_size % devices:
        raise StageError(
            Outcome.CONFIG_INVALID,
            f"training.batchSize {batch_size} can't be shared evenly by {devices} devices; "
            f"choose a multiple of {devices}.",
        )


def order(count: int, wanted: int, seed: int) -> list[int]:
    """Indices of the `wanted` rows, of `count`, that the steps take in turn: every epoch in an order of its own.

    It depends on these arguments alone, so a resumed run, on however many devices, takes what the uninterrupted one
    would have.
    """
    chance = random.Random(seed)  # noqa: S311 - a shuffle, no secret
    found: list[int] = []
    while len(found) < wanted:
        found += chance.sample(range(count), count)
    return found[:wanted]


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
