"""Asks an OpenAI-compatible endpoint many things, and keeps every answer.

Called by `ask`, `likelihood`, `judge`, `remote` and `ranking`. An answer is found again by what was asked: one that was
stopped goes on where it was, and one with other metrics or more rows asks only what is new.
"""

import asyncio
import hashlib
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import shorten
from typing import Any, Generic, Protocol, TypeVar

import openai
from pydantic import ValidationError

from finetune_trainer.contract.config import Contract
from finetune_trainer.contract.outcome import Outcome, StageError

# Enough to fill an engine's batches; its latencies are those of a server under load.
CONCURRENCY = 16
# An answer on a busy CPU may take a minute.
TIMEOUT_SECONDS = 300.0
# Of one request, with the client's own back-off of up to 8 s: an engine that restarts is given half a minute.
RETRIES = 6
SERVER_ERROR = 500
# Characters of what an endpoint says is wrong; at a wrong address that may be a page.
SAID = 400
KEPT = "What was answered so far is kept, and the next run asks the rest."
# An endpoint that asks for no key; the client insists on one.
NO_KEY = "none"


def key_of(owner: str) -> str:
    """Set from the Secret that the manifest names; on a laptop the shell's own key serves."""
    names = (f"FINETUNE_{owner}_OPENAI_API_KEY", "OPENAI_API_KEY")
    return next((os.environ[name] for name in names if os.environ.get(name)), NO_KEY)


def engine_key() -> str:
    """That of the engine that is measured. The shell's own is nobody's business there."""
    return os.environ.get("FINETUNE_ENGINE_OPENAI_API_KEY") or NO_KEY


class Unreadable(Exception):
    """An answer that is none of OpenAI's API."""


def choice_of(completion: Any) -> Any:
    """The answer in a response. Raises Unreadable: a wrong URL may be answered with a page, and 200."""
    choices = getattr(completion, "choices", None)
    if not choices:
        raise Unreadable
    return choices[0]


class Keyed(Protocol):
    """A request that is known by its key."""

    @property
    def key(self) -> str:
        """A digest of all that the answer depends on."""


class Response(Contract):
    """What was answered to a request: one line of a ResponseFile."""

    key: str


Request = TypeVar("Request", bound=Keyed)
Kind = TypeVar("Kind", bound=Response)


def digest(*asked: Any) -> str:
    """The key of a request: the same for the same question."""
    return hashlib.sha256(json.dumps(asked, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


class ResponseFile(Generic[Kind]):
    """The responses in a file of JSON Lines, by what was asked."""

    def __init__(self, kind: type[Kind], file: Path) -> None:
        self._file = file
        self._known = {line.key: line for line in _read(kind, file)}

    def __contains__(self, key: str) -> bool:
        return key in self._known

    def __getitem__(self, key: str) -> Kind:
        return self._known[key]

    def add(self, line: Kind) -> None:
        """Written as it comes: whatever ends the process leaves whole lines, and at most a torn one at the end."""
        with self._file.open("ab") as file:
            file.write(line.model_dump_json(by_alias=True).encode() + b"\n")
        self._known[line.key] = line


@dataclass(frozen=True)
class Endpoint:
    """Where to ask. `name`: what messages call it, such as "The candidate". Its key appears in no message.

    `mend`: what to do where it can't be asked, as a sentence.
    """

    name: str
    url: str
    key: str = field(default=NO_KEY, repr=False)
    mend: str = ""

    @asynccontextmanager
    async def client(self, kept: str = KEPT) -> AsyncIterator[openai.AsyncOpenAI]:
        """A client. Inside, what goes wrong becomes a StageError; `kept`: what it says of the answers so far."""
        try:
            async with openai.AsyncOpenAI(
                base_url=self.url, api_key=self.key, timeout=TIMEOUT_SECONDS, max_retries=RETRIES
            ) as client:
                yield client
        except openai.APIStatusError as error:
            raise self._failed(*_refused(error, self.key), kept) from error
        except openai.APIConnectionError as error:
            raise self._failed(Outcome.UNAVAILABLE, "does not answer", kept) from error
        except Unreadable as error:
            why = "does not answer as OpenAI's API does; its URL ends where /chat/completions begins"
            raise self._failed(Outcome.CONFIG_INVALID, why, kept) from error

    def ask(
        self,
        requests: Sequence[Request],
        kept: ResponseFile[Kind],
        one: Callable[[openai.AsyncOpenAI, Request], Awaitable[Kind]],
        told: Callable[[int], None],
        warm_up: Callable[[openai.AsyncOpenAI, Sequence[Request]], Awaitable[object]] | None = None,
        at_once: int = CONCURRENCY,
    ) -> list[Kind]:
        """The answers, in the order of `requests`; `told` hears how many there are after each. Raises StageError.

        `warm_up` is awaited with the new requests before any is asked, and then so many are `at_once`, in their order.
        """
        return asyncio.run(self._ask(requests, kept, one, told, warm_up, at_once))

    async def _ask(
        self,
        requests: Sequence[Request],
        kept: ResponseFile[Kind],
        one: Callable[[openai.AsyncOpenAI, Request], Awaitable[Kind]],
        told: Callable[[int], None],
        warm_up: Callable[[openai.AsyncOpenAI, Sequence[Request]], Awaitable[object]] | None,
        at_once: int,
    ) -> list[Kind]:
        gate = asyncio.Semaphore(at_once)
        # Of equal requests one is asked.
        new = {request.key: request for request in requests if request.key not in kept}
        there = len(requests) - len(new)
        told(there)

        async def keep(client: openai.AsyncOpenAI, request: Request) -> None:
            nonlocal there
            async with gate:
                kept.add(await one(client, request))
            there += 1
            told(there)

        async with self.client() as client:
            if warm_up:
                await warm_up(client, list(new.values()))
            await asyncio.gather(*(keep(client, request) for request in new.values()))
        return [kept[request.key] for request in requests]

    def _failed(self, outcome: Outcome, why: str, kept: str) -> StageError:
        return StageError(outcome, " ".join(filter(None, [f"{self.name} at {self.url} {why}.", self.mend, kept])))


def _refused(error: openai.APIStatusError, key: str) -> tuple[Outcome, str]:
    """A server that has lost its engine is worth another try; a request that it takes for wrong is not."""
    if isinstance(error, openai.AuthenticationError | openai.PermissionDeniedError):
        return Outcome.ACCESS_DENIED, "refused the key"
    retry = error.status_code >= SERVER_ERROR or isinstance(error, openai.RateLimitError)
    # What it says may be what it was told.
    said = error.message if key == NO_KEY else error.message.replace(key, "…")
    said = shorten(said, SAID, placeholder=" …")
    return Outcome.UNAVAILABLE if retry else Outcome.CONFIG_INVALID, f"answered {error.status_code}: {said}"


def _read(kind: type[Kind], file: Path) -> list[Kind]:
    """What was answered before, up to a line that can't be read: a kill tears one, and a machine that is lost leaves
    zeros in place of some. What follows is asked again.
    """
    found: list[Kind] = []
    if not file.exists():
        return found
    whole = 0
    with file.open("rb+") as lines, suppress(ValidationError):
        for line in lines:
            if not line.endswith(b"\n"):
                break
            found.append(kind.model_validate_json(line))
            whole += len(line)
    # What follows a torn line would become part of it.
    os.truncate(file, whole)
    return found
