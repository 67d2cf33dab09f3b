"""Asks the candidate, and keeps every answer: the one place of an evaluation that talks to the engine.

Called by `finetune_trainer.evaluate`. An answer is found again by what was asked, so an evaluation that was stopped
goes on where it was, and one with other metrics or more rows asks only what is new.
"""

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai

from finetune_trainer.config import Contract
from finetune_trainer.evaluation.contenders import Prompt
from finetune_trainer.outcome import Outcome, StageError

# Enough to fill an engine's batches; its latencies are those of a server under load.
CONCURRENCY = 16
# An answer on a busy CPU may take a minute.
TIMEOUT_SECONDS = 300.0
# Of one request, with the client's own back-off of up to 8 s: an engine that restarts is given half a minute.
RETRIES = 6
SERVER_ERROR = 500
KEPT = "What it answered so far is kept, and the next run asks the rest."
# The endpoint asks for no key; the client insists on one.
NO_KEY = "none"


@dataclass(frozen=True)
class Request:
    """What one contender asks about one row."""

    contender: str
    row: int
    model: str
    prompt: Prompt
    max_tokens: int

    @property
    def key(self) -> str:
        """A digest of all that the answer depends on."""
        asked = [self.model, self.prompt.prompt, self.prompt.tools, self.max_tokens]
        return hashlib.sha256(json.dumps(asked, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


class Answer(Contract):
    """One line of answers.jsonl. `row` counts the rows that were evaluated, from 0; `seconds` from sent to whole."""

    key: str
    contender: str
    row: int
    text: str
    prompt_tokens: int
    completion_tokens: int
    seconds: float


@dataclass(frozen=True)
class Served:
    """The names that the endpoint serves, and the context of the first, in tokens, where the engine tells it."""

    names: tuple[str, ...]
    context_length: int | None


class Candidate:
    """The candidate's endpoint. Raises StageError (UNAVAILABLE) when it does not answer, or no longer."""

    def __init__(self, url: str, answers: Path) -> None:
        self._url = url
        self._file = answers
        self._known = {answer.key: answer for answer in _read(answers)}

    def served(self) -> Served:
        """What it serves."""
        return asyncio.run(self._served())

    def ask(self, requests: Sequence[Request], told: Callable[[int], None]) -> list[Answer]:
        """The answers, in the order of `requests`; `told` hears how many there are after each."""
        return asyncio.run(self._ask(requests, told))

    async def _served(self) -> Served:
        async with self._client() as client:
            models = [model async for model in client.models.list()]
        lengths = (getattr(model, "max_model_len", None) for model in models)
        return Served(tuple(model.id for model in models), next((found for found in lengths if found), None))

    async def _ask(self, requests: Sequence[Request], told: Callable[[int], None]) -> list[Answer]:
        gate = asyncio.Semaphore(CONCURRENCY)
        # Of equal requests one is asked.
        new = {request.key: request for request in requests if request.key not in self._known}
        told(len(requests) - len(new))

        async def one(client: openai.AsyncOpenAI, request: Request) -> None:
            async with gate:
                self._keep(await _complete(client, request))
            told(sum(request.key in self._known for request in requests))

        async with self._client() as client:
            await asyncio.gather(*(one(client, request) for request in new.values()))
        return [self._known[request.key] for request in requests]

    def _keep(self, answer: Answer) -> None:
        """One write for one line: whatever ends the process leaves whole lines, and at most a torn one at the end."""
        with self._file.open("ab", buffering=0) as file:
            file.write(answer.model_dump_json(by_alias=True).encode() + b"\n")
        self._known[answer.key] = answer

    @asynccontextmanager
    async def _client(self) -> AsyncIterator[openai.AsyncOpenAI]:
        try:
            async with openai.AsyncOpenAI(
                base_url=self._url, api_key=NO_KEY, timeout=TIMEOUT_SECONDS, max_retries=RETRIES
            ) as client:
                yield client
        except openai.APIStatusError as error:
            raise _refused(self._url, error) from error
        except openai.APIConnectionError as error:
            raise StageError(Outcome.UNAVAILABLE, f"The candidate at {self._url} does not answer. {KEPT}") from error


async def _complete(client: openai.AsyncOpenAI, request: Request) -> Answer:
    """One answer at temperature 0, by the chat endpoint for messages and by the other for strings."""
    began = time.monotonic()
    prompt = request.prompt.prompt
    options: dict[str, Any] = {"model": request.model, "max_tokens": request.max_tokens, "temperature": 0}
    completion: Any
    if isinstance(prompt, str):
        completion = await client.completions.create(prompt=prompt, **options)
        text = completion.choices[0].text
    else:
        # The template shows the tools; what is compared is text, so the engine need not parse calls.
        tools: Any = {"tools": list(request.prompt.tools), "tool_choice": "none"} if request.prompt.tools else {}
        messages: Any = list(prompt)
        completion = await client.chat.completions.create(messages=messages, **options, **tools)
        text = completion.choices[0].message.content or ""
    return Answer(
        key=request.key,
        contender=request.contender,
        row=request.row,
        text=text,
        prompt_tokens=completion.usage.prompt_tokens,
        completion_tokens=completion.usage.completion_tokens,
        seconds=round(time.monotonic() - began, 4),
    )


def _read(file: Path) -> list[Answer]:
    """What was answered before; a line torn by a kill is asked again."""
    if not file.exists():
        return []
    whole = file.read_bytes().rpartition(b"\n")
    # What follows a torn line would become part of it.
    if whole[2]:
        file.write_bytes(whole[0] + whole[1])
    return [Answer.model_validate_json(line) for line in whole[0].splitlines()]


def _refused(url: str, error: openai.APIStatusError) -> StageError:
    """A server that has lost its engine is worth another try; a request that it takes for wrong is not."""
    outcome = Outcome.UNAVAILABLE if error.status_code >= SERVER_ERROR else Outcome.CONFIG_INVALID
    return StageError(
        outcome,
        f"The candidate at {url} answered {error.status_code}: {error.message}. {KEPT}",
    )
