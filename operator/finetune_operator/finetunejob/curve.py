"""The losses of a training as status has them: those of a result, and those that a running pod tells of."""

from finetune_trainer.contract.curve import Curve

from finetune_operator.api.status import LossStatus

# A pod may say what it likes.
MOST = 64


def curve_status(curve: Curve) -> list[LossStatus] | None:
    """Fractions as strings; None where there are no losses."""
    return [
        LossStatus(step=point.step, loss=_text(point.loss), validation_loss=_text(point.validation_loss))
        for point in curve[-MOST:]
    ] or None


def _text(loss: float | None) -> str | None:
    return None if loss is None else f"{loss:.4f}"
