"""How sure a score is, and a difference of two: the bootstrap over rows, paired for differences.

Called by `evaluation.result`. Pure and seeded: the same answers give the same intervals. Percentile bootstrap (Efron
and Tibshirani 1993), 2,000 resamples. Where every row says the same, resampling finds no spread at all, and 20 rows
would look as sure as 2,000: such an interval ends at -ln(1 - confidence) / rows from the value, the exact bound for an
event that was never seen (for 95% the rule of three, Hanley and Lippman-Hand 1983).
Scores of 0 and 1 have McNemar's exact test beside the bootstrap: a lead that it does not confirm is none.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from finetune_trainer.contract.results import CONFIDENCES, Comparison, Score
from finetune_trainer.evaluation import exact
from finetune_trainer.evaluation.metrics import Array, Statistic

Drawn = NDArray[np.uint8]

RESAMPLES = 2000
# What is left on each side of a 95% interval, in percent.
TAIL = 2.5
# Results travel in a termination message of 4,096 bytes.
DIGITS = 4
# Weights that are held as floats at once: 16 MB of them.
BLOCK = 2**21
# Sums of the same numbers in another order differ by less.
SAME = 1e-9


def resample(rows: int, seed: int, count: int = RESAMPLES) -> Drawn:
    """How often each row was drawn, of shape (count, rows). A byte each: no row is drawn 256 times."""
    chance, even = np.random.default_rng(seed), np.full(rows, 1 / rows)
    drawn = np.empty((count, rows), dtype=np.uint8)
    for block in _blocks(drawn):
        block[:] = chance.multinomial(rows, even, size=len(block))
    return drawn


def score(statistic: Statistic, drawn: Drawn) -> Score:
    """A metric's value over all rows, and its 95% interval within 0..1."""
    value, spread = _value(statistic, drawn), _spread(statistic, drawn)
    low, high = _ends(spread, drawn.shape[1])
    return Score(score=_rounded(value), low=_rounded(max(0, low)), high=_rounded(min(1, high)))


@dataclass(frozen=True)
class Differing:
    """Of scores of 0 and 1: the rows that the tuned model alone has right, and those that the baseline alone has."""

    wins: int
    losses: int


def compare(tuned: Statistic, baseline: Statistic, drawn: Drawn, differing: Differing | None = None) -> Comparison:
    """Tuned minus baseline: both are resampled by the same rows, so that what is hard for both cancels out.

    `differing`: of scores of 0 and 1, for the exact test.
    """
    difference = _value(tuned, drawn) - _value(baseline, drawn)
    spread = _spread(tuned, drawn) - _spread(baseline, drawn)
    rows = drawn.shape[1]
    low, high = _ends(spread, rows)
    bounds = {name: max(-1, _lower(spread, rows, float(name))) for name in CONFIDENCES}
    if differing:
        low, high = _confirmed(low, high, differing)
        bounds = {name: bound if _leads(differing, float(name)) else min(0, bound) for name, bound in bounds.items()}
    return Comparison(
        difference=_rounded(difference),
        low=_rounded(max(-1, low)),
        high=_rounded(min(1, high)),
        bounds={name: _rounded(bound) for name, bound in bounds.items()},
    )


def _confirmed(low: float, high: float, differing: Differing) -> tuple[float, float]:
    """The interval has 0 where the exact test can't tell the difference from none."""
    sure = exact.p_value(differing.wins, differing.losses) <= 0.05
    return (low, high) if sure else (min(0, low), max(0, high))


def _leads(differing: Differing, confidence: float) -> bool:
    return exact.tail(differing.wins, differing.wins + differing.losses) <= 1 - confidence


def _value(statistic: Statistic, drawn: Drawn) -> float:
    return float(statistic(np.ones((1, drawn.shape[1])))[0])


def _spread(statistic: Statistic, drawn: Drawn) -> Array:
    """The statistic of every resample: the resamples of 100,000 rows are 1.6 GB as floats, so a few at a time."""
    return np.concatenate([statistic(block.astype(np.float64)) for block in _blocks(drawn)])


def _blocks(drawn: Drawn) -> Iterator[Drawn]:
    step = max(1, BLOCK // drawn.shape[1])
    return (drawn[start : start + step] for start in range(0, len(drawn), step))


def _ends(spread: Array, rows: int) -> tuple[float, float]:
    low, high = (float(end) for end in np.percentile(spread, [TAIL, 100 - TAIL]))
    room = _unseen(0.95, rows) if np.ptp(spread) < SAME else 0
    return low - room, high + room


def _lower(spread: Array, rows: int, confidence: float) -> float:
    room = _unseen(confidence, rows) if np.ptp(spread) < SAME else 0
    return float(np.percentile(spread, 100 * (1 - confidence))) - room


def _unseen(confidence: float, rows: int) -> float:
    """The most frequent that an event can be, with this confidence, that was not seen in so many rows."""
    return -math.log(1 - confidence) / rows


def _rounded(value: float) -> float:
    return round(float(value), DIGITS)
