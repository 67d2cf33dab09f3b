"""A whole life of one FineTuneJob, and what is there at the end of each of its steps, comparable between namespaces.

Used by `test_faults`: a life in which things go wrong is held against one that nothing disturbed.
"""

import json
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from api_client import Raw
from finetune_operator import names
from finetune_operator.api.v1alpha1 import FineTuneJobSpec
from ground import Space
from node import Ending
from rehearsal import MANIFEST, TEST

NAME = "recipes"
MADE = ("Job", "Deployment", "Service", "NetworkPolicy", "PersistentVolumeClaim", "ConfigMap")
GATED = {"dataset": TEST, "evaluation": {"enabled": True, "gate": {"minimum": 0.5, "margin": 0.01}}}
# As much of the path as there can be: its base model has an engine of its own while it is measured.
ALL = GATED | {"training": MANIFEST["training"] | {"adapter": {"type": "none"}}}
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)")
_UID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
# Given by the API server and the controllers.
_GIVEN = {
    *("controller-uid", "batch.kubernetes.io/controller-uid", "clusterIP", "clusterIPs", "creationTimestamp"),
    *("ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy", "volumeName"),
}
# A Job controller that has lost count of its pods counts anew after five minutes (client-go's ControllerExpectations).
PATIENCE_SECONDS = 360

Outcome = Mapping[str, Any]


class Life:
    """A FineTuneJob of a space."""

    def __init__(self, space: Space, name: str = NAME) -> None:
        self.space, self.name = space, name

    @property
    def job(self) -> Raw | None:
        return self.space.mirror.get(self.space.name, "FineTuneJob", self.name)

    def condition(self, kind: str) -> tuple[str, str]:
        """Status and reason of a condition that tells of the manifest as it is; empty while there is none."""
        job = self.job or {}
        generation = job.get("metadata", {}).get("generation")
        for found in job.get("status", {}).get("conditions", []):
            if found["type"] == kind and found.get("observedGeneration") == generation:
                return found["status"], found["reason"]
        return "", ""

    @property
    def serves(self) -> bool:
        """Whether the endpoint answers with what the manifest asks for."""
        status = (self.job or {}).get("status", {})
        return self.condition("Ready")[0] == "True" and status.get("servedRevision") == status.get("revision")

    async def until(self, holds: Callable[["Life"], bool], seconds: float = PATIENCE_SECONDS) -> None:
        """Wait until something holds; AssertionError with status and log when it doesn't."""
        try:
            await self.space.mirror.until(self.space.name, lambda: holds(self), seconds)
        except TimeoutError:
            status = json.dumps((self.job or {}).get("status"), indent=1)
            raise AssertionError(f"not within {seconds} s: {status}\n{self.space.operator.log()[-4000:]}") from None

    def get(self, kind: str, name: str = "") -> Raw | None:
        return self.space.mirror.get(self.space.name, kind, name or self.name)

    def message(self, kind: str) -> str:
        """A condition's."""
        conditions = (self.job or {}).get("status", {}).get("conditions", [])
        return next((str(found["message"]) for found in conditions if found["type"] == kind), "")

    @property
    def revision(self) -> str:
        """The manifest's."""
        assert self.job
        return names.revision_of(FineTuneJobSpec.model_validate(self.job["spec"]))

    @property
    def served(self) -> str | None:
        """The revision that the stable Service points at."""
        service = self.get("Service")
        return service["spec"]["selector"].get(names.REVISION) if service else None

    def of(self, revision: str, kind: str, stage: str = "") -> Raw | None:
        """An object of a revision, or of one of its stages."""
        return self.get(kind, f"{self.name}-{revision}{'-' if stage else ''}{stage}")

    async def create(self, **spec: Any) -> None:
        metadata = {"name": self.name}
        document = {"apiVersion": "finetune.dev/v1alpha1", "kind": "FineTuneJob", "metadata": metadata}
        await self._seen(await self.space.api.create(document | {"spec": MANIFEST | spec}, self.space.name))

    async def edit(self, **spec: Any) -> None:
        await self.patch(spec=spec)

    async def patch(self, **parts: Any) -> None:
        await self._seen(await self.space.api.patch("FineTuneJob", self.space.name, self.name, parts))

    async def _seen(self, written: Raw) -> None:
        """Wait until the mirror shows what was written, so that no older status is taken for an answer to it."""
        version = int(written["metadata"]["resourceVersion"])
        await self.until(lambda life: life.job is not None and int(life.job["metadata"]["resourceVersion"]) >= version)

    async def delete(self) -> None:
        await self.space.api.delete("FineTuneJob", self.space.name, self.name)

    async def plays(self, **endings: Ending) -> None:
        """What becomes of the pods of stages from now on, the running ones included."""
        self.space.node.endings |= endings
        await self.space.node.tick()

    def made(self) -> Iterator[Raw]:
        """Everything in the namespace that isn't somebody else's, or made by a controller."""
        return (
            raw for raw in self.space.mirror.all(self.space.name, *MADE) if "foreign" not in raw["metadata"]["name"]
        )

    def outcome(self) -> Outcome:
        """What is there, without what differs between two lives that ended alike."""
        job = self.job
        uid = job["metadata"]["uid"] if job else "none"
        # Once the FineTuneJob is gone, what is on its way out is the cluster's to remove, when it gets to it.
        left = (raw for raw in self.made() if job or "deletionTimestamp" not in raw["metadata"])
        found = {f"{raw['kind']}/{raw['metadata']['name']}": self._object(raw) for raw in left}
        text = json.dumps(found | {"told": _told(job) if job else None}, sort_keys=True)
        text = _TIME.sub("TIME", text.replace(uid, "UID").replace(self.space.name, "NAMESPACE"))
        text = _UID.sub("ANOTHER-UID", text)
        return dict(json.loads(text))

    def _object(self, raw: Raw) -> Raw:
        metadata = raw["metadata"]
        owners = [owner["uid"] for owner in metadata.get("ownerReferences", [])]
        going = {"deleting": True} if "deletionTimestamp" in metadata else {}
        return {
            "owners": owners,
            "labels": _stripped(metadata.get("labels", {})),
            "spec": _stripped(raw.get("spec")),
            "data": raw.get("data"),
            **going,
        }


