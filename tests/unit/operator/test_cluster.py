"""How a watch of the API server ends when the operator does."""

import asyncio
from types import SimpleNamespace
from typing import Any

from finetune_operator.api.v1alpha1 import KIND
from finetune_operator.shell.cluster import Cluster


class Stream:
    """The body of a watch: the chunk that is put into it, then silence."""

    def __init__(self) -> None:
        self.chunk: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.closed = False

    async def readany(self) -> bytes:
        chunk = await self.chunk
        self.chunk = asyncio.get_running_loop().create_future()
        return chunk

    def close(self) -> None:
        self.closed = True


class Client:
    """kubernetes.aio's, whose every answer is the stream."""

    def __init__(self, stream: Stream) -> None:
        self._answer = SimpleNamespace(status=200, response=SimpleNamespace(content=stream, close=stream.close))

    async def param_serialize(self, *_: Any, **__: Any) -> tuple[()]:
        return ()

    async def call_api(self, *_: Any, **__: Any) -> Any:
        return self._answer


async def test_a_watch_ends_though_news_come_as_it_is_told_to() -> None:
    stream = Stream()
    client: Any = Client(stream)

    async def follow() -> None:
        async for _ in Cluster(client).watch(KIND, None, 1):
            pass

    following = asyncio.create_task(follow())
    for _ in range(3):
        await asyncio.sleep(0)
    stream.chunk.set_result(b'{"type": "BOOKMARK", "object": {}}\n')
    await asyncio.sleep(0)
    following.cancel()
    ended, _ = await asyncio.wait({following}, timeout=5)
    following.cancel()
    assert ended == {following}
    assert stream.closed
