"""The gate: who passes, and the sentence that says by how much."""

from pathlib import Path

from decisions import contender, result
from finetune_trainer.contract.config import BaselineType, GateConfig, Metric
from finetune_trainer.contract.gate import best_baseline, judge
from finetune_trainer.contract.outcome import TERMINATION_BYTES
from finetune_trainer.contract.report import CONFIDENCES, Comparison, Contender, EvaluateResult, Requests, Score
from finetune_trainer.stages.frame import Ending, encode

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
    assert verdict.message == f"{TOLD} It misses gate.minimum 0.8 by 0.13."


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


class TestWhichMetric:
    EITHER = (Metric.EXACT_MATCH, Metric.TOKEN_F1)

    def both(self) -> EvaluateResult:
        """Best by exact match is retrieval, and by token F1 zero-shot, which is as good as the tuned model."""
        scores = {"tuned": (0.67, 0.9), "zero-shot": (0.2, 0.9), "retrieval": (0.5, 0.6)}
        found = {name: self.contender(*pair, *scores["tuned"]) for name, pair in scores.items()}
        return result(metrics=self.EITHER, tuned=found.pop("tuned"), baselines=found)

    def contender(self, exact: float, token: float, tuned_exact: float, tuned_token: float) -> Contender:
        pairs = (contender(exact, 90, tuned_exact), contender(token, 90, tuned_token))
        named = list(zip(self.EITHER, pairs, strict=True))
        return Contender(
            scores={metric: each.scores[Metric.EXACT_MATCH] for metric, each in named},
            comparisons={metric: each.comparisons[Metric.EXACT_MATCH] for metric, each in named},
            requests=pairs[0].requests,
        )

    def test_the_gates_decides_with_the_best_baseline_by_it(self) -> None:
        verdict = judge(self.both(), GateConfig(metric=Metric.TOKEN_F1))
        assert not verdict.passed
        assert verdict.message.startswith("token_f1 0.900")
        assert "the best baseline, zero-shot" in verdict.message

    def test_the_first_does_when_the_gate_names_none_or_one_that_was_not_measured(self) -> None:
        for metric in (None, Metric.ROUGE_L):
            verdict = judge(self.both(), GateConfig(metric=metric))
            assert verdict.passed
            assert verdict.message.startswith("exact_match 0.670")
            assert "the best baseline, retrieval" in verdict.message


def test_what_misses_both_is_told_both() -> None:
    message = judge(result(), GateConfig(minimum=0.8, margin=0.03)).message
    assert "misses gate.minimum 0.8" in message
    assert "gate.margin asks for more than 0.03" in message


def test_a_score_that_rounds_to_the_minimum_does_not_miss_it_by_nothing() -> None:
    verdict = judge(result(0.7999), GateConfig(minimum=0.8))
    assert not verdict.passed
    assert "It misses gate.minimum 0.8 by 0.0001." in verdict.message
    assert judge(result(0.8), GateConfig(minimum=0.8)).passed


def largest() -> EvaluateResult:
    """Four metrics with the longest names, all baselines, and every number as long as it gets."""
    score = Score(score=0.1234, low=0.1234, high=0.1234)
    bounds = dict.fromkeys(CONFIDENCES, -0.1234)
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
        cut=12345,
    )
    tuned = Contender(scores=dict.fromkeys(metrics, score), requests=requests)
    baseline = tuned.model_copy(update={"comparisons": dict.fromkeys(metrics, compared)})
    return EvaluateResult(
        evaluation="0a1b2c3d",
        rows=100000,
        leaked=100000,
        near_duplicates=100000,
        metrics=tuple(metrics),
        reason="Answers are short, 20 words on average.",
        tuned=tuned,
        baselines={type.value: baseline for type in BaselineType},
        drift=score,
    )


def test_the_largest_result_fits_into_a_termination_message() -> None:
    """The kubelet cuts a longer one, and half a document says nothing."""
    ending = Ending(Path())
    ending.succeed(largest())
    assert len(encode(ending.termination)) <= TERMINATION_BYTES
