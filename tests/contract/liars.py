"""Stage pods that lie on /status: whatever a pod answers, or does not, the operator goes on with its work.

Used by `test_attacks`. Each listens on a loopback address of its own, on the port of every stage pod.
"""

import asyncio
import itertools
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

from control_plane import PATIENCE
from finetune_trainer.contract.results import STATUS_PORT

Lie = Callable[[asyncio.StreamWriter], Awaitable[None]]

_addresses = (f"127.{os.getpid() % 250 + 1}.{number // 250 + 1}.{number % 250 + 1}" for number in itertools.count())


def says(body: str, content: str = "application/json") -> Lie:
    """An answer that is complete, and no progress."""

    async def tell(out: asyncio.StreamWriter) -> None:
        head = f"HTTP/1.1 200 OK\r\nContent-Type: {content}\r\nContent-Length: {len(body.encode())}\r\n\r\n"
        out.write(f"{head}{body}".encode())
        await out.drain()

    return tell


async def mute(_: asyncio.StreamWriter) -> None:
    """Take the call and say nothing."""
    await asyncio.Event().wait()


async def drip(out: asyncio.StreamWriter) -> None:
    """Never end: a byte now and then."""
    out.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n")
    while True:
        out.write(b" ")
        await out.drain()
        await asyncio.sleep(0.2)


async def flood(out: asyncio.StreamWriter) -> None:
    """A quarter of a gigabyte of JSON, as fast as it is read."""
    out.write(b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{"stage": "train", "activity": "')
    for _ in range(256):
        out.write(b"x" * 2**20)
        await out.drain()
    out.write(b'"}')


async def endless_header(out: asyncio.StreamWriter) -> None:
    """A header that never ends."""
    out.write(b"HTTP/1.1 200 OK\r\nX-Lie: ")
    while True:
        out.write(b"x" * 2**16)
        await out.drain()


def redirect(to: str) -> Lie:
    """Send the caller elsewhere."""

    async def tell(out: asyncio.StreamWriter) -> None:
        out.write(
            f"HTTP/1.1 302 Found\r\nLocation: http://{to}:{STATUS_PORT}/status\r\nContent-Length: 0\r\n\r\n".encode()
        )
        await out.drain()

    return tell


LIES: dict[str, Lie] = {
    "mute": mute,
    "drip": drip,
    "flood": flood,
    "endless-header": endless_header,
    "html": says("<html><body>Sign in</body></html>", "text/html"),
    "no-json": says('{"stage": "train", '),
    "a-list": says("[1, 2, 3]"),
    "deep": says("[" * 100_000),
    "huge-numbers": says('{"stage": "train", "step": 1' + "0" * 30 + ', "totalSteps": 9223372036854775808}'),
    "negative": says('{"stage": "train", "step": -7, "totalSteps": -1, "epoch": -2.5, "tokensPerSecond": -1}'),
    "not-a-number": says('{"stage": "train", "step": 1, "totalSteps": 2, "loss": NaN, "validationLoss": Infinity}'),
    "another-stage": says('{"stage": "evaluate", "step": 1, "totalSteps": 2}'),
    "a-long-word": says('{"stage": "train", "activity": "' + "x" * 50_000 + '", "step": 1, "totalSteps": 2}'),
    "a-far-day": says('{"stage": "train", "step": 1, "totalSteps": 2, "eta": "9999-12-31T23:59:59.999999Z"}'),
}
# They say something else for ever, or nothing.
ENDLESS = ("mute", "drip")


class Liar:
    """Where a lie is told, and how often somebody has called there."""

    def __init__(self) -> None:
        self.address, self.calls = next(_addresses), 0
        self._call = asyncio.Event()

    def heard(self) -> None:
        """Somebody calls."""
        self.calls += 1
        self._call.set()

    async def called(self, times: int) -> None:
        """Wait until somebody has called so often."""
        async with asyncio.timeout(PATIENCE):
            while self.calls < times:
                self._call.clear()
                await self._call.wait()


@asynccontextmanager
async def liar(tell: Lie) -> AsyncIterator[Liar]:
    """Somebody who lies."""
    found = Liar()
    talking: set[asyncio.Task[None] | None] = set()

    async def answer(_: asyncio.StreamReader, out: asyncio.StreamWriter) -> None:
        found.heard()
        talking.add(asyncio.current_task())
        try:
            with suppress(ConnectionError):
                await tell(out)
        finally:
            talking.discard(asyncio.current_task())
            out.close()

    server = await asyncio.start_server(answer, found.address, STATUS_PORT)
    try:
        yield found
    finally:
        server.close()
        for task in filter(None, list(talking)):
            task.cancel()
