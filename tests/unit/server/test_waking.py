"""Engines that sleep, as questions see them: woken once, looked at for all that wait, and asked when they answer."""

import asyncio
from typing import Any

import httpx
import pytest
from finetune_server import waking
from finetune_server.errors import Problem
from finetune_server.routing import ModelRoute, answers, asleep, is_object, models, of_engine, of_job
from finetune_server.waking import EngineWaker

ROUTE = ModelRoute("chat", "http://chat.team.svc/v1", "chat", "chat")


def engine(replicas: int = 0, available: int = 0, idle_after: str | None = "30m", observed: int = 1) -> dict[str, Any]:
    spec = {"replicas": replicas} | ({"idleAfter": idle_after} if idle_after else {})
    status = {"url": ROUTE.url, "availableReplicas": available, "observedGeneration": observed, "wakesTo": 2}
    metadata = {"name": "chat", "namespace": "team", "generation": 1, "creationTimestamp": "2026-01-01T00:00:00Z"}
    return {"metadata": metadata, "spec": spec, "status": status}


class Objects:
    """One Engine at an API server. Scaled up, its pods are there at the look after the next one."""

    def __init__(self, found: dict[str, Any]) -> None:
        self.engine = found
        self.looks = self.scales = 0
        self.starts = True
        self.broken = 0
        self.scaled = asyncio.Event()

    async def get(self, namespace: str, name: str) -> dict[str, Any]:
        self.looks += 1
        if self.broken:
            self.broken -= 1
            raise Problem(503, "The cluster does not answer now: etcd is gone")
        return self.engine

    async def wake(self, raw: dict[str, Any]) -> None:
        self.scales += 1
        self.scaled.set()
        self.engine = engine(replicas=2)
        if self.starts:
            asyncio.get_running_loop().call_later(0.01, self.start)

    def start(self) -> None:
        self.engine = engine(replicas=2, available=2)


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waking, "LOOK_SECONDS", 0.001)


def waits(objects: Objects, most: int = 64, seconds: float = 60) -> EngineWaker:
    return EngineWaker(objects, most, seconds)


async def answer(url: str) -> str:
    assert url == ROUTE.url
    return "flour"


class Refusing:
    """An engine behind a Service that knows no pod of it for the first few questions."""

    def __init__(self, times: int) -> None:
        self.left = times

    async def __call__(self, url: str) -> str:
        if self.left:
            self.left -= 1
            raise httpx.ConnectError("refused")
        return "flour"


async def test_it_is_woken_once_for_all_that_wait() -> None:
    objects = Objects(engine())
    door = waits(objects, most=200)
    found = await asyncio.gather(*(door.asked("team", ROUTE, answer) for _ in range(100)))
    assert (found, objects.scales) == (["flour"] * 100, 1)
    # Each looks once whether it sleeps; then one look is for all.
    assert objects.looks < 200
    assert not door._tasks
    assert not door._waiting


async def test_one_that_is_awake_is_asked_at_once_and_its_refusal_is_told() -> None:
    objects = Objects(engine(replicas=1, available=1))
    assert await waits(objects).asked("team", ROUTE, answer) == "flour"
    assert (objects.looks, objects.scales) == (1, 0)
    with pytest.raises(httpx.ConnectError):
        await waits(objects).asked("team", ROUTE, Refusing(1))


async def test_one_that_fell_asleep_in_that_moment_is_woken_and_its_service_is_given_time() -> None:
    class Falling(Objects):
        async def get(self, namespace: str, name: str) -> dict[str, Any]:
            found = await super().get(namespace, name)
            if self.looks == 1:
                self.engine = engine()
            return found

    objects = Falling(engine(replicas=2, available=2))
    assert await waits(objects).asked("team", ROUTE, Refusing(3)) == "flour"
    assert objects.scales == 1


async def test_an_api_server_that_is_away_for_a_moment_sends_nobody_away() -> None:
    objects = Objects(engine())
    door = waits(objects)
    waiting = asyncio.create_task(door.asked("team", ROUTE, answer))
    await objects.scaled.wait()
    objects.broken = 3
    assert await waiting == "flour"


async def test_who_leaves_gives_the_place_back_and_nobody_looks_any_more() -> None:
    objects = Objects(engine())
    objects.starts = False
    door = waits(objects, most=1)
    leaving = asyncio.create_task(door.asked("team", ROUTE, answer))
    await objects.scaled.wait()
    with pytest.raises(Problem, match="wait for a model to wake are as many as are taken"):
        await door.asked("team", ROUTE, answer)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    await asyncio.sleep(0)
    assert not [task for task in asyncio.all_tasks() if "_wake" in str(task.get_coro())]
    objects.start()
    assert await door.asked("team", ROUTE, answer) == "flour"


@pytest.mark.parametrize(
    ("raw", "sleeps", "is_there"),
    [
        (engine(), True, False),
        (engine(idle_after=None), False, False),
        (engine(replicas=2), False, False),
        (engine(replicas=2, available=1), False, True),
        # What was told before it was scaled says nothing of now.
        (engine(replicas=2, available=2, observed=0), False, False),
        (engine(available=2), True, False),
    ],
)
def test_whether_it_sleeps_and_whether_it_answers(raw: dict[str, Any], sleeps: bool, is_there: bool) -> None:
    assert (asleep(raw), answers(raw)) == (sleeps, is_there)


def test_what_can_be_asked_by_its_own_name() -> None:
    assert of_engine(engine()) == ROUTE
    assert of_engine(engine(idle_after=None)) is None
    assert of_engine(engine() | {"status": {}}) is None
    metadata = {"name": "recipes", "namespace": "team", "creationTimestamp": "2026-01-01T00:00:00Z"}
    endpoint = {"url": "http://recipes.team.svc/v1", "model": "recipes"}
    own = {"metadata": metadata, "spec": {"hosting": {}}, "status": {"endpoint": endpoint}}
    lodging = own | {"spec": {"hosting": {"engine": {"name": "chat"}}}}
    assert of_job(own) is None
    assert of_job(own, "ft:a") == ModelRoute("ft:a", endpoint["url"], "recipes", None)
    assert of_job(lodging) == ModelRoute("recipes", endpoint["url"], "recipes", "chat")
    assert of_job(lodging | {"status": {}}) is None
    listed = models([engine(), engine(idle_after=None)], [own, lodging])
    assert [(each["id"], each["owned_by"], each["created"]) for each in listed] == [
        ("chat", "team", 1767225600),
        ("recipes", "team", 1767225600),
    ]


@pytest.mark.parametrize("name", ["ft:a:b:c", "../chat", "a/b", "Chat", "", "4chat", "a" * 64, "a-"])
def test_what_is_no_objects_name_is_not_looked_up(name: str) -> None:
    assert not is_object(name)
    assert is_object("chat")
