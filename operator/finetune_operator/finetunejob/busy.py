"""How busy the engine behind the endpoint is, where that is the FineTuneJob's own: whom to ask, and what to tell.

For `plan` and `summary`. A shared Engine's own status tells it of its pods.
"""

from datetime import datetime

from finetune_operator.api.requests import EngineRequests
from finetune_operator.finetunejob.desired.hosting import labelled
from finetune_operator.finetunejob.observe import World
from finetune_operator.kinds.questions import Question
from finetune_operator.pods.state import PodState
from finetune_operator.serving import requests

# Nothing is decided by it, and each FineTuneJob that serves has pods to ask: of ten thousand, 170 a second.
EVERY = 4


def questions(world: World) -> dict[str, Question]:
    """The pods that are worth asking."""
    return requests.questions(_pods(world), EVERY)


def told(world: World, now: datetime) -> EngineRequests | None:
    """What status tells."""
    return requests.told(_pods(world), world.busy, world.status.requests, now)


def again_after(world: World, now: datetime) -> float | None:
    """Seconds until there is something to tell that no other news tell of."""
    return requests.again_after(_pods(world), world.busy, world.status.requests, now)


def _pods(world: World) -> tuple[PodState, ...]:
    if world.holder is None:
        return ()
    revision, stage = labelled(world.served_revision or "")
    return world.pods_of(stage, revision)
