"""Asks the candidate what each contender would be asked, as its users will: the answers, and what they took.

Called by `stages.evaluate`.
"""

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai

from finetune_trainer.evaluation import calls
from finetune_trainer.evaluation.contenders import Message, Prompt
from finetune_trainer.evaluation.endpoint import CONCURRENCY, Endpoint, Kept, Line, digest

# Rows of a contender before it is the next one's turn.
TURN = 2 * CONCURRENCY


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
        extra = [self.prompt.extra] if self.prompt.extra else []
        return digest(self.model, self.prompt.prompt, self.prompt.tools, self.max_tokens, *extra)


class Answer(Line):
    """One line of answers.jsonl. `row` counts the rows that were evaluated, from 0; `seconds` from sent to whole.

    `finish_reason`: the engine's; see `cut`.
    """

    contender: str
    row: int
    text: str
    prompt_tokens: int
    completion_tokens: int
    seconds: float
    finish_reason: str | None = None

    @property
    def cut(self) -> bool:
        """Whether the model would have said more, had there been room."""
        return self.finish_reason == "length"


@dataclass(frozen=True)
class Served:
    """The names that the endpoint serves, and the context of the first, in tokens, where the engine tells it."""

    names: tuple[str, ...]
    context_length: int | None


class Candidate:
    """The candidate's endpoint, and the answers that it gave before. Raises StageError when it gives no more."""

    def __init__(self, endpoint: Endpoint, answers: Path) -> None:
        self._endpoint = endpoint
        self._kept = Kept(Answer, answers)

    def served(self) -> Served:
        """What it serves."""
        return asyncio.run(self._served())

    def ask(self, requests: Sequence[Request], told: Callable[[int], None], timed: bool = True) -> list[Answer]:
        """The answers, in the order of `requests`; `told` hears how many there are after each.

        `timed`: somebody looks at how long they took, so that the engine is warmed up for each contender first.
        """
        return self._endpoint.ask(requests, self._kept, _complete, told, _warm_up if timed else None)

    async def _served(self) -> Served:
        async with self._endpoint.client() as client:
            models = [model async for model in client.models.list()]
        lengths = (getattr(model, "max_model_len", None) for model in models)
        return Served(tuple(model.id for model in models), next((found for found in lengths if found), None))


async def _complete(client: openai.AsyncOpenAI, request: Request) -> Answer:
    began = time.monotonic()
    completion = await _send(client, request, request.max_tokens)
    choice = completion.choices[0]
    return Answer(
        key=request.key,
        contender=request.contender,
        row=request.row,
        text=choice.text if isinstance(request.prompt.prompt, str) else _said(choice.message),
        prompt_tokens=completion.usage.prompt_tokens,
        completion_tokens=completion.usage.completion_tokens,
        seconds=round(time.monotonic() - began, 4),
        finish_reason=choice.finish_reason,
    )


def _said(message: Any) -> str:
    made = [call.model_dump() for call in message.tool_calls or ()]
    return calls.written(made) if made else message.content or ""


def _sent(message: Message) -> Message:
    """A message as OpenAI's API has it: the arguments of a call as JSON, and an id."""
    made = message.get("tool_calls")
    return {**message, "tool_calls": [_call(number, call) for number, call in enumerate(made)]} if made else message


def _call(number: int, call: Message) -> Message:
    function = call.get("function", call)
    arguments = function.get("arguments", {})
    told = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    named = {"name": function.get("name", ""), "arguments": told}
    return {"id": call.get("id", f"call{number:05}"), "type": "function", "function": named}


def interleaved(contenders: Sequence[Sequence[Request]]) -> list[Request]:
    """In turns of `TURN` rows each, and each round begins with another: time and order are nobody's advantage.

    A turn is long enough that most of its requests share the engine with their like.
    """
    rounds = range(0, max((len(requests) for requests in contenders), default=0), TURN)
    order = [(*contenders[start:], *contenders[:start]) for start in range(len(contenders))]
    return [
        request
        for number, begin in enumerate(rounds)
        for requests in order[number % len(order)]
        for request in requests[begin : begin + TURN]
    ]


async def _warm_up(client: openai.AsyncOpenAI, requests: Sequence[Request]) -> None:
    """An engine compiles and loads with its first requests, of each kind and number; that is no contender's latency."""
    for name in dict.fromkeys(request.contender for request in requests):
        first = [request for request in requests if request.contender == name][:CONCURRENCY]
        await asyncio.gather(*(_send(client, request, 1) for request in first))


async def _send(client: openai.AsyncOpenAI, request: Request, max_tokens: int) -> Any:
    """At temperature 0, by the chat endpoint for messages and by the other for strings."""
    prompt = request.prompt.prompt
    options: dict[str, Any] = {"model": request.model, "max_tokens": max_tokens, "temperature": 0}
    options["extra_body"] = request.prompt.extra
    if isinstance(prompt, str):
        return await client.completions.create(prompt=prompt, **options)
    # The template shows the tools; calls are read from the text, so the engine need not know how to.
    tools: Any = {"tools": list(request.prompt.tools), "tool_choice": "none"} if request.prompt.tools else {}
    messages: Any = [_sent(message) for message in prompt]
    return await client.chat.completions.create(messages=messages, **options, **tools)
