"""A reverse proxy between one operator and the API server that knows every call and spoils those that a test names.

A `Point` is a moment in an operator's life that can be named beforehand: the nth different thing, within a step of the
story, that it writes to an object or that a watch tells of one. At each point a test may ask for a `Fault`; the same
write once more, when it is tried again or confirms what is there, is no new point. Used by `ground`.
"""

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import Any

import aiohttp
from aiohttp import web
from api_client import KINDS
from control_plane import PATIENCE, ControlPlane

# How long the watches tell nothing after a write that makes them stale.
STALE_SECONDS = 1.0
_WRITES = ("POST", "PUT", "PATCH", "DELETE")
# Written by the clock, not by what happens to a FineTuneJob.
_CLOCKWORK = ("Lease", "Event")
_NOT_FORWARDED = ("Host", "Accept-Encoding", "Content-Length", "Transfer-Encoding", "Connection")


class Fault(Enum):
    """What can go wrong at a write, or with a watch event."""

    CRASH_BEFORE = "crash-before"
    CRASH_AFTER = "crash-after"
    CONFLICT = "409"
    TOO_MANY = "429"
    BROKEN = "500"
    FORBIDDEN = "403"
    ANSWER_LOST = "answer-lost"
    ANSWER_NEVER = "answer-never"
    STALE = "stale"
    EVENT_DROPPED = "event-dropped"
    EVENT_TWICE = "event-twice"


OF_EVENTS = (Fault.EVENT_DROPPED, Fault.EVENT_TWICE)
OF_WRITES = tuple(fault for fault in Fault if fault not in OF_EVENTS)
_STATUS = {
    Fault.CONFLICT: (409, "Conflict", "the object has been modified; please apply your changes to the latest version"),
    Fault.TOO_MANY: (429, "TooManyRequests", "the server has received too many requests, please try again later"),
    Fault.BROKEN: (500, "InternalError", "etcdserver: leader changed"),
    Fault.FORBIDDEN: (403, "Forbidden", "admission webhook denied the request"),
}


@dataclass(frozen=True)
class Point:
    """The `nth` thing in a `step` that the operator did to an object (a write's verb), or that a watch said of it."""

    step: str
    verb: str
    kind: str
    name: str
    nth: int

    @property
    def event(self) -> bool:
        """Whether a watch told it."""
        return self.verb in ("ADDED", "MODIFIED", "DELETED")

    def __str__(self) -> str:
        return f"{self.step}: {self.verb} {self.kind}/{self.name} #{self.nth}"


Decide = Callable[[Point], Fault | None]


def harmless(_: Point) -> Fault | None:
    """No fault anywhere."""
    return None


