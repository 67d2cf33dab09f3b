"""The rows of an evaluation and the metrics for them. Called by `evaluate`, and by `prepare`, which refuses early."""

from array import array
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import overload

from finetune_trainer.contract.config import (
    DEFAULT_BASELINES,
    BaselineConfig,
    BaselineType,
    EvaluationConfig,
    Method,
    Metric,
    Workspace,
)
from finetune_trainer.contract.outcome import Outcome, StageError
from finetune_trainer.evaluation import contenders, metrics, sql, structure
from finetune_trainer.evaluation.contenders import Message, Question
from finetune_trainer.evaluation.leakage import Clean, without_leaks


class QuestionFile(Sequence[Question]):
    """The rows of a file, each read when it is looked at: in memory is only where they begin, eight bytes a row."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with path.open("rb") as lines:
            self._ends = array("q", accumulate(map(len, lines), initial=0))

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __iter__(self) -> Iterator[Question]:
        with self._path.open("rb") as lines:
            yield from map(contenders.read, lines)

    @overload
    def __getitem__(self, at: int) -> Question: ...

    @overload
    def __getitem__(self, at: slice) -> list[Question]: ...

    def __getitem__(self, at: int | slice) -> Question | list[Question]:
        if isinstance(at, slice):
            return [self[row] for row in range(*at.indices(len(self)))]
        row = range(len(self))[at]
        with self._path.open("rb") as file:
            file.seek(self._ends[row])
            return contenders.read(file.read(self._ends[row + 1] - self._ends[row]))


def questions(workspace: Workspace, split: str) -> Sequence[Question]:
    """A split's rows as prepare left them; none where there is no such split.

    Looking at a row raises StageError where it is text.
    """
    path = workspace.rows(split)
    return QuestionFile(path) if path.exists() else ()


def clean(test: Sequence[Question], train: Sequence[Question], evaluation: EvaluationConfig) -> Clean:
    """The test rows that train does not have, at most `sample_size`. Raises StageError when none is left."""
    if not test:
        raise StageError(
            Outcome.CONFIG_INVALID,
            "There are no test rows to evaluate with: set dataset.test, or evaluation.enabled to false.",
        )
    found = without_leaks(test, train, evaluation.sample_size, evaluation.seed)
    if not found.kept:
        raise StageError(
            Outcome.DATA_INVALID,
            f"All {len(test)} test rows also stand in train ({found.exact} exactly, {found.near} nearly), so nothing "
            "is left to evaluate with: give dataset.test rows that train does not have, or set evaluation.enabled to "
            "false.",
        )
    return found


def chosen(
    evaluation: EvaluationConfig, test: Sequence[Question], method: Method = Method.SFT
) -> tuple[tuple[Metric, ...], str]:
    """The metrics, the one that decides first, and why these. Raises StageError for one that does not fit the rows."""
    references = [question.reference for question in test]
    named = evaluation.metrics or (() if method.writes else (Metric.RANKING_ACCURACY,))
    if not named:
        if sql.tables(test[0].text) and not sql.unfit(test):
            found = (Metric.SQL_EXECUTION, Metric.EXACT_MATCH)
            return found, "All answers are SQL, which runs on the tables of its prompt."
        return metrics.choose(references)
    for metric in named:
        if why := _unfit(metric, test) or metrics.fits(metric, references):
            raise StageError(
                Outcome.CONFIG_INVALID, f"evaluation.metrics: {metric.value} can't be used with these rows: {why}."
            )
    return named, "The manifest names it." if method.writes else "A reward model is measured by how it ranks answers."


def _unfit(metric: Metric, test: Sequence[Question]) -> str | None:
    """None, or why a metric says nothing about rows with these prompts, as the end of a sentence."""
    if metric in (Metric.REWARD_ACCURACY, Metric.RANKING_ACCURACY) and not all(question.rejected for question in test):
        return "they have no rejected answers"
    return sql.unfit(test) if metric == Metric.SQL_EXECUTION else None


def check_baselines(evaluation: EvaluationConfig, workspace: Workspace) -> None:
    """Raises StageError for a baseline that does not fit the rows."""
    if any(baseline.type == BaselineType.STRUCTURED for baseline in evaluation.baselines):
        baselines(evaluation, questions(workspace, "train"))


def baselines(
    evaluation: EvaluationConfig, train: Sequence[Question]
) -> tuple[tuple[BaselineConfig, ...], Message | None]:
    """The baselines, and what structured asks the engine for: by default it is one where it fits the answers.

    Raises StageError where the manifest names it and it does not fit.
    """
    # Calls have forms of their own, which the tools say.
    called = any(question.calls for question in train)
    form = None if called else structure.asked_for([question.reference for question in train])
    if form and evaluation.baselines == DEFAULT_BASELINES and not evaluation.only_these:
        return (*DEFAULT_BASELINES, BaselineConfig(type=BaselineType.STRUCTURED)), form
    if not form and any(baseline.type == BaselineType.STRUCTURED for baseline in evaluation.baselines):
        raise StageError(
            Outcome.CONFIG_INVALID,
            "evaluation.baselines: structured can't be used with these rows: the answers in train are neither all JSON "
            f"nor labels, of which there are at most {metrics.LABELS} and {metrics.ROWS_PER_LABEL} rows for each.",
        )
    return evaluation.baselines, form
