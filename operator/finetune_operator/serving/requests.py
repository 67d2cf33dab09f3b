"""What is asked of engines' pods about their load, and what status tells of it.

Used by every kind that serves: for the pods of an Engine, and for those of a FineTuneJob's own engine. Pure.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from finetune_operator.api.requests import MOST, EngineRequests, PodRequests
from finetune_operator.kinds.questions import Question
from finetune_operator.pods.state import PodState
from finetune_operator.serving.load import LOAD, Load

# Each count that is told is a write, and news for whoever follows.
COUNT_SECONDS = 30.0
# Of a pod's questions the one about its load; which adapters it has, is asked by the pod's own name.
_SUFFIX = "/load"


def questions(pods: Sequence[PodState], every: int = 1) -> dict[str, Question]:
    """The pods that are worth asking. `every`: in how many rounds they are, once."""
    return {f"{pod.name}{_SUFFIX}": Question(pod.ip, LOAD, every) for pod in pods if pod.ip and _answers(pod)}


def heard(answers: Mapping[str, Any]) -> dict[str, Load]:
    """What the pods told last, by their names."""
    return {name.removesuffix(_SUFFIX): load for name, load in answers.items() if isinstance(load, Load)}


def told(
    pods: Sequence[PodState], loads: Mapping[str, Load], before: EngineRequests | None, now: datetime
) -> EngineRequests | None:
    """What to tell of them: what was told `before`, as long as it is the same or was told just now."""
    counted = _counted(pods, loads, now)
    if counted is None:
        # An operator that starts has asked none yet.
        return before if before and any(_answers(pod) and pod.name in _names(before) for pod in pods) else None
    fresh = before is not None and now - before.at < timedelta(seconds=COUNT_SECONDS)
    return before if before and (fresh or _same(before, counted)) else counted


def again_after(
    pods: Sequence[PodState], loads: Mapping[str, Load], before: EngineRequests | None, now: datetime
) -> float | None:
    """Seconds until there is a count to tell that was told just now; None where there is none."""
    counted = _counted(pods, loads, now)
    if before is None or counted is None or _same(before, counted):
        return None
    return max(0.0, COUNT_SECONDS - (now - before.at).total_seconds()) + 1


def _answers(pod: PodState) -> bool:
    return pod.live and pod.ready and not pod.deleting


def _counted(pods: Sequence[PodState], loads: Mapping[str, Load], now: datetime) -> EngineRequests | None:
    names = sorted(pod.name for pod in pods if _answers(pod) and pod.name in loads)
    if not names:
        return None
    found = [loads[name] for name in names]
    return EngineRequests(
        running=sum(load.running for load in found),
        waiting=sum(load.waiting for load in found),
        cache_used=_share(max((load.cache for load in found if load.cache is not None), default=None)),
        pods=[
            PodRequests(pod=name, running=load.running, waiting=load.waiting, cache_used=_share(load.cache))
            for name, load in zip(names[:MOST], found[:MOST], strict=True)
        ],
        at=now.replace(microsecond=0),
    )


def _names(told: EngineRequests) -> set[str]:
    return {each.pod for each in told.pods}


def _share(used: float | None) -> str | None:
    return None if used is None else f"{used:.2f}"


def _same(one: EngineRequests, other: EngineRequests) -> bool:
    return one.model_copy(update={"at": other.at}) == other
