"""What is told as it happens, server-sent: the web page's parts, and the events of a job (GET …/events?stream=true)."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import AbstractContextManager, suppress

from anyio import sleep
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from finetune_server.errors import Problem
from finetune_server.settings import Raw

# What tells that somebody still reads.
STILL_HERE = ": still here\n\n"
# A job's events now, the newest first, and whether no more will come.
Look = Callable[[], Awaitable[tuple[Sequence[Raw], bool]]]


class Streamed(StreamingResponse):
    """An answer that is made while it is sent. A Problem comes too late to be told: the client sees that it ends too
    early, and whoever raised it has told the log.
    """

    async def stream_response(self, send: Send) -> None:
        """Send it, as far as it can be made."""
        with suppress(Problem):
            await super().stream_response(send)


class Watched(StreamingResponse):
    """Server-sent events, while there is a turn for them."""

    def __init__(self, events: AsyncIterator[str], turn: AbstractContextManager[None]) -> None:
        super().__init__(events, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})
        self._turn = turn

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or raise Problem where there is no turn left."""
        with self._turn:
            await super().__call__(scope, receive, send)


async def followed(look: Look, known: Collection[str], seconds: float) -> AsyncIterator[str]:
    """Each event that is new, as OpenAI streams: from the oldest on, [DONE] behind the last. `known`: ids not to tell.

    Looks again every so many seconds. What goes wrong meanwhile is the last that is told, in OpenAI's shape.
    """
    seen = set(known)
    while True:
        try:
            events, ended = await look()
        except Problem as problem:
            yield _data(problem.document())
            return
        for each in reversed(events):
            if each["id"] not in seen:
                yield _data(each)
        seen |= {each["id"] for each in events}
        if ended:
            yield "data: [DONE]\n\n"
            return
        yield STILL_HERE
        await sleep(seconds)


def _data(document: Raw) -> str:
    return f"data: {json.dumps(document)}\n\n"
