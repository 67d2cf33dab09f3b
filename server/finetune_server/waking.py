"""Engines that sleep are woken by who asks for their models, and waited for: so long, and by so many at a time.

Made by `on_cluster`, and asked through `ground`. All state is the Engine's: its replicas say whether it sleeps, its
status whether it answers, so that several servers wake one as well as a single one does.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

import httpx

from finetune_server.errors import Problem, missing
from finetune_server.incoming import Turns
from finetune_server.routing import ModelRoute, answers, asleep, may_sleep, trouble
from finetune_server.settings import Raw

T = TypeVar("T")
# Nobody has got the question; where a Service has no pods, some networks refuse and others say nothing.
_UNREACHED = (httpx.ConnectError, httpx.ConnectTimeout)
Key = tuple[str, str]
# Between two looks at an Engine, however many wait for it.
LOOK_SECONDS = 1.0
# When somebody who was sent away may come again.
_RETRY_SECONDS = 15
_LATER = {"Retry-After": str(_RETRY_SECONDS)}


class Wakeable(Protocol):
    """Engines that can be woken. Every method raises Problem."""

    async def get(self, namespace: str, name: str) -> Raw | None:
        """One; None where there is none."""

    async def wake(self, raw: Raw) -> None:
        """Scale one to as many pods as it had."""


class EngineWaker:
    """What waits for Engines: at most `most` questions, each for `seconds`."""

    def __init__(self, engines: Wakeable, most: int, seconds: float) -> None:
        self._engines, self._seconds = engines, seconds
        self._places = Turns(most, "The questions that wait for a model to wake", _RETRY_SECONDS)
        self._tasks: dict[Key, asyncio.Task[None]] = {}
        self._waiting: Counter[Key] = Counter()
        self._seen: dict[Key, Raw] = {}

    async def asked(self, namespace: str, route: ModelRoute, ask: Callable[[str], Awaitable[T]]) -> T:
        """Ask, once there is somebody to answer. Raises Problem, or what `ask` raises of an engine that is awake."""
        if route.engine is None:
            return await ask(route.url)
        if not await self._sleeps(namespace, route.engine):
            try:
                return await ask(route.url)
            except _UNREACHED:
                # It may have fallen asleep since.
                if not await self._sleeps(namespace, route.engine):
                    raise
        deadline = asyncio.get_running_loop().time() + self._seconds
        while True:
            with self._places.turn(namespace):
                await self._awake((namespace, route.engine), route.name, deadline)
            try:
                return await ask(route.url)
            except _UNREACHED:
                # Its Service learns of its pods a moment later than its status.
                await asyncio.sleep(LOOK_SECONDS)

    async def _sleeps(self, namespace: str, name: str) -> bool:
        """Whether it has to be waited for: asleep, or woken and not there yet."""
        engine = await self._engines.get(namespace, name)
        return engine is not None and may_sleep(engine) and not answers(engine)

    async def _awake(self, key: Key, model: str, deadline: float) -> None:
        """Until a pod answers. One look is enough for all that wait, and nobody looks for those that have left."""
        task = self._tasks.get(key)
        if task is None:
            task = self._tasks[key] = asyncio.create_task(self._wake(*key))
        self._waiting[key] += 1
        try:
            async with asyncio.timeout_at(deadline):
                await asyncio.shield(task)
        except TimeoutError as error:
            raise self._late(model, self._seen.get(key)) from error
        finally:
            self._waiting[key] -= 1
            if not self._waiting[key]:
                del self._waiting[key]
                self._seen.pop(key, None)
                self._tasks.pop(key).cancel()

    async def _wake(self, namespace: str, name: str) -> None:
        while True:
            try:
                engine = await self._engines.get(namespace, name)
                if engine is None:
                    raise missing("model", name, "model")
                self._seen[namespace, name] = engine
                if asleep(engine):
                    await self._engines.wake(engine)
                elif answers(engine):
                    return
            except Problem as problem:
                # An API server that does not answer for a moment makes nobody wait anew.
                if problem.status < 500:
                    raise
            await asyncio.sleep(LOOK_SECONDS)

    def _late(self, model: str, engine: Raw | None) -> Problem:
        if engine and (why := trouble(engine)):
            message = f"Model {model} can't be woken now: {why}"
            return Problem(503, message, "model", "model_unavailable", _LATER)
        return late(model, self._seconds)


def late(model: str, seconds: float) -> Problem:
    """It is not there yet, and nothing is wrong."""
    message = f"Model {model} wakes up, which takes longer than {seconds:g} seconds: try again in a moment."
    return Problem(429, message, "model", "model_waking", _LATER)
