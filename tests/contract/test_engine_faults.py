"""Whatever goes wrong at whatever moment, an Engine ends where an undisturbed one ends, and leaves nothing behind.

Real controllers run (`ground`). In each life one fault meets every point of a share of the points; the shares of a
fault together are every write (or every watch event) of the life.
"""

import asyncio
import json
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest
from api_client import Raw
from control_plane import PATIENCE
from fault_proxy import OF_EVENTS, Fault, Point
from finetune_operator import names
from finetune_trainer.contract.adapters import HeldAdapters
from ground import Ground, Space
from loading import Telling, adapter, service, telling
from rehearsal import MANIFEST
from test_faults import settled

FAULTS = (Fault.CRASH_BEFORE, Fault.CRASH_AFTER, Fault.CONFLICT, Fault.ANSWER_LOST, Fault.STALE, Fault.EVENT_DROPPED)
SHARES = 2
SECONDS = 3 * PATIENCE
OWNED = ("Deployment", "Service", "NetworkPolicy", "ConfigMap")
ENGINE: dict[str, Any] = {
    "apiVersion": "finetune.dev/v1alpha1",
    "kind": "Engine",
    "metadata": {"name": "chat"},
    "spec": {"model": {"source": "hf://org/model"}, "lora": {}},
}
# Who wants an adapter there, and waits for rows that nobody makes.
JOB: dict[str, Any] = {
    "apiVersion": "finetune.dev/v1alpha1",
    "kind": "FineTuneJob",
    "metadata": {"name": "recipes", "finalizers": ["test/stays"]},
    "spec": MANIFEST | {"suspend": True},
}
REVISION = "0a1b2c3d"
HAVING = HeldAdapters(loaded=(f"recipes-{REVISION}",), aliases={"recipes": f"recipes-{REVISION}"})


@dataclass(frozen=True)
class Case:
    """One fault at one share of the points."""

    fault: Fault
    share: int

    def __call__(self, point: Point) -> Fault | None:
        """Whether this point goes wrong, and how."""
        ours = point.event == (self.fault in OF_EVENTS)
        return self.fault if ours and zlib.crc32(str(point).encode()) % SHARES == self.share else None


def made(space: Space) -> list[Raw]:
    found = space.mirror.all(space.name, *OWNED)
    return [raw for raw in found if names.ENGINE_OF in raw["metadata"].get("labels", {})]


def outcome(space: Space) -> dict[str, Any]:
    """What is there and what is told, without what the API server gives each."""
    engine = space.mirror.get(space.name, "Engine", "chat")
    found: dict[str, Any] = {}
    for raw in made(space):
        said = raw.get("spec", raw.get("data"))
        given = {"selector": said["selector"], "ports": said["ports"]} if raw["kind"] == "Service" else said
        found[f"{raw['kind']}/{raw['metadata']['name']}"] = given
    status = (engine or {}).get("status", {})
    told = [[each[key] for key in ("type", "status", "reason", "message")] for each in status.get("conditions", [])]
    text = json.dumps(found | {"told": told, "adapters": status.get("adapters"), "pods": wishes(space)}, sort_keys=True)
    return dict(json.loads(text.replace(space.name, "NAMESPACE")))


def wishes(space: Space) -> list[str]:
    """What the pods that stay are told to have."""
    pods = [raw for raw in space.mirror.all(space.name, "Pod") if "deletionTimestamp" not in raw["metadata"]]
    return [raw["metadata"].get("annotations", {}).get(names.ADAPTERS_WANTED, "") for raw in pods]


def loaded(space: Space) -> bool:
    """Whether all pods, and any new one, are told of the adapter and its name, and status says that all have it."""
    engine = space.mirror.get(space.name, "Engine", "chat")
    told = (engine or {}).get("status", {}).get("adapters", [])
    there = [(each["loaded"], each["answersAs"]) for each in told] == [(2, ["recipes"])]
    kept = space.mirror.get(space.name, "ConfigMap", "chat-engine")
    lists = [*wishes(space), str((kept or {}).get("data", {}).get("adapters.json"))]
    named = f'"recipes":"recipes-{REVISION}"'
    return there and serves(space, 1024) and len(lists) == 3 and all(named in each for each in lists)


def serves(space: Space, length: int) -> bool:
    """Whether it is ready with such a context, and its pods are there."""
    engine = space.mirror.get(space.name, "Engine", "chat")
    deployment = space.mirror.get(space.name, "Deployment", "chat")
    if engine is None or deployment is None:
        return False
    ready = [each for each in engine.get("status", {}).get("conditions", []) if each["type"] == "Ready"]
    current = bool(ready) and ready[0]["observedGeneration"] == engine["metadata"]["generation"]
    told = str(length) in deployment["spec"]["template"]["spec"]["containers"][0]["args"]
    return current and ready[0]["status"] == "True" and told


