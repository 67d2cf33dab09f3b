"""From what was measured to what a decision-maker asks: ship it, how sure, at what cost, what got worse, what next.

Called by `stages.evaluate`, which writes it as report.json, and by `finetune report`, which decides again
with another gate or other prices. Pure.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from finetune_trainer.contract import gate as gates
from finetune_trainer.contract.config import Contract, EvaluationConfig, GateConfig, Metric, Prices, RunConfig
from finetune_trainer.contract.results import TUNED, EvaluateResult, Trial, Usage
from finetune_trainer.evaluation.advice import Curve, advice
from finetune_trainer.evaluation.costs import BreakEven, Cost, Making, break_even, cost, making
from finetune_trainer.evaluation.inspection import Inspection, Row, Similar, inspect
from finetune_trainer.evaluation.standing import BestBaseline, Lead, Recommendation, Standing, evidence, standing

REPORT = "report.json"


class Decision(Contract):
    """The report: report.json. `inspections`: the rows that deserve a look, by each metric.

    `seconds` are the evaluation's, `engines` those that were held for it, each as large as what serves.
    `break_even`: when training is paid back, against the best baseline. `chosen`: why the artifact is not what the last
    step came to, as a sentence; empty where it is. `trials`: of a sweep.
    """

    name: str
    revision: str
    base_model: str
    manifest: dict[str, str]
    made: datetime
    result: EvaluateResult
    usage: Usage
    seconds: float
    engines: int = 1
    curve: Curve
    chosen: str = ""
    trials: tuple[Trial, ...] = ()
    inspections: dict[Metric, Inspection]
    gate: GateConfig | None
    prices: Prices
    accelerators: int
    metric: Metric
    verdict: gates.Verdict
    recommendation: Recommendation
    headline: str
    evidence: str
    best_baseline: str | None
    making: Making
    costs: dict[str, Cost]
    break_even: tuple[BreakEven, ...]
    advice: tuple[str, ...]

    @property
    def inspection(self) -> Inspection:
        """The rows that deserve a look, by the metric that decides."""
        return self.inspections[self.metric]


def _none(row: Row) -> tuple[()]:
    return ()


@dataclass(frozen=True)
class Found:
    """What the stages found. `seconds`: how long asking took; `similar`: the rows of train most like one of test.

    `manifest`: what the revision was told, as `manifest.fields` has it. `chosen` and `trials` as `Decision` has them.
    """

    result: EvaluateResult
    rows: Sequence[Row]
    usage: Usage
    curve: Curve
    seconds: float
    similar: Similar = _none
    manifest: Mapping[str, str] = field(default_factory=dict)
    chosen: str = ""
    trials: tuple[Trial, ...] = ()


def reported(directory: Path) -> Decision | None:
    """The report of an evaluation that is complete. None for another version's, too."""
    try:
        return Decision.model_validate_json((directory / REPORT).read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def decide(config: RunConfig, evaluation: EvaluationConfig, found: Found, now: datetime) -> Decision:
    """The report of one evaluation. `now`: when it was made."""
    facts: dict[str, Any] = {
        "name": config.name,
        "revision": config.revision,
        "base_model": config.model.name,
        "manifest": dict(found.manifest),
        "made": now,
        "result": found.result,
        "usage": found.usage,
        "seconds": found.seconds,
        "engines": 2 if evaluation.base_alone else 1,
        "curve": found.curve,
        "chosen": found.chosen,
        "trials": found.trials,
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
    result: EvaluateResult = facts["result"]
    verdict = gates.check(result, gate)
    stands = standing(result, gate, verdict.passed)
    made = making(result, facts["usage"], prices, accelerators * facts["engines"], facts["seconds"])
    contenders = {TUNED: result.tuned, **result.baselines}
    costs = {name: cost(name, contender, prices, accelerators) for name, contender in contenders.items()}
    best = stands.best.name if stands.best else None
    return {
        "gate": gate,
        "prices": prices,
        "accelerators": accelerators,
        "metric": stands.metric,
        "verdict": verdict,
        "recommendation": stands.recommendation,
        "headline": _headline(stands),
        "evidence": evidence(stands, facts["inspections"][stands.metric]),
        "best_baseline": best,
        "making": made,
        "costs": costs,
        "break_even": break_even(made, costs, best, accelerators, prices.currency),
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
            instead = best if stands.best.remote else f"{best} on the base model"
            return f"Don't ship it: it is no better. {told}. Use {instead} instead."
        return f"Not clear: it is no better, and the gate allows for that. {told}. Ship it only if it saves enough."
    span = f"a difference between {compared.low:+.3f} and {compared.high:+.3f}"
    if stands.lead == Lead.UNCLEAR:
        unclear = f"{told}, {span}. Evaluate on more rows than {stands.rows}, or use {best}."
        if stands.recommendation == Recommendation.KEEP:
            return f"Don't ship it: it misses the gate, and may not even be better: {unclear}"
        return f"Not clear: it may not be better: {unclear}"
    if stands.recommendation == Recommendation.KEEP:
        return f"Don't ship it: it misses the gate, though it is better: {told}, {span}."
    return f"Ship it: {told}, {span}."


def _told(stands: Standing, best: BestBaseline) -> str:
    return f"{stands.metric.value} {stands.tuned.score:.3f} against {best.score:.3f} of the best baseline, {best.name}"


def _alone(stands: Standing) -> str:
    told = f"{stands.metric.value} {stands.tuned.score:.3f}, {gates.without_baseline(stands.metric)}"
    if stands.cut:
        return f"Not clear: {told}. {stands.cut}"
    match stands.recommendation:
        case Recommendation.SHIP:
            return f"Ship it: {told}."
        case Recommendation.KEEP:
            return f"Don't ship it: {told}; it misses the gate."
    baselines = "" if stands.metric == Metric.RANKING_ACCURACY else "baselines, or "
    return f"Not clear: {told}. Add {baselines}a gate with a minimum."