def _stripped(raw: Any) -> Any:
    if isinstance(raw, dict):
        return {key: _stripped(value) for key, value in raw.items() if key not in _GIVEN}
    return [_stripped(value) for value in raw] if isinstance(raw, list) else raw


def _told(job: Raw) -> Raw:
    status = job.get("status", {})
    conditions = {found["type"]: [found["status"], found["reason"]] for found in status.get("conditions", [])}
    keys = ("phase", "revision", "servedRevision", "artifact", "endpoint", "observedGeneration")
    history = [[entry["revision"], entry.get("outcome")] for entry in status.get("history", [])]
    return {"conditions": conditions, "history": history, **{key: status.get(key) for key in keys}}


@dataclass(frozen=True)
class Step:
    """What a person or the cluster does, and how far that has to lead before the next step."""

    name: str
    act: Callable[[Life], Awaitable[None]]
    reached: Callable[[Life], bool]


async def _train_again(life: Life) -> None:
    await life.plays(train=Ending.HOLD)
    await life.edit(training={"seed": 7})


async def _resume(life: Life) -> None:
    await life.plays(train=Ending.SUCCEED)
    await life.edit(suspend=False)


async def _fail(life: Life) -> None:
    await life.plays(train=Ending.FAIL)
    await life.edit(training={"seed": 8})


async def _retry(life: Life) -> None:
    await life.plays(train=Ending.SUCCEED)
    await life.patch(metadata={"annotations": {names.RETRY: "once"}})


def _none_runs(life: Life, stage: str) -> bool:
    """Whether every pod of a stage has ended: those of complete Jobs stay."""
    pods = life.space.mirror.all(life.space.name, "Pod")
    of_stage = [pod for pod in pods if pod["metadata"]["labels"].get(names.STAGE) == stage]
    return all(pod.get("status", {}).get("phase") in ("Succeeded", "Failed") for pod in of_stage)


WHOLE = (
    Step("create", lambda life: life.create(**ALL), lambda life: life.serves),
    Step("train again", _train_again, lambda life: life.condition("Trained")[1] == "Running"),
    Step(
        "suspend",
        lambda life: life.edit(suspend=True),
        lambda life: life.condition("Trained")[1] == "Suspended" and _none_runs(life, "train"),
    ),
    Step("resume", _resume, lambda life: life.serves),
    Step(
        "host", lambda life: life.edit(hosting={"resources": {"limits": {"memory": "9Gi"}}}), lambda life: life.serves
    ),
    Step("fail", _fail, lambda life: life.condition("Trained")[0] == "False"),
    Step("retry", _retry, lambda life: life.serves),
    Step("delete", lambda life: life.delete(), lambda life: life.job is None),
)
SHORT = tuple(step for step in WHOLE if step.name in ("create", "host", "delete"))


# Somebody else's objects, which look like ours in every way but their owner.
def foreign() -> Iterator[Raw]:
    labels = names.labels(NAME, "0123abcd", "host")
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    container = {"name": "train", "image": "i"}
    template = {"spec": {"containers": [container], "restartPolicy": "Never"}}
    for version, kind, rest in (
        ("v1", "ConfigMap", {"data": {"notes": "mine"}}),
        ("v1", "Service", {"spec": {"selector": {"app": "mine"}, "ports": [{"port": 80}]}}),
        ("networking.k8s.io/v1", "NetworkPolicy", {"spec": {"podSelector": {"matchLabels": {"app": "mine"}}}}),
        ("v1", "PersistentVolumeClaim", {"spec": claim}),
        ("batch/v1", "Job", {"spec": {"suspend": True, "template": template}}),
    ):
        yield {"apiVersion": version, "kind": kind, "metadata": {"name": f"{NAME}-foreign", "labels": labels}} | rest


def untouched(before: Iterable[Raw], space: Space) -> Iterator[str]:
    """What became of somebody else's objects, where anything did."""
    for raw in before:
        kind, name = raw["kind"], raw["metadata"]["name"]
        now = space.mirror.get(space.name, kind, name)
        if now is None:
            yield f"{kind} {name} is gone"
        elif any(now.get(part) != raw.get(part) for part in ("spec", "data")) or _identity(now) != _identity(raw):
            yield f"{kind} {name} was changed"


def _identity(raw: Raw) -> list[Any]:
    return [raw["metadata"].get(key) for key in ("uid", "labels", "ownerReferences", "deletionTimestamp")]