class FaultProxy:
    """Listens on a loopback port in plain HTTP; `crash` kills the operator and starts it again."""

    def __init__(self, plane: ControlPlane, crash: Callable[[], None], decide: Decide = harmless) -> None:
        self._plane, self._crash, self.decide = plane, crash, decide
        self.step = "start"
        self.points: list[Point] = []
        self.spoilt: list[tuple[Point, Fault]] = []
        self.paths: set[str] = set()
        self._said: defaultdict[tuple[str, ...], set[bytes]] = defaultdict(set)
        self._watches: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._flowing = asyncio.Event()
        self._flowing.set()

    async def start(self) -> str:
        """The URL under which the operator finds its API server."""
        trust = aiohttp.TCPConnector(ssl=self._plane.trust(), limit=0)
        self._session = aiohttp.ClientSession(connector=trust, auto_decompress=False, read_bufsize=2**22)
        # Who hangs up gets no answer: a watch of a killed operator, a call that it no longer waits for.
        server = web.Server(self._handle, handler_cancellation=True)
        self._runner = web.ServerRunner(server, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        return f"http://{host}:{port}"

    async def stop(self) -> None:
        await self._runner.cleanup()
        await self._session.close()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.paths.add(request.raw_path.partition("?")[0])
        if request.query.get("watch") in ("true", "1"):
            return await self._watch(request)
        body = await request.read()
        point = self._written(request, body)
        fault = self._spoil(point)
        if fault is None:
            return await self._answer(request, body)
        return await self._fail(fault, request, body)

    async def _fail(self, fault: Fault, request: web.BaseRequest, body: bytes) -> web.StreamResponse:
        if fault in _STATUS:
            return _refusal(fault)
        if fault == Fault.CRASH_BEFORE:
            self._crash()
            raise asyncio.CancelledError
        if fault == Fault.STALE:
            self._flowing.clear()
            asyncio.get_running_loop().call_later(STALE_SECONDS, self._flowing.set)
        answer = await self._answer(request, body)
        if fault == Fault.CRASH_AFTER:
            self._crash()
        if fault in (Fault.CRASH_AFTER, Fault.ANSWER_LOST) and request.transport:
            request.transport.abort()
        if fault == Fault.ANSWER_NEVER:
            # Until the operator gives up, which cancels this handler.
            await asyncio.Event().wait()
        return answer

    def _written(self, request: web.BaseRequest, body: bytes) -> Point | None:
        """The point of a write; None for a read, and for what is written by the clock."""
        if request.method not in _WRITES:
            return None
        parts = request.path.strip("/").split("/")
        rest = parts[parts.index("namespaces") + 2 :] if "namespaces" in parts else parts[-1:]
        kind = KINDS.get(rest[0], rest[0])
        if kind in _CLOCKWORK or rest[0] == "leases":
            return None
        name = rest[1] if len(rest) > 1 else json.loads(body)["metadata"].get("name", "")
        verb = "/".join((request.method, *rest[2:]))
        return self._point(verb, kind, name, body)

    def _point(self, verb: str, kind: str, name: str, said: bytes) -> Point | None:
        """The point, when it is one: None for what was said before."""
        if kind == "Pod":
            # A controller ends its name with letters of its own choosing.
            name = name.rpartition("-")[0]
        said_before = self._said[self.step, verb, kind, name]
        if said in said_before:
            return None
        said_before.add(said)
        found = Point(self.step, verb, kind, name, len(said_before))
        self.points.append(found)
        return found

    def _spoil(self, point: Point | None) -> Fault | None:
        fault = self.decide(point) if point else None
        if point and fault:
            self.spoilt.append((point, fault))
        return fault

    def _upstream(self, request: web.BaseRequest, body: bytes | None) -> Any:
        headers = {key: value for key, value in request.headers.items() if key not in _NOT_FORWARDED}
        # Watch events are read on their way, and an answer is passed on as it comes.
        headers["Accept-Encoding"] = "identity"
        address = f"{self._plane.address}{request.raw_path}"
        forever = aiohttp.ClientTimeout(total=None)
        return self._session.request(request.method, address, data=body, headers=headers, timeout=forever)

    async def _answer(self, request: web.BaseRequest, body: bytes) -> web.Response:
        async with self._upstream(request, body or None) as answer:
            kind = answer.headers.get("Content-Type", "application/json")
            return web.Response(status=answer.status, body=await answer.read(), headers={"Content-Type": kind})

    async def watched(self, kind: str) -> None:
        """Wait until the operator watches a kind."""
        async with asyncio.timeout(PATIENCE):
            await self._watches[kind].wait()

    async def _watch(self, request: web.BaseRequest) -> web.StreamResponse:
        plural = request.path.rpartition("/")[2]
        self._watches[KINDS.get(plural, plural)].set()
        async with self._upstream(request, None) as answer:
            told = web.StreamResponse(status=answer.status, headers={"Content-Type": "application/json"})
            # An operator that is killed hears no more.
            with suppress(ConnectionResetError):
                await told.prepare(request)
                async for line in _lines(answer.content):
                    for _ in range(self._copies(line)):
                        await self._flowing.wait()
                        await told.write(line)
            return told

    def _copies(self, line: bytes) -> int:
        """How often a watch event is passed on: once, unless it is dropped or told twice."""
        event = json.loads(line)
        raw = event["object"]
        if event["type"] not in ("ADDED", "MODIFIED", "DELETED") or raw["kind"] in _CLOCKWORK:
            return 1
        point = self._point(event["type"], raw["kind"], raw["metadata"]["name"], line)
        return {Fault.EVENT_DROPPED: 0, Fault.EVENT_TWICE: 2}.get(self._spoil(point) or Fault.STALE, 1)


def _refusal(fault: Fault) -> web.Response:
    code, reason, message = _STATUS[fault]
    status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code}
    headers = {"Retry-After": "1"} if fault == Fault.TOO_MANY else {}
    return web.json_response(status | {"reason": reason, "message": message}, status=code, headers=headers)


async def _lines(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """The lines of a stream, however long they are."""
    rest = b""
    async for chunk in content.iter_any():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line + b"\n"
