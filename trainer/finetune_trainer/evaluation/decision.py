"""From what was measured to what a decision-maker asks: ship it, how sure, at what cost, what got worse, what next.

Called by `stages.evaluate`, which writes it as report.json, and by `finetune report`, which decides again
with another gate or other prices. Pure.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from finetune_trainer.contract import gate as gates
from finetune_trainer.contract.config import Contract, EvaluationConfig, GateConfig, Metric, Prices, RunConfig
from finetune_trainer.contract.report import Contender, EvaluateResult, Usage
from finetune_trainer.evaluation.advice import Curve, advice
from finetune_trainer.evaluation.inspection import TUNED, Inspection, Row, Similar, inspect
from finetune_trainer.evaluation.standing import Baseline, Lead, Recommendation, Standing, evidence, standing

# Training a token costs as much as serving three: 6N against 2N operations for N parameters (Kaplan et al. 2020,
# "Scaling Laws for Neural Language Models", section 2.1).
TRAINED_TO_SERVED = 3


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
    """The report: report.json. `inspections`: the rows that deserve a look, by each metric.

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
    inspections: dict[Metric, Inspection]
    gate: GateConfig | None
    prices: Prices
    accelerators: int
    metric: Metric
    verdict: Verdict
    recommendation: Recommendation
    headline: str
    evidence: str
    best_baseline: str | None
    training: Training
    costs: dict[str, Cost]
    break_even: int | None
    break_even_reason: str
    advice: tuple[str, ...]

    @property
    def inspection(self) -> Inspection:
        """The rows that deserve a look, by the metric that decides."""
        return self.inspections[self.metric]


def _none(row: Row) -> tuple[()]:
    return ()


@dataclass(frozen=True)
class Found:
    """What the stages found. `similar`: the rows of train that are most like one of test."""

    result: EvaluateResult
    rows: Sequence[Row]
    usage: Usage
    curve: Curve
    similar: Similar = _none


def decide(config: RunConfig, evaluation: EvaluationConfig, found: Found, now: datetime) -> Decision:
    """The report of one evaluation. `now`: when it was made."""
    facts: dict[str, Any] = {
        "name": config.name,
        "revision": config.revision,
        "base_model": config.model.name,
        "made": now,
        "result": found.result,
        "usage": found.usage,
        "curve": found.curve,
        "inspections": {metric: inspect(found.rows, metric, found.similar) for metric in found.result.metrics},
    }
    return Decision(**facts, **_decided(facts, evaluation.gate, evaluation.prices, evaluation.accelerators))


def again(decision: Decision, gate: GateConfig | None, prices: Prices, accelerators: int | None = None) -> Decision:
    """The same measurement, decided by another gate and with other prices."""
    serving = decision.accelerators if accelerators is None else accelerators
    return decision.model_copy(update=_decided(dict(decision), gate, prices, serving))


def curve(path: Path) -> Curve:
    """The losses in a metrics.jsonl; an empty curve where there is none."""
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return Curve(
        loss=tuple((line["step"], line["loss"]) for line in lines if "loss" in line),
        validation_loss=tuple((line["step"], line["validationLoss"]) for line in lines if "validationLoss" in line),
    )


def _decided(facts: Mapping[str, Any], gate: GateConfig | None, prices: Prices, accelerators: int) -> dict[str, object]:
    """The fields that a gate and prices change."""
    result, usage = facts["result"], facts["usage"]
    verdict = gates.judge(result, gate)
    stands = standing(result, gate, verdict.passed)
    training = _training(usage, prices)
    costs = {
        name: _cost(contender, prices, accelerators)
        for name, contender in {TUNED: result.tuned, **result.baselines}.items()
    }
    best = stands.best.name if stands.best else None
    pays, why = _break_even(training, costs, best)
    return {
        "gate": gate,
        "prices": prices,
        "accelerators": accelerators,
        "metric": stands.metric,
        "verdict": Verdict(passed=verdict.passed, message=verdict.message),
        "recommendation": stands.recommendation,
        "headline": _headline(stands),
        "evidence": evidence(stands, facts["inspections"][stands.metric]),
        "best_baseline": best,
        "training": training,
        "costs": costs,
        "break_even": pays,
        "break_even_reason": why,
        "advice": advice(result, facts["curve"], stands),
    }


def _headline(stands: Standing) -> str:
    if stands.best is None:
        return _alone(stands)
    best, compared = stands.best.name, stands.best.compared
    told = _told(stands, stands.best)
    if stands.cut:
        return f"Not clear: {told}. {stands.cut}"
    if stands.lead == Lead.BEHIND:
        if stands.recommendation == Recommendation.KEEP:
            return f"Don't ship it: it is no better. {told}. Use {best} on the base model instead."
        return f"Not clear: it is no better, and the gate allows for that. {told}. Ship it only for what it saves."
    span = f"a difference between {compared.low:+.3f} and {compared.high:+.3f}"
    if stands.lead == Lead.UNCLEAR:
        unclear = f"{told}, {span}. Evaluate on more rows than {stands.rows}, or use {best}."
        if stands.recommendation == Recommendation.KEEP:
            return f"Don't ship it: it misses the gate, and may not even be better: {unclear}"
        return f"Not clear: it may not be better: {unclear}"
    if stands.recommendation == Recommendation.KEEP:
        return f"Don't ship it: it misses the gate, though it is better: {told}, {span}."
    return f"Ship it: {told}, {span}."


def _told(stands: Standing, best: Baseline) -> str:
    return f"{stands.metric.value} {stands.tuned.score:.3f} against {best.score:.3f} of the best baseline, {best.name}"


def _alone(stands: Standing) -> str:
    told = f"{stands.metric.value} {stands.tuned.score:.3f}, compared with nothing"
    if stands.cut:
        return f"Not clear: {told}. {stands.cut}"
    match stands.recommendation:
        case Recommendation.SHIP:
            return f"Ship it: {told}."
        case Recommendation.KEEP:
            return f"Don't ship it: {told}; it misses the gate."
    return f"Not clear: {told}. Add baselines, or a gate with a minimum."


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
