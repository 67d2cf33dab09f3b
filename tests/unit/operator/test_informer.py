"""What several informers do to one another while they list; the contract tests have the rest, on a real API server."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from finetune_operator.shell.errors import Absent
from finetune_operator.shell.informer import Informer
from finetune_operator.shell.store import Store


class Pages:
    """A cluster whose lists take a while, and that counts how many are read at once."""

    def __init__(self) -> None:
        self.now = self.most = 0

    async def list(self, kind: str, namespace: str | None) -> AsyncIterator[tuple[list[Any], int]]:
        self.now += 1
        self.most = max(self.most, self.now)
        for version in (1, 1):
            await asyncio.sleep(0)
            yield [], version
        self.now -= 1


async def test_they_take_turns_to_list() -> None:
    cluster, store, turns = Pages(), Store(), asyncio.Semaphore(2)
    informers = [Informer(cluster, store, "Pod", f"ns-{n}", print, 600, turns) for n in range(5)]  # type: ignore[arg-type]
    await asyncio.gather(*(informer.list() for informer in informers))
    assert cluster.most == 2
    assert all(informer.listed.is_set() for informer in informers)


class Later:
    """A cluster that gets the kind after it was asked for it twice."""

    def __init__(self) -> None:
        self.asked = 0
        self.watched = asyncio.Event()

    async def list(self, kind: str, namespace: str | None) -> AsyncIterator[tuple[list[Any], int]]:
        self.asked += 1
        if self.asked < 3:
            raise Absent(kind)
        yield [], 7

    async def watch(self, kind: str, namespace: str | None, version: int) -> AsyncIterator[tuple[str, Any]]:
        self.watched.set()
        await asyncio.Event().wait()
        yield "ADDED", {}


async def test_a_kind_that_the_cluster_does_not_have_is_nothing_to_complain_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    cluster = Later()
    informer = Informer(cluster, Store(), "Workload", None, print, 0.01, asyncio.Semaphore(1))  # type: ignore[arg-type]
    running = asyncio.create_task(informer.run())
    await asyncio.wait_for(informer.listed.wait(), 120)
    await asyncio.wait_for(cluster.watched.wait(), 120)
    running.cancel()
    assert cluster.asked >= 3
    assert caplog.records == []
