"""The gate: who passes, and the sentence that says by how much."""

import base64
import json
import random
import zlib
from pathlib import Path

import pytest
from decisions import contender, result
from finetune_trainer.contract.config import BaselineType, GateConfig, Metric
from finetune_trainer.contract.gate import best_baseline, check
from finetune_trainer.contract.outcome import TERMINATION_BYTES, Termination
from finetune_trainer.contract.results import CONFIDENCES, Comparison, Contender, EvaluateResult, Requests, Score
from finetune_trainer.stages.frame import Ending, encode
from pydantic import ValidationError

TOLD = (
    "exact_match 0.670 (0.610 to 0.730) on 200 rows, against 0.610 of the best baseline, retrieval: a difference of "
    "+0.060 (+0.010 to +0.110)."
)


def test_without_a_gate_everything_passes_and_that_is_said() -> None:
    verdict = check(result(0.1), None)
    assert verdict.passed
    assert verdict.message.endswith("No gate was set.")


def test_a_gate_that_is_met_says_what_it_demanded() -> None:
    verdict = check(result(), GateConfig(minimum=0.6, margin=0.01))
    assert verdict.passed
    assert verdict.message == f"{TOLD} The gate is met: a score of 0.6 and a margin of 0.01 at 95% confidence."


def test_a_score_below_the_minimum_says_how_much_is_missing() -> None:
    verdict = check(result(), GateConfig(minimum=0.8))
    assert not verdict.passed
    assert verdict.message == f"{TOLD} It misses gate.minimum 0.8 by 0.13."


def test_a_lead_that_is_not_sure_enough_says_what_is_sure() -> None:
    verdict = check(result(), GateConfig(margin=0.03))
    assert not verdict.passed
    assert verdict.message == (
        f"{TOLD} With 95% confidence it is better than retrieval by no more than +0.020, and gate.margin asks for more "
        "than 0.03."
    )


def test_the_confidence_decides_how_sure() -> None:
    assert not check(result(), GateConfig(margin=0.025, confidence=0.95)).passed
    assert check(result(), GateConfig(margin=0.025, confidence=0.9)).passed


def test_just_the_margin_is_not_enough() -> None:
    even = result(baselines={"zero-shot": contender(0.6, 73, tuned=0.64)}, tuned=contender(0.64, 73))
    bound = even.baselines["zero-shot"].comparisons[Metric.EXACT_MATCH].bounds["0.95"]
    assert not check(even, GateConfig(margin=bound)).passed
    assert check(even, GateConfig(margin=bound - 0.001)).passed


def test_compared_with_nothing_only_the_minimum_counts() -> None:
    alone = result(baselines={})
    verdict = check(alone, GateConfig(minimum=0.5))
    assert verdict.passed
    assert "compared with nothing" in verdict.message
    assert "there is no baseline to hold a margin against" in verdict.message
    assert not check(alone, GateConfig(minimum=0.9)).passed


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
        verdict = check(self.both(), GateConfig(metric=Metric.TOKEN_F1))
        assert not verdict.passed
        assert verdict.message.startswith("token_f1 0.900")
        assert "the best baseline, zero-shot" in verdict.message

    def test_the_first_does_when_the_gate_names_none_or_one_that_was_not_measured(self) -> None:
        for metric in (None, Metric.ROUGE_L):
            verdict = check(self.both(), GateConfig(metric=metric))
            assert verdict.passed
            assert verdict.message.startswith("exact_match 0.670")
            assert "the best baseline, retrieval" in verdict.message


def test_what_misses_both_is_told_both() -> None:
    message = check(result(), GateConfig(minimum=0.8, margin=0.03)).message
    assert "misses gate.minimum 0.8" in message
    assert "gate.margin asks for more than 0.03" in message


def test_a_score_that_rounds_to_the_minimum_does_not_miss_it_by_nothing() -> None:
    verdict = check(result(0.7999), GateConfig(minimum=0.8))
    assert not verdict.passed
    assert "It misses gate.minimum 0.8 by 0.0001." in verdict.message
    assert check(result(0.8), GateConfig(minimum=0.8)).passed


def largest() -> EvaluateResult:
    """Four metrics with the longest names, all baselines, and every number as long as it gets."""
    chance = random.Random(1)
    metrics = sorted(Metric, key=lambda metric: -len(metric.value))[:4]

    def number(least: float, most: float, digits: int = 4) -> float:
        return round(chance.uniform(least, most), digits)

    def score() -> Score:
        return Score(score=number(0.1, 1), low=number(0.1, 1), high=number(0.1, 1))

    def compared() -> Comparison:
        bounds = {name: number(-1, -0.1) for name in CONFIDENCES}
        return Comparison(difference=number(-1, -0.1), low=number(-1, -0.1), high=number(-1, -0.1), bounds=bounds)

    def measured(comparisons: bool) -> Contender:
        requests = Requests(
            prompt_tokens=number(10_000, 99_999, 1),
            completion_tokens=number(1000, 9999, 1),
            latency_p50=number(100, 999, 3),
            latency_p95=number(100, 999, 3),
            requests_per_second=number(1000, 9999, 2),
            too_long=chance.randint(10_000, 99_999),
            fewer_examples=chance.randint(10_000, 99_999),
            cut=chance.randint(10_000, 99_999),
        )
        against = {metric: compared() for metric in metrics} if comparisons else {}
        return Contender(scores={metric: score() for metric in metrics}, comparisons=against, requests=requests)

    return EvaluateResult(
        evaluation="0a1b2c3d",
        rows=100000,
        leaked=100000,
        near_duplicates=100000,
        metrics=tuple(metrics),
        reason="Answers are short, 20 words on average.",
        tuned=measured(comparisons=False),
        baselines={type.value: measured(comparisons=True) for type in BaselineType},
        drift=score(),
    )


def test_the_largest_result_fits_into_a_termination_message() -> None:
    """The kubelet cuts a longer one, and half a document says nothing."""
    ending = Ending(Path())
    ending.succeed(largest())
    encoded = encode(ending.termination)
    assert len(encoded) <= TERMINATION_BYTES
    assert EvaluateResult.model_validate(Termination.model_validate_json(encoded).result) == largest()


@pytest.mark.parametrize("packed", ["no base64", "AAAA", 3, base64.b64encode(zlib.compress(b"[" * 100_000)).decode()])
def test_what_was_never_packed_is_no_result_and_no_crash(packed: object) -> None:
    with pytest.raises(ValidationError):
        Termination.model_validate_json(json.dumps({"reason": "Succeeded", "packed": packed}))
