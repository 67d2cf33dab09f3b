"""From answers to the result: where each row is right or wrong, the exact test has its say."""

from dataclasses import replace

from finetune_trainer.contract.config import EvaluationConfig, Metric
from finetune_trainer.contract.results import Comparison
from finetune_trainer.evaluation import metrics
from finetune_trainer.evaluation.contenders import Prompt, Question
from finetune_trainer.evaluation.leakage import Clean
from finetune_trainer.evaluation.result import ContenderPrompts, Measured, predictions_of, summed_up

ROWS = 200


def contender(name: str, right: int, metric: Metric, wrong: str) -> Measured:
    asked = ContenderPrompts(name, "model", (Prompt("a", 0),) * ROWS, 0)
    texts = ["yes"] * right + [wrong] * (ROWS - right)
    said = replace(predictions_of(asked, {}, (Question("a", "yes"),) * ROWS), texts=tuple(texts))
    return Measured(said, {metric: metrics.statistic(metric, texts, ["yes"] * ROWS)})


def compared(metric: Metric, wrong: str = "no") -> Comparison:
    """The tuned model has three rows more right than the baseline, and none less."""
    clean = Clean((Question("a", "yes"),) * ROWS, 0, 0)
    both = [contender("tuned", 103, metric, wrong), contender("zero-shot", 100, metric, wrong)]
    return (
        summed_up(EvaluationConfig(), clean, (metric,), "", both, None, {}).baselines["zero-shot"].comparisons[metric]
    )


def test_three_wins_of_200_rows_are_no_lead() -> None:
    found = compared(Metric.EXACT_MATCH)
    assert found.difference == 0.015
    assert found.bounds["0.95"] <= 0
    assert found.low <= 0


def test_rows_that_are_half_right_and_metrics_that_are_no_mean_have_the_bootstrap_alone() -> None:
    assert compared(Metric.TOKEN_F1, wrong="yes or no").bounds["0.95"] > 0
    assert compared(Metric.MACRO_F1).bounds["0.95"] > 0
