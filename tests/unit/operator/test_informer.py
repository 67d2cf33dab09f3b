"""What several informers do to one another while they list; the contract tests have the rest, on a real API server."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

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
