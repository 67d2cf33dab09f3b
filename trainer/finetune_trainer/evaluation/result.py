"""From answers to the result that is reported: scores, comparisons with each baseline, and what the requests took.

Called by `finetune_trainer.evaluate`. Pure: the same answers give the same result.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from finetune_trainer.config import EvaluationConfig, Metric
from finetune_trainer.evaluation import intervals, metrics
from finetune_trainer.evaluation.ask import CONCURRENCY, Answer
from finetune_trainer.evaluation.contenders import Prompt
from finetune_trainer.evaluation.leakage import Clean
from finetune_trainer.evaluation.metrics import Statistic
from finetune_trainer.report import Comparison, Contender, EvaluateResult, Requests, Score

TUNED = "tuned"


@dataclass(frozen=True)
class Asked:
    """One contender: its prompts by row, None where it does not fit, and how many examples were `wanted` in each."""

    name: str
    model: str
    prompts: tuple[Prompt | None, ...]
    wanted: int


@dataclass(frozen=True)
class Measured:
    """One contender's texts by row, and what its requests took. A row that could not be asked has an empty text."""

    name: str
    texts: tuple[str, ...]
    requests: Requests


def measured(asked: Asked, answers: Mapping[int, Answer]) -> Measured:
    """`answers` by row; there is none for a prompt that did not fit."""
    texts = tuple(answers[row].text if row in answers else "" for row in range(len(asked.prompts)))
    fitting = [prompt for prompt in asked.prompts if prompt is not None]
    return Measured(asked.name, texts, _requests(list(answers.values()), asked, fitting))


def _requests(answers: Sequence[Answer], asked: Asked, fitting: Sequence[Prompt]) -> Requests:
    """Requests per second are those of an endpoint kept busy: concurrency over mean latency (Little's law)."""
    if not answers:
        return Requests(
            prompt_tokens=0,
            completion_tokens=0,
            latency_p50=0,
            latency_p95=0,
            requests_per_second=0,
            too_long=len(asked.prompts),
        )
    seconds = [answer.seconds for answer in answers]
    busy = min(CONCURRENCY, len(answers))
    return Requests(
        prompt_tokens=_mean([answer.prompt_tokens for answer in answers]),
        completion_tokens=_mean([answer.completion_tokens for answer in answers]),
        latency_p50=round(float(np.percentile(seconds, 50)), 3),
        latency_p95=round(float(np.percentile(seconds, 95)), 3),
        requests_per_second=round(busy * len(seconds) / max(sum(seconds), 1e-9), 2),
        too_long=len(asked.prompts) - len(fitting),
        fewer_examples=sum(prompt.examples < asked.wanted for prompt in fitting),
    )


def _mean(values: Sequence[int]) -> float:
    return round(sum(values) / len(values), 1)


def summed_up(
    evaluation: EvaluationConfig,
    clean: Clean,
    chosen: tuple[Metric, ...],
    reason: str,
    contenders: Sequence[Measured],
) -> EvaluateResult:
    """The result. The first of `contenders` is the tuned model; all are resampled by the same rows, so paired."""
    references = [question.reference for question in clean.kept]
    weights = intervals.resample(len(references), evaluation.seed)
    statistics = [
        {metric: metrics.statistic(metric, contender.texts, references) for metric in chosen}
        for contender in contenders
    ]

    def scores(found: Mapping[Metric, Statistic]) -> dict[Metric, Score]:
        return {metric: intervals.score(statistic, weights) for metric, statistic in found.items()}

    def comparisons(found: Mapping[Metric, Statistic]) -> dict[Metric, Comparison]:
        return {metric: intervals.compare(statistics[0][metric], found[metric], weights) for metric in chosen}

    return EvaluateResult(
        evaluation=evaluation.id,
        rows=len(references),
        leaked=clean.exact,
        near_duplicates=clean.near,
        metrics=chosen,
        reason=reason,
        tuned=Contender(scores=scores(statistics[0]), requests=contenders[0].requests),
        baselines={
            contender.name: Contender(scores=scores(found), comparisons=comparisons(found), requests=contender.requests)
            for contender, found in zip(contenders[1:], statistics[1:], strict=True)
        },
    )
