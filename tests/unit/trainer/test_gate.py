"""The gate: who passes, and the sentence that says by how much."""

import json

from decisions import contender, result
from finetune_trainer.config import GateConfig, Metric
from finetune_trainer.gate import best_baseline, judge
from finetune_trainer.outcome import TERMINATION_BYTES, Termination
from finetune_trainer.report import Comparison, Contender, EvaluateResult, Requests, Score

TOLD = (
    "exact_match 0.670 (0.610 to 0.730) on 200 rows, against 0.610 of the best baseline, retrieval: a difference of "
    "+0.060 (+0.010 to +0.110)."
)


def test_without_a_gate_everything_passes_and_that_is_said() -> None:
    verdict = judge(result(0.1), None)
    assert verdict.passed
    assert verdict.message.endswith("No gate was set.")


def test_a_gate_that_is_met_says_what_it_demanded() -> None:
    verdict = judge(result(), GateConfig(minimum=0.6, margin=0.01))
    assert verdict.passed
    assert verdict.message == f"{TOLD} The gate is met: a score of 0.6 and a margin of 0.01 at 95% confidence."


def test_a_score_below_the_minimum_says_how_much_is_missing() -> None:
    verdict = judge(result(), GateConfig(minimum=0.8))
    assert not verdict.passed
    assert verdict.message == f"{TOLD} It misses gate.minimum 0.8 by 0.130."


def test_a_lead_that_is_not_sure_enough_says_what_is_sure() -> None:
    verdict = judge(result(), GateConfig(margin=0.03))
    assert not verdict.passed
    assert verdict.message == (
        f"{TOLD} With 95% confidence it is better than retrieval by no more than +0.020, and gate.margin asks for more "
        "than 0.03."
    )


def test_the_confidence_decides_how_sure() -> None:
    assert not judge(result(), GateConfig(margin=0.025, confidence=0.95)).passed
    assert judge(result(), GateConfig(margin=0.025, confidence=0.9)).passed


def test_just_the_margin_is_not_enough() -> None:
    even = result(baselines={"zero-shot": contender(0.6, 73, tuned=0.64)}, tuned=contender(0.64, 73))
    bound = even.baselines["zero-shot"].comparisons[Metric.EXACT_MATCH].bounds["0.95"]
    assert not judge(even, GateConfig(margin=bound)).passed
    assert judge(even, GateConfig(margin=bound - 0.001)).passed


def test_compared_with_nothing_only_the_minimum_counts() -> None:
    alone = result(baselines={})
    verdict = judge(alone, GateConfig(minimum=0.5))
    assert verdict.passed
    assert "compared with nothing" in verdict.message
    assert "a margin could not be measured" in verdict.message
    assert not judge(alone, GateConfig(minimum=0.9)).passed


def test_of_equal_baselines_the_cheaper_is_the_best() -> None:
    even = result(
        baselines={name: contender(0.5, tokens, 0.67) for name, tokens in (("few-shot", 173), ("retrieval", 90))}
    )
    assert best_baseline(even, Metric.EXACT_MATCH) == "retrieval"


def test_the_largest_result_fits_into_a_termination_message() -> None:
    score = Score(score=-0.1234, low=-0.1234, high=-0.1234)
    bounds = dict.fromkeys(("0.8", "0.9", "0.95", "0.99"), -0.1234)
    compared = Comparison(difference=-0.1234, low=-0.1234, high=-0.1234, bounds=bounds)
    metrics = sorted(Metric, key=lambda metric: -len(metric.value))[:4]
    requests = Requests(
        prompt_tokens=12345.6,
        completion_tokens=1234.5,
        latency_p50=123.456,
        latency_p95=123.456,
        requests_per_second=1234.56,
        too_long=12345,
        fewer_examples=12345,
    )
    largest = Contender(scores=dict.fromkeys(metrics, score), comparisons={}, requests=requests)
    baseline = largest.model_copy(update={"comparisons": dict.fromkeys(metrics, compared)})
    found = EvaluateResult(
        evaluation="0a1b2c3d",
        rows=100000,
        leaked=100000,
        near_duplicates=100000,
        metrics=tuple(metrics),
        reason="The answers are 20 labels that recur.",
        tuned=largest,
        baselines={"zero-shot": baseline, "few-shot": baseline, "retrieval": baseline},
        drift=score,
    )
    message = Termination(reason="Succeeded", result=json.loads(found.model_dump_json(by_alias=True)))
    assert len(message.model_dump_json(by_alias=True).encode()) <= TERMINATION_BYTES
