"""What train is told of `training.budget`: an argument, in hours.

The run config can't tell it: a revision's is written once, and a budget that is raised while training runs has to let
that go on. Used by the stages, by `walk` and by the local backend.
"""

from typing import Any

from finetune_operator import names
from finetune_operator.api.training import Training
from finetune_operator.pods.resources import accelerators
from finetune_operator.settings import Settings, variable

PRICE = "price_accelerator_hour"


def arguments(training: Training, settings: Settings) -> tuple[str, ...]:
    """None where there is no budget."""
    found = hours(training, settings)
    return () if found is None else ("--budget", f"{found:g}")


def hours(training: Training, settings: Settings) -> float | None:
    """Hours of accelerators: what is asked for, or what that much money buys, if that is less."""
    budget, price = training.budget, settings.price_accelerator_hour
    if budget is None:
        return None
    bought = budget.cost / price if budget.cost and price else None
    return min((each for each in (budget.accelerator_hours, bought) if each is not None), default=None)


def made_from(training: Training) -> dict[str, Any]:
    """What pods that are told are made from, for their digests; nothing where nobody has set a budget."""
    return {"budget": names.given(training.budget)} if training.budget else {}


def problem(training: Training, settings: Settings, local: bool = False) -> str | None:
    """Why a budget in money can't be kept. `local`: the machine's own devices train, whatever the manifest asks for."""
    if training.budget is None or training.budget.cost is None:
        return None
    if settings.price_accelerator_hour is None:
        return (
            f"training.budget.cost: what an hour of an accelerator costs is not known; set {variable(PRICE)} for the "
            f"{'command' if local else 'operator'}, or set acceleratorHours in place of cost."
        )
    if not local and accelerators(training.resources) == 0:
        return (
            "training.budget.cost: training.resources asks for no accelerator, and nothing else has a price; set "
            "acceleratorHours, which counts hours of pods then."
        )
    return None
