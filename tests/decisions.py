"""An evaluation as it may come out, and what is decided from it, for the tests of the report.

The numbers are of the order of those measured on real guests' messages (restaurant8k).
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from finetune_trainer.contract.config import (
    DatasetConfig,
    EvaluationConfig,
    GateConfig,
    Metric,
    ModelConfig,
    Prices,
    RunConfig,
    Source,
)
from finetune_trainer.contract.results import Comparison, Contender, EvaluateResult, Requests, Score, Trial, Usage
from finetune_trainer.evaluation.advice import Curve
from finetune_trainer.evaluation.decision import Decision, Found, decide
from finetune_trainer.evaluation.inspection import Row, Similar

# By how much the difference is known to be smaller.
BOUNDS = {"0.8": 0.02, "0.9": 0.03, "0.95": 0.04, "0.99": 0.06}
NOW = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
CURVE = Curve(
    loss=tuple((step, 1.0 if step < 5 else 0.3) for step in range(1, 41)), validation_loss=((20, 0.31), (40, 0.3))
)
CONFIG = RunConfig(
    name="bookings",
    revision="0a1b2c3d",
    model=ModelConfig(source=Source(uri="file:///home/anna/models/SmolLM2", path=Path("/home/anna/models/SmolLM2"))),
    dataset=DatasetConfig(train=Source(uri="s3://b/train.jsonl")),
)
ROWS = (
    Row(
        prompt="A table for two at seven",
        reference='{"people": "two", "time": "seven"}',
        answers={"tuned": '{"people": "two"}', "retrieval": '{"people": "two", "time": "seven"}'},
        scores={
            Metric.EXACT_MATCH: {"tuned": 0.67, "retrieval": 1.0},
            Metric.TOKEN_F1: {"tuned": 0.8, "retrieval": 1.0},
        },
    ),
    Row(
        prompt="yes please",
        reference="{}",
        answers={"tuned": "", "retrieval": "{}"},
        scores={
            Metric.EXACT_MATCH: {"tuned": 0.0, "retrieval": 1.0},
            Metric.TOKEN_F1: {"tuned": 1.0, "retrieval": 1.0},
        },
    ),
    Row(
        prompt="no thanks",
        reference="{}",
        answers={"tuned": "{}", "retrieval": "{}"},
        scores={
            Metric.EXACT_MATCH: {"tuned": 1.0, "retrieval": 1.0},
            Metric.TOKEN_F1: {"tuned": 1.0, "retrieval": 1.0},
        },
    ),
)


TRIALS = (
    Trial(
        number=1,
        parameters={"learningRate": 1e-4, "adapter.rank": 8},
        outcome="Diverged",
        message="The loss is <nan>.",
    ),
    Trial(
        number=2,
        parameters={"learningRate": 3e-4, "adapter.rank": 32},
        outcome="Succeeded",
        validation_loss=0.31,
        usage=Usage(trained_tokens=30_000, seconds=60.2),
        taken=True,
    ),
)


def contender(score: float, prompt_tokens: float, tuned: float | None = None, half: float = 0.06) -> Contender:
    """A contender by exact_match; a baseline when `tuned` has the tuned model's score."""
    comparisons = {}
    if tuned is not None:
        difference = tuned - score
        bounds = {name: difference - lost for name, lost in BOUNDS.items()}
        low, high = difference - 0.05, difference + 0.05
        comparisons = {Metric.EXACT_MATCH: Comparison(difference=difference, low=low, high=high, bounds=bounds)}
    requests = Requests(
        prompt_tokens=prompt_tokens,
        completion_tokens=12,
        latency_p50=0.5,
        latency_p95=1.5,
        requests_per_second=1000 / prompt_tokens,
    )
    value = Score(score=score, low=max(0, score - half), high=min(1, score + half))
    return Contender(scores={Metric.EXACT_MATCH: value}, comparisons=comparisons, requests=requests)


def result(score: float = 0.67, retrieval: float = 0.61, **fields: Any) -> EvaluateResult:
    """The result of an evaluation in which the tuned model reached `score`."""
    baselines = {
        "zero-shot": contender(0.0, 73, score),
        "few-shot": contender(0.23, 173, score),
        "retrieval": contender(retrieval, 203, score),
    }
    facts: dict[str, Any] = {
        "evaluation": "00000001",
        "rows": 200,
        "leaked": 0,
        "near_duplicates": 0,
        "metrics": (Metric.EXACT_MATCH,),
        "reason": "The manifest names it.",
        "tuned": contender(score, 73),
        "baselines": baselines,
        "drift": Score(score=0.31, low=0.2, high=0.42),
    }
    return EvaluateResult(**(facts | fields))


def sure_of(difference: float, bound: float = 0.005) -> EvaluateResult:
    """The tuned model's lead over the best baseline, retrieval, and by how much it is better with 95% confidence."""
    found = result(0.61 + difference)
    best = found.baselines["retrieval"]
    lead = best.comparisons[Metric.EXACT_MATCH]
    surely = lead.model_copy(update={"bounds": dict.fromkeys(BOUNDS, bound)})
    best = best.model_copy(update={"comparisons": {Metric.EXACT_MATCH: surely}})
    return found.model_copy(update={"baselines": found.baselines | {"retrieval": best}})


def decision(
    found: EvaluateResult | None = None,
    gate: GateConfig | None = None,
    prices: Prices | None = None,
    accelerators: int = 1,
    base_alone: bool = False,
    accelerator_seconds: float = 3600,
    curve: Curve = CURVE,
    rows: tuple[Row, ...] = ROWS,
    seconds: float = 0,
    similar: Similar = lambda row: (),
    manifest: dict[str, str] | None = None,
    chosen: str = "",
    trials: tuple[Trial, ...] = (),
) -> Decision:
    """What is decided from it."""
    evaluation = EvaluationConfig(
        gate=gate, prices=prices or Prices(), accelerators=accelerators, base_alone=base_alone
    )
    usage = Usage(trained_tokens=100_000, seconds=3600, accelerator_seconds=accelerator_seconds)
    made = Found(found or result(), rows, usage, curve, seconds, similar, manifest or {}, chosen, trials)
    return decide(CONFIG, evaluation, made, NOW)
