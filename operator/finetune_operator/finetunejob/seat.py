"""What answers, and where: what the stable Service says. `observe` reads it, `desired.hosting` writes it."""

from dataclasses import dataclass

from finetune_operator import names
from finetune_operator.pods.metadata import Raw


@dataclass(frozen=True)
class Seat:
    """A revision or a checkpoint by its address, and the shared Engine that it is on; `on` is empty for an engine of
    its own.
    """

    address: str
    on: str = ""


def pointer_of(stable: Raw) -> Seat | None:
    """What the stable Service says; None where somebody has turned it to other pods."""
    labels, selector = stable["metadata"].get("labels") or {}, stable["spec"].get("selector") or {}
    revision, engine = selector.get(names.REVISION), selector.get(names.ENGINE_OF)
    if revision:
        return Seat(names.address(revision, names.step_of(selector.get(names.STAGE, ""))))
    return Seat(labels[names.REVISION], engine) if engine and names.REVISION in labels else None


def loaded_on(raw: Raw) -> str:
    """The shared Engine that an object is about; empty for one of its own."""
    return str((raw["metadata"].get("labels") or {}).get(names.LOADED_ON, ""))
