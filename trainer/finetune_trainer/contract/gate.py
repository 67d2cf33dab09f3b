"""The gate: whether an evaluation's result lets a model through, and by how much.

Called by the operator's evaluate stage, and for the report by `standing`, `decision` and `cut`. Pure.
"""

from finetune_trainer.contract.config import Contract, GateConfig, Metric
from finetune_trainer.contract.results import EvaluateResult


class Verdict(Contract):
    """Whether the model passes, and a sentence with the numbers."""

    passed: bool
    message: str


def check(result: EvaluateResult, gate: GateConfig | None) -> Verdict:
    """Hold the result against the gate. Without one everything passes, and the message says so.

    The tuned score must reach `minimum`, and exceed the best baseline's by more than `margin`: the one-sided lower
    bound of the paired difference, at `confidence`, has to lie above it.
    """
    metric = deciding(result, gate)
    told = " ".join(filter(None, [compared(result, metric), _unread(result)]))
    if gate is None:
        return Verdict(passed=True, message=f"{told} No gate was set.")
    missed = [sentence for sentence in (_minimum(result, metric, gate), _margin(result, metric, gate)) if sentence]
    if missed:
        return Verdict(passed=False, message=f"{told} {' '.join(missed)}")
    return Verdict(passed=True, message=f"{told} The gate is met{_demanded(result, gate)}.")


def deciding(result: EvaluateResult, gate: GateConfig | None) -> Metric:
    """The metric that decides: the gate's where it was measured (a manifest's schema sees to that), else the first."""
    return gate.metric if gate and gate.metric in result.metrics else result.metrics[0]


def best_baseline(result: EvaluateResult, metric: Metric) -> str | None:
    """The baseline with the highest score; of equals the one with the shorter prompts. None without any."""

    def rank(name: str) -> tuple[float, float]:
        contender = result.baselines[name]
        return contender.scores[metric].score, -contender.requests.prompt_tokens

    measured = sorted(name for name, each in result.baselines.items() if metric in each.scores)
    return max(measured, key=rank, default=None)


def compared(result: EvaluateResult, metric: Metric) -> str:
    """The tuned model's score, and how far it is from the best baseline's, as a sentence."""
    tuned = result.tuned.scores[metric]
    told = f"{metric.value} {tuned.score:.3f} ({tuned.low:.3f} to {tuned.high:.3f}) on {result.rows} rows"
    best = best_baseline(result, metric)
    if best is None:
        return f"{told}, {without_baseline(metric)}."
    found = result.baselines[best]
    compared = found.comparisons[metric]
    return (
        f"{told}, against {found.scores[metric].score:.3f} of the best baseline, {best}: a difference of "
        f"{compared.difference:+.3f} ({compared.low:+.3f} to {compared.high:+.3f})."
    )


def without_baseline(metric: Metric) -> str:
    """What a score is to be held against where there is no baseline, as the end of a sentence."""
    return "where guessing has 0.5" if metric == Metric.RANKING_ACCURACY else "compared with nothing"


def _unread(result: EvaluateResult) -> str:
    unread = sum(contender.unread for contender in (result.tuned, *result.baselines.values()))
    return f"The judge named neither answer nor a tie {unread} times, which count as ties." if unread else ""


def _minimum(result: EvaluateResult, metric: Metric, gate: GateConfig) -> str | None:
    missing = (gate.minimum or 0) - result.tuned.scores[metric].score
    # Significant digits: a score rounded to the minimum would miss it by 0.000.
    return f"It misses gate.minimum {gate.minimum:g} by {missing:.3g}." if missing > 0 else None


def _margin(result: EvaluateResult, metric: Metric, gate: GateConfig) -> str | None:
    best = best_baseline(result, metric)
    if best is None:
        return None
    bound = result.baselines[best].comparisons[metric].bounds[bound_name(gate.confidence)]
    if bound > gate.margin:
        return None
    return (
        f"With {gate.confidence:.0%} confidence it is better than {best} by no more than {bound:+.3f}, and gate.margin "
        f"asks for more than {gate.margin:g}."
    )


def bound_name(confidence: float) -> str:
    """The key of `Comparison.bounds`."""
    return f"{confidence:g}"


def _demanded(result: EvaluateResult, gate: GateConfig) -> str:
    minimum = f" a score of {gate.minimum:g}" if gate.minimum is not None else ""
    if not result.baselines:
        margin = " there is no baseline to hold a margin against"
        return f":{minimum or ' no minimum is asked for'};{margin}"
    margin = f" a margin of {gate.margin:g} at {gate.confidence:.0%} confidence"
    return f":{minimum}{' and' if minimum else ''}{margin}"
