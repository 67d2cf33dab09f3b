"""What to try next, each a sentence made from evidence. Called by `decision`. Pure."""

from collections.abc import Callable, Sequence

from finetune_trainer.contract.config import Contract
from finetune_trainer.contract.results import EvaluateResult
from finetune_trainer.evaluation.standing import Lead, Recommendation, Standing

# Thresholds are ours: what a curve or an interval shows at a glance.
FALLING, RISING, FAR_BELOW = 0.02, 0.05, 1.5
ALMOST = 0.02
WIDE, NARROW = 0.15, 0.1
DRIFTED = 0.5


class Curve(Contract):
    """The losses of a training by step, in nats per token."""

    loss: tuple[tuple[int, float], ...] = ()
    validation_loss: tuple[tuple[int, float], ...] = ()


def advice(result: EvaluateResult, curve: Curve, stands: Standing) -> tuple[str, ...]:
    """What the evidence suggests; where it is silent, a word that says so."""
    return tuple(sentence for look in _LOOKS if (sentence := look(result, curve, stands))) or (_silent(stands),)


def _silent(stands: Standing) -> str:
    if stands.recommendation == Recommendation.SHIP:
        return "Nothing in the measurements suggests another try."
    return "No measurement says what would help: look at the rows that got worse, and at what train lacks of them."


def _still_falling(result: EvaluateResult, curve: Curve, stands: Standing) -> str | None:
    losses = [loss for _, loss in curve.loss]
    fifth = max(1, len(losses) // 5)
    if len(losses) < 5 or _overfits(curve):
        return None
    before, last = _mean(losses[-2 * fifth : -fifth]), _mean(losses[-fifth:])
    if last >= before * (1 - FALLING):
        return None
    return f"The loss was still falling at the end, from {before:.3f} to {last:.3f}: train more steps."


def _overfitting(result: EvaluateResult, curve: Curve, stands: Standing) -> str | None:
    if not _overfits(curve):
        return None
    lowest, last = min(loss for _, loss in curve.validation_loss), curve.validation_loss[-1][1]
    return (
        f"Overfitting: the validation loss ended at {last:.3f}, after {lowest:.3f} at its lowest, with a training loss "
        f"of {_trained(curve):.3f}. Train fewer epochs, with a lower rank, or on more rows."
    )


def _overfits(curve: Curve) -> bool:
    """The validation loss has risen from its lowest above the training loss, or is far above it."""
    if not curve.validation_loss or not curve.loss:
        return False
    lowest, last = min(loss for _, loss in curve.validation_loss), curve.validation_loss[-1][1]
    trained = _trained(curve)
    return last > trained * FAR_BELOW or last > max(trained, lowest * (1 + RISING))


def _trained(curve: Curve) -> float:
    """The training loss at the end: one step's alone is noise."""
    return _mean([loss for _, loss in curve.loss][-max(1, len(curve.loss) // 10) :])


def _hardly_better(result: EvaluateResult, curve: Curve, stands: Standing) -> str | None:
    if stands.best is None or stands.lead != Lead.AHEAD or stands.best.compared.difference > ALMOST:
        return None
    lead = f"{stands.best.compared.difference:.3f}"
    return f"It is better than {stands.best.name} by no more than {lead}: weigh that against what it costs."


def _left_out(result: EvaluateResult, curve: Curve, stands: Standing) -> str | None:
    left = result.leaked + result.near_duplicates
    if not left:
        return None
    return (
        f"{left} test rows also stand in train ({result.leaked} exactly, {result.near_duplicates} nearly) and were "
        "left out: split by source or by time, so that test stays unseen."
    )


def _did_not_fit(result: EvaluateResult, curve: Curve, stands: Standing) -> str | None:
    contenders = {"the tuned model": result.tuned, **result.baselines}
    told = [
        f"{each.requests.too_long or each.requests.fewer_examples} of {name}"
        for name, each in contenders.items()
        if each.requests.too_long or each.requests.fewer_examples
    ]
    if not told:
        return None
    return f"Prompts did not fit the context whole ({', '.join(told)}): raise hosting.contextLength."


def _too_few_rows(result: EvaluateResult, curve: Curve, stands: Standing) -> str | None:
    width = stands.tuned.high - stands.tuned.low
    if width <= WIDE:
        return None
    wanted = round(result.rows * (width / NARROW) ** 2, -1)
    return f"The interval is {width:.2f} wide: about {wanted:.0f} test rows in place of {result.rows} make it 0.1."


def _drifted(result: EvaluateResult, curve: Curve, stands: Standing) -> str | None:
    if result.drift is None or result.drift.score <= DRIFTED:
        return None
    return (
        f"On general prompts its answers share little with the base model's (drift {result.drift.score:.2f}): if it is "
        "to do more than this task, train with a lower rank or rate, or mix in general rows."
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


_LOOKS: tuple[Callable[[EvaluateResult, Curve, Standing], str | None], ...] = (
    _hardly_better,
    _overfitting,
    _still_falling,
    _too_few_rows,
    _left_out,
    _did_not_fit,
    _drifted,
)
