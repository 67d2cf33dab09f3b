"""From predictions to the result that is reported: scores, comparisons with each baseline, and what the requests took.

Called by `stages.evaluate`, `measuring` and `ranking`. Pure: the same predictions give the same result.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from finetune_trainer.contract.config import EvaluationConfig, Metric
from finetune_trainer.contract.results import Benchmark, Comparison, Contender, EvaluateResult, Requests, Score
from finetune_trainer.evaluation import calls, general, intervals
from finetune_trainer.evaluation.ask import Prediction
from finetune_trainer.evaluation.contenders import Prompt, Question
from finetune_trainer.evaluation.endpoint import CONCURRENCY
from finetune_trainer.evaluation.intervals import Differing
from finetune_trainer.evaluation.leakage import Clean
from finetune_trainer.evaluation.metrics import Statistic


@dataclass(frozen=True)
class ContenderPrompts:
    """One contender: its prompts by row, None where it does not fit, and how many examples were `wanted` in each.

    `remote`: the model is behind an endpoint of its own.
    """

    name: str
    model: str
    prompts: tuple[Prompt | None, ...]
    wanted: int
    remote: bool = False


@dataclass(frozen=True)
class Predictions:
    """One contender's texts by row, and what its requests took. A row that could not be asked has an empty text."""

    contender: ContenderPrompts
    texts: tuple[str, ...]
    requests: Requests


@dataclass(frozen=True)
class Measured:
    """One contender with all that could be measured of it, and the judge's words about it that could not be read."""

    predictions: Predictions
    statistics: Mapping[Metric, Statistic]
    unread: int = 0

    @property
    def name(self) -> str:
        """The contender's."""
        return self.predictions.contender.name


def predictions_of(
    contender: ContenderPrompts, predictions: Mapping[tuple[str, int], Prediction], questions: Sequence[Question]
) -> Predictions:
    """`predictions` by contender and row; there is none for a prompt that did not fit. Tool calls are told as such."""
    own = {row: prediction for (name, row), prediction in predictions.items() if name == contender.name}
    told = (own[row].text if row in own else "" for row in range(len(contender.prompts)))
    texts = tuple(calls.said(text) if question.calls else text for text, question in zip(told, questions, strict=True))
    return Predictions(contender, texts, took(list(own.values()), contender))


def took(predictions: Sequence[Prediction], contender: ContenderPrompts) -> Requests:
    """What a contender's requests took.

    Requests per second are those of an endpoint kept busy: concurrency over mean latency (Little's law).
    """
    fitting = [prompt for prompt in contender.prompts if prompt is not None]
    if not predictions:
        return Requests(
            prompt_tokens=0,
            completion_tokens=0,
            latency_p50=0,
            latency_p95=0,
            requests_per_second=0,
            too_long=len(contender.prompts),
        )
    seconds = [prediction.seconds for prediction in predictions]
    busy = min(CONCURRENCY, len(predictions))
    cached = [prediction.cached_tokens for prediction in predictions if prediction.cached_tokens is not None]
    return Requests(
        prompt_tokens=_mean([prediction.prompt_tokens for prediction in predictions]),
        completion_tokens=_mean([prediction.completion_tokens for prediction in predictions]),
        latency_p50=round(float(np.percentile(seconds, 50)), 3),
        latency_p95=round(float(np.percentile(seconds, 95)), 3),
        requests_per_second=round(busy * len(seconds) / max(sum(seconds), 1e-9), 2),
        too_long=len(contender.prompts) - len(fitting),
        fewer_examples=sum(prompt.examples < contender.wanted for prompt in fitting),
        cut=sum(prediction.cut for prediction in predictions),
        cached_tokens=_mean(cached) if cached else None,
    )


def _mean(values: Sequence[int]) -> float:
    return round(sum(values) / len(values), 1)


def summed_up(
    evaluation: EvaluationConfig,
    clean: Clean,
    chosen: tuple[Metric, ...],
    reason: str,
    contenders: Sequence[Measured],
    drift: Statistic | None,
    benchmarks: dict[str, Benchmark],
) -> EvaluateResult:
    """The result. The first of `contenders` is the tuned model; all are resampled by the same rows, so paired.

    `drift`: of the general prompts, where they were asked. `benchmarks`: of lm-evaluation-harness, likewise.
    """
    tuned, *baselines = contenders
    drawn = intervals.resample(len(clean.kept), evaluation.seed)

    def scores(found: Measured) -> dict[Metric, Score]:
        return {metric: intervals.score(each, drawn) for metric, each in found.statistics.items()}

    def comparisons(found: Measured) -> dict[Metric, Comparison]:
        return {
            metric: intervals.compare(tuned.statistics[metric], each, drawn, _differing(metric, tuned, found))
            for metric, each in found.statistics.items()
        }

    return EvaluateResult(
        evaluation=evaluation.id,
        rows=len(clean.kept),
        leaked=clean.exact,
        near_duplicates=clean.near,
        metrics=chosen,
        reason=reason,
        tuned=Contender(scores=scores(tuned), requests=tuned.predictions.requests, unread=tuned.unread),
        baselines={
            found.name: Contender(
                model=found.predictions.contender.model if found.predictions.contender.remote else None,
                scores=scores(found),
                comparisons=comparisons(found),
                requests=found.predictions.requests,
                unread=found.unread,
            )
            for found in baselines
        },
        drift=drift and intervals.score(drift, intervals.resample(len(general.PROMPTS), evaluation.seed)),
        benchmarks=benchmarks,
    )


def _differing(metric: Metric, tuned: Measured, baseline: Measured) -> Differing | None:
    """The rows that only one of the two has right; None where a row may be half right, or the metric is no mean."""
    ours, theirs = tuned.statistics[metric].rows, baseline.statistics[metric].rows
    if metric == Metric.MACRO_F1 or not {*ours, *theirs} <= {0.0, 1.0}:
        return None
    pairs = list(zip(ours, theirs, strict=True))
    return Differing(wins=pairs.count((1.0, 0.0)), losses=pairs.count((0.0, 1.0)))