async def live(space: Space, pods: Telling, calm: dict[str, Any] | None = None) -> dict[str, Any]:
    """Made, edited and scaled, and asked for an adapter; what is there then, once it is as in a calm life, or at rest.
    It goes afterwards, with all that was made for it.
    """
    space.node.addresses[""] = pods.address
    space.operator.start()
    space.proxy.step = "create"
    await space.api.create(ENGINE | {"spec": ENGINE["spec"] | {"contextLength": 512}}, space.name)
    await space.mirror.until(space.name, lambda: serves(space, 512), SECONDS)
    space.proxy.step = "edit"
    await space.api.patch("Engine", space.name, "chat", {"spec": {"contextLength": 1024, "replicas": 2}})
    await space.mirror.until(space.name, lambda: serves(space, 1024), SECONDS)
    space.proxy.step = "load"
    job = await space.api.create(JOB, space.name)
    await space.api.delete("FineTuneJob", space.name, "recipes")
    for manifest in (adapter(job, REVISION), service(job, REVISION)):
        await space.api.create(manifest, space.name)
    await space.mirror.until(space.name, lambda: loaded(space), SECONDS)
    if calm is None:
        await settled(space)
    else:
        with suppress(TimeoutError):
            await space.mirror.until(space.name, lambda: outcome(space) == calm, SECONDS)
    found = outcome(space)
    space.proxy.step = "delete"
    await space.api.delete("Engine", space.name, "chat")
    await space.mirror.until(space.name, lambda: not made(space), SECONDS)
    return found


async def disturbed(ground: Ground, case: Case, calm: dict[str, Any], pods: Telling) -> str:
    """What differs from an undisturbed life."""
    async with ground.space(case) as space:
        try:
            found = await live(space, pods, calm)
        except TimeoutError:
            spoilt = "\n".join(f"{fault.value} at {point}" for point, fault in space.proxy.spoilt)
            return f"not in time: {json.dumps(outcome(space)['told'])}\n{spoilt}\n{space.operator.log()[-3000:]}"
        if not space.proxy.spoilt:
            return "nothing went wrong"
        return "" if found == calm else json.dumps({"calm": calm, "found": found}, indent=1)


async def undisturbed(ground: Ground, pods: Telling) -> dict[str, Any]:
    async with ground.space() as space:
        return await live(space, pods)


@pytest.fixture(scope="module")
def pods() -> Iterator[Telling]:
    """What all pods tell: that they have what is wanted of them."""
    with telling() as found:
        found.held = HAVING
        yield found


@pytest.fixture(scope="module")
def calm(ground: Ground, pods: Telling) -> dict[str, Any]:
    """What an undisturbed life comes to."""
    return ground.run(undisturbed(ground, pods))


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.value)
def test_it_ends_where_an_undisturbed_life_ends(
    fault: Fault, ground: Ground, calm: dict[str, Any], pods: Telling
) -> None:
    async def all_shares() -> list[str]:
        return await asyncio.gather(*(disturbed(ground, Case(fault, share), calm, pods) for share in range(SHARES)))

    assert ground.run(all_shares()) == [""] * SHARES


def test_deleted_and_applied_again_at_once_it_serves_again(ground: Ground) -> None:
    async def story() -> set[str]:
        async with ground.space() as space:
            space.operator.start()
            document = ENGINE | {"spec": ENGINE["spec"] | {"contextLength": 512}}
            first = await space.api.create(document, space.name)
            await space.mirror.until(space.name, lambda: serves(space, 512), SECONDS)
            ground.controllers.pause()
            try:
                await space.api.delete("Engine", space.name, "chat")
                second = await space.api.create(document, space.name)
                uid = second["metadata"]["uid"]
                assert uid != first["metadata"]["uid"]
                # What the first one left is not taken for somebody else's.
                await space.mirror.until(space.name, lambda: "is still there" in str(outcome(space)["told"]), SECONDS)
            finally:
                ground.controllers.resume()
            await space.mirror.until(space.name, lambda: serves(space, 512) and owners(space) == {uid}, SECONDS)
            return owners(space) - {uid}

    assert ground.run(story()) == set()


def owners(space: Space) -> set[str]:
    return {owner["uid"] for raw in made(space) for owner in raw["metadata"]["ownerReferences"]}
