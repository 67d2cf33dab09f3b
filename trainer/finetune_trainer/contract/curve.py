"""The losses of a training by step: what a train pod tells of them, and what of a long one is kept.

The trainer makes it of its log, the operator copies it into the FineTuneJob's status, and the web page draws it. Pure.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, NamedTuple

from pydantic import Field

# Of a termination message and of a status that is written at each look there is so much to spare, and a curve has no
# more turns than that. Validations, of which there are a handful, come on top.
TOLD = 50
DIGITS = 4

Finite = Annotated[float, Field(allow_inf_nan=False)]


class Point(NamedTuple):
    """Losses at a step; None where that was not measured there."""

    step: Annotated[int, Field(ge=0, le=2**53)]
    loss: Finite | None
    validation_loss: Finite | None


Curve = tuple[Point, ...]


def of(rows: Iterable[Mapping[str, float]]) -> list[Point]:
    """The curve of rows as metrics.jsonl has them, which are no more than a chart has room for."""
    found = [Point(int(row["step"]), _number(row.get("loss")), _number(row.get("validationLoss"))) for row in rows]
    return [point for point in found if point[1:] != (None, None)]


def told(rows: Iterable[Mapping[str, float]]) -> Curve:
    """It, as short as a pod tells it."""
    return tuple(thinned(of(rows), TOLD))


def thinned(points: Sequence[Point], most: int) -> list[Point]:
    """About `most` points, evenly; the first one, the last one, and all that have a validation loss, stay."""
    every = -(-len(points) // most) or 1
    return [
        point
        for at, point in enumerate(points, 1)
        if at % every == 1 % every or point.validation_loss is not None or at == len(points)
    ]


def _number(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else round(value, DIGITS)
