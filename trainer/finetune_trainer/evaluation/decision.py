"""From what was measured to what a decision-maker asks: ship it, how sure, at what cost, what got worse, what next.

Called by `stages.evaluate`, which writes it as report.json, and by `finetune report`, which decides again
with another gate or other prices. Pure.
"""

import json
from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from finetune_trainer.contract import gate as gates
from finetune_trainer.contract.config import Contract, EvaluationConfig, GateConfig, Prices, RunConfig
from finetune_trainer.contract.gate import best_baseline
from finetune_trainer.contract.report import Contender, EvaluateResult, Usage
from finetune_trainer.evaluation import cut
from finetune_trainer.evaluation.advice import Curve, advice

# Training a token costs as much as serving three: 6N against 2N operations for N parameters (Kaplan et al. 2020,
# "Scaling Laws for Neural Language Models", section 2.1).
TRAINED_TO_SERVED = 3
REGRESSIONS = 20
SHIP_BOUND = "0.95"
TUNED = "tuned"


class Answer(StrEnum):
    """Whether to ship the tuned model."""

    SHIP = "ship"
    UNSURE = "unsure"
    KEEP = "keep"


class Row(Contract):
    """One test row: what the user said, the right answer, and by contender the answer and its score."""

    prompt: str
    reference: str
    answers: dict[str, str]
    scores: dict[str, float]


class Regression(Contract):
    """A row that a baseline answered better than the tuned model."""

    prompt: str
    reference: str
    tuned: str
    baseline: str
    answer: str
    lost: float


class Verdict(Contract):
    """The gate's."""

    passed: bool
    message: str


class Training(Contract):
    """What training took. `money` is None without a price or an accelerator."""

    trained_tokens: int
    hours: float
    accelerator_hours: float
    money: float | None


class Cost(Contract):
    """A thousand requests to one contender. `money` is None without prices."""

    prompt_tokens: float
    completion_tokens: float
    money: float | None


class Decision(Contract):
    """The report: report.json. `regressions` are the worst `REGRESSIONS` of `worse` rows.

    `break_even`: after how many requests the training has paid for itself, against the best baseline; None with
    `break_even_reason` saying why.
    """

    name: str
    revision: str
    base_model: str
    made: datetime
    result: EvaluateResult
    usage: Usage
    curve: Curve
    gate: GateConfig | None
    prices: Prices
    accelerators: int
    verdict: Verdict
    answer: Answer
    headline: str
    best_baseline: str | None
    training: Training
    costs: dict[str, Cost]
    break_even: int | None
    break_even_reason: str
    worse: int
    regressions: tuple[Regression, ...]
    advice: tuple[str, ...]


def decide(
    config: RunConfig,
    evaluation: EvaluationConfig,
    result: EvaluateResult,
    rows: Sequence[Row],
    usage: Usage,
    curve: Curve,
    now: datetime,
) -> Decision:
    """The report of one evaluation. `now`: when it was made."""
    worse = sorted(_regressions(rows), key=lambda found: -found.lost)
    facts = {
        "name": config.name,
        "revision": config.revision,
        "base_model": config.model.name,
        "made": now,
        "result": result,
        "usage": usage,
        "curve": curve,
        "worse": len(worse),
        "regressions": tuple(worse[:REGRESSIONS]),
        "advice": advice(result, curve),
    }
    return Decision(**facts, **_decided(result, usage, evaluation.gate, evaluation.prices, evaluation.accelerators))


def again(decision: Decision, gate: GateConfig | None, prices: Prices, accelerators: int | None = None) -> Decision:
    """The same measurement, decided by another gate and with other prices."""
    serving = decision.accelerators if accelerators is None else accelerators
    return decision.model_copy(update=_decided(decision.result, decision.usage, gate, prices, serving))


def curve(path: Path) -> Curve:
    """The losses in a metrics.jsonl; an empty curve where there is none."""
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return Curve(
        loss=tuple((line["step"], line["loss"]) for line in lines if "loss" in line),
        validation_loss=tuple((line["step"], line["validationLoss"]) for line in lines if "validationLoss" in line),
    )


def _decided(
    result: EvaluateResult, usage: Usage, gate: GateConfig | None, prices: Prices, accelerators: int
) -> dict[str, object]:
    """The fields that a gate and prices change."""
    verdict = gates.judge(result, gate)
    answer, headline = _answer(result, gate, verdict.passed)
    metric = gates.deciding(result, gate)
    if why := cut.hanging(result, metric, answer == Answer.SHIP):
        answer, headline = Answer.UNSURE, f"Not clear: {gates.compared(result, metric)} {why}"
    training = _training(usage, prices)
    costs = {
        name: _cost(contender, prices, accelerators)
        for name, contender in {TUNED: result.tuned, **result.baselines}.items()
    }
    best = best_baseline(result, gates.deciding(result, gate))
    pays, why = _break_even(training, costs, best)
    return {
        "gate": gate,
        "prices": prices,
        "accelerators": accelerators,
        "verdict": Verdict(passed=verdict.passed, message=verdict.message),
        "answer": answer,
        "headline": headline,
        "best_baseline": best,
        "training": training,
        "costs": costs,
        "break_even": pays,
        "break_even_reason": why,
    }


