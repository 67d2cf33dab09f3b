"""The rows that deserve a look: where a baseline was better, and where the contenders disagree most. By each metric.

Called by `decision`; a manifest's gate may name another metric later, and report.json has the rows for each. Pure.
"""

from collections.abc import Callable, Mapping, Sequence
from statistics import pvariance
from typing import Any

from finetune_trainer.contract.config import Contract, Metric
from finetune_trainer.contract.results import TUNED

# As many as a person reads; `worse` counts all.
REGRESSIONS, DISAGREEMENTS = 20, 10


class Row(Contract):
    """One test row: what was asked, the right answer, by contender the answer, and by metric each one's score.

    `prompt` as TRL has it: messages, or a string where the model has no chat template.
    """

    prompt: str | tuple[dict[str, Any], ...]
    tools: tuple[dict[str, Any], ...] = ()
    reference: str
    answers: dict[str, str]
    scores: dict[Metric, dict[str, float]]

    @property
    def asked(self) -> str:
        """What the user said last."""
        return self.prompt if isinstance(self.prompt, str) else str(self.prompt[-1].get("content") or "")


class Learned(Contract):
    """A row of train that is like a row of test."""

    prompt: str
    reference: str


class Regression(Contract):
    """A row that a baseline answered better than the tuned model, and the rows of train that are most like it."""

    prompt: str
    reference: str
    tuned: str
    baseline: str
    answer: str
    lost: float
    learned: tuple[Learned, ...] = ()


class Disagreement(Contract):
    """A row on which the contenders' scores are far apart: by contender the answer and its score."""

    prompt: str
    reference: str
    answers: dict[str, str]
    scores: dict[str, float]


class WinsAndLosses(Contract):
    """How many rows the tuned model answers better than a baseline, and how many worse."""

    wins: int
    losses: int


class Inspection(Contract):
    """The rows by one metric. `regressions` are the worst of `worse` rows; `binary`: each is right or wrong."""

    worse: int
    binary: bool
    differences: dict[str, WinsAndLosses]
    regressions: tuple[Regression, ...]
    disagreements: tuple[Disagreement, ...]


Similar = Callable[[Row], Sequence[Learned]]


def inspect(rows: Sequence[Row], metric: Metric, similar: Similar) -> Inspection:
    """What deserves a look by this metric. `similar`: the rows of train that are most like one of test."""
    lost = {number: amount for number, row in enumerate(rows) if (amount := _lost(row.scores[metric])) > 0}
    worst = sorted(lost, key=lambda number: -lost[number])[:REGRESSIONS]
    spread = {number: pvariance(row.scores[metric].values()) for number, row in enumerate(rows)}
    apart = sorted((number for number in spread if spread[number]), key=lambda number: -spread[number])
    scores = [row.scores[metric] for row in rows]
    return Inspection(
        worse=len(lost),
        binary=metric != Metric.MACRO_F1 and {score for row in scores for score in row.values()} <= {0.0, 1.0},
        differences={name: _difference(scores, name) for name in (scores[0] if scores else {}) if name != TUNED},
        regressions=tuple(_regression(rows[number], metric, similar) for number in worst),
        disagreements=tuple(_disagreement(rows[number], metric) for number in apart[:DISAGREEMENTS]),
    )


def _difference(scores: Sequence[Mapping[str, float]], baseline: str) -> WinsAndLosses:
    return WinsAndLosses(
        wins=sum(row[TUNED] > row[baseline] for row in scores), losses=sum(row[TUNED] < row[baseline] for row in scores)
    )


def _best(scores: Mapping[str, float]) -> str | None:
    return max((name for name in scores if name != TUNED), key=lambda name: scores[name], default=None)


def _lost(scores: Mapping[str, float]) -> float:
    best = _best(scores)
    return 0.0 if best is None else scores[best] - scores[TUNED]


def _regression(row: Row, metric: Metric, similar: Similar) -> Regression:
    best = _best(row.scores[metric]) or TUNED
    return Regression(
        prompt=row.asked,
        reference=row.reference,
        tuned=row.answers[TUNED],
        baseline=best,
        answer=row.answers[best],
        lost=round(_lost(row.scores[metric]), 4),
        learned=tuple(similar(row)),
    )


def _disagreement(row: Row, metric: Metric) -> Disagreement:
    scores = row.scores[metric]
    answers = {name: answer for name, answer in row.answers.items() if name in scores}
    return Disagreement(prompt=row.asked, reference=row.reference, answers=answers, scores=scores)
