"""Which engine answers for a model's name, beside those of OpenAI's form: Engines, and what is promoted on them. Pure.

An Engine answers under its own name for its base model, and a FineTuneJob on one (`hosting.engine`) under its own. A
candidate that no gate has let through is nobody's to ask here.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from finetune_operator.finetunejob.shared import engine_named_in

from finetune_server.settings import Raw

_NAME = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")


@dataclass(frozen=True)
class ModelRoute:
    """Where a model is asked: the base URL, the name that it goes by there, and the Engine that may have to be woken;
    None for an engine that is a FineTuneJob's own. Where a model on a laptop sleeps, there is no URL yet.
    """

    name: str
    url: str
    model: str
    engine: str | None = None


def is_object(name: str) -> bool:
    """Whether an Engine or a FineTuneJob can have that name."""
    return _NAME.fullmatch(name) is not None


def of_engine(engine: Raw) -> ModelRoute | None:
    """An Engine's own model; None where it is nobody's to ask, being no Engine yet or scaled to zero for good."""
    name, url = engine["metadata"]["name"], engine.get("status", {}).get("url")
    return ModelRoute(name, url, name, name) if url and (asleep(engine) or _replicas(engine)) else None


def of_job(job: Raw, name: str | None = None) -> ModelRoute | None:
    """What a FineTuneJob has promoted, under its own name on an Engine, or under the given one wherever it is."""
    endpoint, on = job.get("status", {}).get("endpoint"), engine_named_in(job["spec"])
    if not endpoint or (name is None and on is None):
        return None
    return ModelRoute(name or job["metadata"]["name"], endpoint["url"], endpoint["model"], on)


def models(engines: Iterable[Raw], jobs: Iterable[Raw]) -> list[Raw]:
    """OpenAI's objects of the models that have no name of OpenAI's form."""
    asked = [*((raw, of_engine(raw)) for raw in engines), *((raw, of_job(raw)) for raw in jobs)]
    return [model(raw, route) for raw, route in asked if route]


def model(raw: Raw, route: ModelRoute) -> Raw:
    """OpenAI's object of one."""
    metadata = raw["metadata"]
    created = int(datetime.fromisoformat(metadata["creationTimestamp"]).timestamp())
    return {"id": route.name, "object": "model", "created": created, "owned_by": metadata["namespace"]}


def asleep(engine: Raw) -> bool:
    """Whether an Engine has no pods until somebody needs it. One that was scaled to zero and has no idleAfter is not to
    be woken: somebody has taken its accelerators away.
    """
    # As EngineSpec.asleep has it; Engines are not read as such here.
    return not _replicas(engine) and may_sleep(engine)


def may_sleep(engine: Raw) -> bool:
    """Whether it falls asleep when nobody asks."""
    return bool(engine["spec"].get("idleAfter"))


def answers(engine: Raw) -> bool:
    """Whether a pod does, as far as the operator has told since the manifest, or its replicas, changed last."""
    status = engine.get("status", {})
    current = status.get("observedGeneration", 0) >= engine["metadata"].get("generation", 0)
    return bool(current and _replicas(engine) and status.get("availableReplicas", 0) > 0)


def trouble(engine: Raw) -> str | None:
    """Why it does not become ready, in the operator's words."""
    conditions = engine.get("status", {}).get("conditions", [])
    wrong = (found for found in conditions if found["type"] == "Ready" and found["status"] == "False")
    return next((str(found["message"]) for found in wrong), None)


def _replicas(engine: Raw) -> int:
    return int(engine["spec"].get("replicas", 1))