def _answer(result: EvaluateResult, gate: GateConfig | None, passed: bool) -> tuple[Answer, str]:
    metric = gates.deciding(result, gate)
    tuned, best = result.tuned.scores[metric].score, best_baseline(result, metric)
    if best is None:
        return _alone(f"{metric.value} {tuned:.3f}, compared with nothing", gate, passed)
    found = result.baselines[best]
    compared = found.comparisons[metric]
    told = f"{metric.value} {tuned:.3f} against {found.scores[metric].score:.3f} of the best baseline, {best}"
    span = f"a difference between {compared.low:+.3f} and {compared.high:+.3f}"
    if compared.difference <= 0:
        return Answer.KEEP, f"Don't ship it: fine-tuning does not help. {told}. Use {best} on the base model instead."
    if compared.bounds[SHIP_BOUND] <= 0:
        more = f"the interval of the difference, {compared.low:+.3f} to {compared.high:+.3f}, has both signs"
        unclear = f"{told}; {more}. Evaluate on more rows than {result.rows}, or use {best}."
        if not passed:
            return Answer.KEEP, f"Don't ship it: it misses the gate, and may not even be better: {unclear}"
        return Answer.UNSURE, f"Not clear: {unclear}"
    if not passed:
        return Answer.KEEP, f"Don't ship it: it misses the gate, though it is better: {told}, {span}."
    return Answer.SHIP, f"Ship it: {told}, {span}."


def _alone(told: str, gate: GateConfig | None, passed: bool) -> tuple[Answer, str]:
    if gate is None:
        return Answer.UNSURE, f"Not clear: {told}. Add baselines, or a gate with a minimum."
    return (
        (Answer.SHIP, f"Ship it: {told}.") if passed else (Answer.KEEP, f"Don't ship it: {told}; it misses the gate.")
    )


def _training(usage: Usage, prices: Prices) -> Training:
    hours = usage.accelerator_seconds / 3600
    priced = prices.accelerator_hour is not None and hours > 0
    return Training(
        trained_tokens=usage.trained_tokens,
        hours=usage.seconds / 3600,
        accelerator_hours=hours,
        money=hours * (prices.accelerator_hour or 0) if priced else None,
    )


def _cost(contender: Contender, prices: Prices, accelerators: int) -> Cost:
    """By the token where tokens have prices, else by the time that a thousand requests keep the accelerators busy."""
    took = contender.requests
    prompt, completion = 1000 * took.prompt_tokens, 1000 * took.completion_tokens
    money = None
    if prices.million_prompt_tokens is not None or prices.million_completion_tokens is not None:
        money = prompt * (prices.million_prompt_tokens or 0) + completion * (prices.million_completion_tokens or 0)
        money /= 1_000_000
    elif prices.accelerator_hour is not None and accelerators and took.requests_per_second:
        money = 1000 / took.requests_per_second / 3600 * accelerators * prices.accelerator_hour
    return Cost(prompt_tokens=prompt, completion_tokens=completion, money=money)


def _break_even(training: Training, costs: dict[str, Cost], best: str | None) -> tuple[int | None, str]:
    if best is None:
        return None, "Nothing was compared, so nothing is saved."
    tuned, other = costs[TUNED], costs[best]
    if training.money is not None and tuned.money is not None and other.money is not None:
        saved, spent = (other.money - tuned.money) / 1000, training.money
        how = "Reckoned in money"
    else:
        tokens = (cost.prompt_tokens + cost.completion_tokens for cost in (other, tuned))
        saved, spent = (next(tokens) - next(tokens)) / 1000, TRAINED_TO_SERVED * training.trained_tokens
        how = "Reckoned in tokens, a trained one as three served ones (6N and 2N operations for N parameters)"
    if saved <= 0:
        return None, f"A request to the tuned model costs no less than one to {best}: training pays by quality alone."
    return -int(-spent // saved), f"{how}, against {best}."


def _regressions(rows: Sequence[Row]) -> list[Regression]:
    found = []
    for row in rows:
        others = {name: score for name, score in row.scores.items() if name != TUNED}
        best = max(others, key=lambda name: others[name], default=None)
        if best is not None and others[best] > row.scores[TUNED]:
            lost = others[best] - row.scores[TUNED]
            texts = {"prompt": row.prompt, "reference": row.reference, "tuned": row.answers[TUNED]}
            found.append(Regression(**texts, baseline=best, answer=row.answers[best], lost=round(lost, 4)))
    return found
