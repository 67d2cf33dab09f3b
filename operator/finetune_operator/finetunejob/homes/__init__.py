"""Where a revision answers: an engine of its own, or a shared Engine."""

from finetune_operator.finetunejob.homes.base import Home
from finetune_operator.finetunejob.homes.own import OwnEngine
from finetune_operator.finetunejob.homes.shared import SharedEngine
from finetune_operator.finetunejob.target import Target


def home(target: Target) -> Home:
    """The home that the manifest asks for."""
    named = target.spec.hosting.engine
    return SharedEngine(named.name, target.engine) if named else OwnEngine()


def home_on(target: Target, on: str) -> Home:
    """That of a seat: the manifest's, or the one that it is to move from."""
    wanted = home(target)
    if on == wanted.on:
        return wanted
    return SharedEngine(on) if on else OwnEngine()
