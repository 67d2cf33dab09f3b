"""How a watch of the API server ends when the operator does, and what the API server's refusals are told as."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest
from finetune_operator.api.status import FineTuneJobStatus
from finetune_operator.api.v1alpha1 import KIND
from finetune_operator.kinds.plan import Event
from finetune_operator.shell.cluster import Cluster
from finetune_operator.shell.errors import Refused, Unavailable


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


class Answer:
    """kubernetes.aio's client, whose every answer has this status and body."""

    def __init__(self, status: int, body: str) -> None:
        self._answer = SimpleNamespace(status=status, reason="Refused", headers={}, read=self._read)
        self._body = body

    async def _read(self) -> bytes:
        return self._body.encode()

    async def param_serialize(self, *_: Any, **__: Any) -> tuple[()]:
        return ()

    async def call_api(self, *_: Any, **__: Any) -> Any:
        return self._answer


SUBJECT = {"metadata": {"name": "recipes", "namespace": "kitchen", "uid": "1"}}
Call = Callable[[Cluster], Awaitable[Any]]
CALLS: dict[str, Call] = {
    "get": lambda cluster: cluster.get("Service", "kitchen", "recipes"),
    "lacks": lambda cluster: cluster.lacks(["finetunejobs"]),
    "post": lambda cluster: cluster.post(KIND, SUBJECT, Event("Normal", "Running", "It runs.")),
    "status": lambda cluster: cluster.apply_status(KIND, SUBJECT, FineTuneJobStatus()),
    "lease": lambda cluster: cluster.read_lease("system", "operator"),
}


def refusing(status: int) -> Cluster:
    client: Any = Answer(status, json.dumps({"message": "the API server's words"}))
    return Cluster(client)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_an_answer_to_who_asks_is_tried_again_and_says_nothing_of_the_object(call: Call) -> None:
    """A webhook that knows the operator's token may be away for a moment."""
    with pytest.raises(Unavailable, match="the API server's words"):
        await call(refusing(401))


@pytest.mark.parametrize("call", ["get", "lacks"])
async def test_what_it_will_not_show_is_a_refusal(call: str) -> None:
    with pytest.raises(Refused, match=r"to show .*: the API server's words"):
        await CALLS[call](refusing(403))


@pytest.mark.parametrize("status", [400, 413, 422])
async def test_an_event_that_is_refused_is_no_fault_of_the_operators(status: int) -> None:
    with pytest.raises(Unavailable, match="the API server's words"):
        await CALLS["post"](refusing(status))


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_what_is_no_answer_of_an_api_servers_is_tried_again(call: Call) -> None:
    """A proxy's page, say."""
    client: Any = Answer(200, "<html>Sign in</html>")
    with pytest.raises(Unavailable, match="is no JSON"):
        await call(Cluster(client))
