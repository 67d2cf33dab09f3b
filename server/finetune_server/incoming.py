"""What comes in, never more of it than is allowed, nor for longer: bodies, uploads, and the page of a list."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar

from starlette.datastructures import UploadFile
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message

from finetune_server.errors import Problem
from finetune_server.not_here import why_not_asked
from finetune_server.settings import Raw

T = TypeVar("T")
# What a multipart form has beside the file.
_FORM = 64 * 2**10
# Seconds for a body that is read whole.
_BODY_SECONDS = 60


class Turns:
    """So many at a time, and no queue behind them: whoever comes then is told to come again. Of one namespace they are
    half of them, so that nobody keeps all others out.
    """

    def __init__(self, most: int, what: str, retry_after: int = 1) -> None:
        self._most, self._what, self._retry_after = most, what, retry_after
        self._taken: Counter[str] = Counter()

    @contextmanager
    def turn(self, namespace: str) -> Iterator[None]:
        """One of them. Raises Problem where there is none left."""
        if self._taken.total() >= self._most or self._taken[namespace] >= max(1, self._most // 2):
            sentence = f"{self._what} are as many as are taken at a time ({self._most}): try again in a moment."
            headers = {"Retry-After": str(self._retry_after)}
            raise Problem(429, sentence, code="too_many_requests", headers=headers)
        self._taken[namespace] += 1
        try:
            yield
        finally:
            self._taken[namespace] -= 1


async def body(request: Request, most: int) -> bytes:
    """The whole body. Raises Problem where it is longer, or takes too long to come."""
    async with _within(_BODY_SECONDS):
        return await _limited(request, most).body()


async def question(request: Request, most: int) -> tuple[str, bytes]:
    """The model that a body names, and the rest of it as JSON: what was read of it takes thirty times as much, and is
    gone before anybody is waited for.
    """
    return _question(await body(request, most))


def _question(text: bytes) -> tuple[str, bytes]:
    try:
        found = json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise Problem(400, f"The request's body is not JSON: {error}.") from error
    if not isinstance(found, dict):
        raise Problem(400, "The request's body must be a JSON object.")
    name = found.pop("model", None)
    if not isinstance(name, str):
        raise Problem(400, "model is required, the name of a model.", "model")
    if refused := why_not_asked(found):
        raise Problem(400, f"{refused[0]} can't be had here: {refused[1]}.", refused[0])
    return name, json.dumps(found).encode()


async def while_there(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """What comes of the work for a request whose body was read; a client that leaves ends it, with ClientDisconnect."""
    task, left = asyncio.create_task(work), asyncio.create_task(_left(request))
    try:
        await asyncio.wait({task, left}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientDisconnect
    finally:
        task.cancel()
        left.cancel()
        await asyncio.gather(task, left, return_exceptions=True)


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def upload(request: Request, most: int, seconds: float, purpose: str) -> UploadFile:
    """The file of a form; what is longer than a megabyte of it lies on disk."""
    async with _within(seconds):
        form = await _limited(request, most + _FORM).form(max_files=1, max_fields=8, max_part_size=_FORM)
    file, given = form.get("file"), form.get("purpose")
    if unknown := sorted(form.keys() - {"file", "purpose"}):
        raise Problem(400, f"{unknown[0]} is not known here: a file stays until it is deleted.", unknown[0])
    if given != purpose:
        raise Problem(400, f"purpose must be {purpose}: files of rows are all that is kept here.", "purpose")
    if not isinstance(file, UploadFile) or not file.filename:
        raise Problem(400, "file is required, a file with a name.", "file")
    return file


def only(request: Request, *known: str) -> None:
    """Raises Problem for a parameter of the query that nothing here acts on. `metadata[` stands for all of it."""
    for name in request.query_params:
        if name not in known and not (name.startswith("metadata[") and "metadata[" in known):
            raise Problem(400, f"{name} is not known here, and nothing is ignored: remove it.", name)


def chosen(request: Request, name: str, *words: str) -> str:
    """A parameter of the query that is one of so many words; left out, the first. Raises Problem."""
    text = request.query_params.get(name, words[0])
    if text not in words:
        raise Problem(400, f"{name} must be {' or '.join(words)}, not {text[:20] or 'empty'}.", name)
    return text


def page(request: Request, items: Sequence[Raw], default: int, most: int = 100) -> Raw:
    """The part of a list behind `after`, as long as `limit`."""
    text = request.query_params.get("limit", str(default))
    if not text.isdecimal() or len(text) > 9 or not 1 <= int(text) <= most:
        raise Problem(400, f"limit must be a number from 1 to {most}, not {text[:20] or 'empty'}.", "limit")
    left = behind(items, request.query_params.get("after"))
    shown = left[: int(text)]
    first, last = (shown[0]["id"], shown[-1]["id"]) if shown else (None, None)
    return {"object": "list", "data": shown, "has_more": len(left) > len(shown), "first_id": first, "last_id": last}


def with_metadata(request: Request, items: Iterable[Raw]) -> list[Raw]:
    """The jobs with the pairs that metadata[KEY]=VALUE asks for."""
    asked = {
        name.removeprefix("metadata[").removesuffix("]"): value
        for name, value in request.query_params.items()
        if name.startswith("metadata[")
    }
    return [each for each in items if asked.items() <= (each["metadata"] or {}).items()]


def behind(items: Sequence[Raw], after: str | None) -> Sequence[Raw]:
    """The part of a list behind an id. Raises Problem where it is not in there."""
    if after is None:
        return items
    place = next((number for number, each in enumerate(items, 1) if each["id"] == after), None)
    if place is None:
        said = f"after names {after}, which is not in the list" if after else "after is empty, and names nothing"
        raise Problem(400, f"{said}: begin anew without it.", "after")
    return items[place:]


@asynccontextmanager
async def _within(seconds: float) -> AsyncIterator[None]:
    """Raises Problem where what comes has not come by then, so that nobody holds a place by being slow."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        sentence = f"The request has not come whole within {seconds:g} s, which is as long as one may take here."
        # The client tries 408s again by itself; it would take as long again.
        raise Problem(408, sentence, code="too_slow", headers={"X-Should-Retry": "false"}) from error


def _no_number(word: str) -> None:
    raise ValueError(f"{word} is no number in JSON")


def _limited(request: Request, most: int) -> Request:
    """The same request, whose body ends in a Problem once it is too long."""
    refusal = Problem(413, f"The request is too large: at most {most:,} bytes are taken here.", code="too_large")
    length = request.headers.get("content-length", "0")
    if length.isdecimal() and int(length) > most:
        raise refusal
    taken = 0

    async def receive() -> Message:
        nonlocal taken
        message = await request.receive()
        taken += len(message.get("body", b""))
        if taken > most:
            raise refusal
        return message

    return Request(request.scope, receive)
