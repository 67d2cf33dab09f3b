"""Asks an engine what each contender would be asked, as its users will: the answers, and what they took.

Called by `measuring` and `ranking`, and by `remote` for models that the candidate does not serve.
"""

import asyncio
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import openai

from finetune_trainer.contract.outcome import Outcome, StageError
from finetune_trainer.evaluation import calls
from finetune_trainer.evaluation.contenders import Message, Prompt
from finetune_trainer.evaluation.endpoint import (
    CONCURRENCY,
    Endpoint,
    Response,
    ResponseFile,
    Unreadable,
    choice_of,
    digest,
    engine_key,
)
from finetune_trainer.evaluation.manner import BRIEF, Manner

# Rows of a contender before it is the next one's turn.
TURN = 2 * CONCURRENCY
WARMING = "warming up"


@dataclass(frozen=True)
class AnswerRequest:
    """What one contender asks about one row. `url` and `manner`: of a model that the candidate does not serve."""

    contender: str
    row: int
    model: str
    prompt: Prompt
    max_tokens: int
    url: str = ""
    manner: Manner = BRIEF

    @property
    def key(self) -> str:
        """A digest of all that the answer depends on."""
        more = [self.prompt.extra] if self.prompt.extra else []
        more += [{"url": self.url, "thinks": self.manner.thinks}] if self.url else []
        return digest(self.model, self.prompt.prompt, self.prompt.tools, self.max_tokens, *more)


class Prediction(Response):
    """A model's answer: one line of answers.jsonl.

    `row` counts the rows that were evaluated, from 0; `seconds` from sent to whole.

    `finish_reason`: the engine's; see `cut`. `cached_tokens`: of the prompt, those in the engine's prefix cache; None
    where it does not tell.
    """

    contender: str
    row: int
    text: str
    prompt_tokens: int
    completion_tokens: int
    seconds: float
    finish_reason: str | None = None
    cached_tokens: int | None = None

    @property
    def cut(self) -> bool:
        """Whether the model would have said more, had there been room."""
        return self.finish_reason == "length"


@dataclass(frozen=True)
class Served:
    """The names that the endpoint serves, and the context of the first, in tokens, where the engine tells it."""

    names: tuple[str, ...]
    context_length: int | None


class VllmEndpoint:
    """An engine's endpoint. Raises StageError when it gives no more answers; `kept` has those that engines gave."""

    def __init__(self, endpoint: Endpoint, kept: ResponseFile[Prediction]) -> None:
        self.endpoint = endpoint
        self._kept = kept

    def served(self) -> Served:
        """What it serves."""
        return asyncio.run(self._served())

    def ask(
        self, requests: Sequence[AnswerRequest], told: Callable[[int], None], timed: bool = True
    ) -> list[Prediction]:
        """The predictions, in the order of `requests`; `told` hears how many there are after each.

        `timed`: somebody looks at how long they took, so that the engine is warmed up for each contender first.
        """
        return self.endpoint.ask(requests, self._kept, complete, told, _warm_up if timed else None)

    async def _served(self) -> Served:
        async with self.endpoint.client() as client:
            models = [model async for model in client.models.list()]
        lengths = (getattr(model, "max_model_len", None) for model in models)
        return Served(tuple(model.id for model in models), next((found for found in lengths if found), None))


@dataclass(frozen=True)
class Whom:
    """Whom an evaluation asks, and for which models: the candidate's OpenAI-compatible endpoint, and that of the base
    model where it has one of its own.
    """

    url: str
    base_url: str | None
    model: str
    base: str


def engines(whom: Whom, kept: ResponseFile[Prediction]) -> dict[str, VllmEndpoint]:
    """Who answers, by the model's name: the tuned model, and its base model where that is served, too.

    Raises StageError for an engine of something else.
    """
    candidate = VllmEndpoint(Endpoint("The candidate", whom.url, engine_key()), kept)
    alone = whom.base_url
    base = VllmEndpoint(Endpoint("The base model", alone, engine_key()), kept) if alone else candidate
    found = {whom.model: candidate, whom.base: base}
    for model, engine in tuple(found.items()):
        if model in (served := engine.served().names):
            continue
        if model == whom.model or alone:
            message = f"{engine.endpoint.url} serves {', '.join(served)}, and not {model}: is it another's?"
            raise StageError(Outcome.CONFIG_INVALID, message)
        del found[model]
    return found


async def complete(client: openai.AsyncOpenAI, request: AnswerRequest) -> Prediction:
    """The prediction, and what it took."""
    began = time.monotonic()
    completion = await _send(client, request, request.max_tokens, request.contender)
    choice, usage = choice_of(completion), completion.usage
    if usage is None:
        raise Unreadable
    return Prediction(
        key=request.key,
        contender=request.contender,
        row=request.row,
        text=choice.text if isinstance(request.prompt.prompt, str) else _said(choice.message),
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        seconds=round(time.monotonic() - began, 4),
        finish_reason=choice.finish_reason,
        cached_tokens=usage.prompt_tokens_details and usage.prompt_tokens_details.cached_tokens,
    )


def _said(message: Any) -> str:
    made = [call.model_dump() for call in message.tool_calls or ()]
    return calls.written(made) if made else message.content or ""


def sent(message: Message) -> Message:
    """A message as OpenAI's API has it: the arguments of a call as JSON, and an id."""
    made = message.get("tool_calls")
    return {**message, "tool_calls": [_call(number, call) for number, call in enumerate(made)]} if made else message


def _call(number: int, call: Message) -> Message:
    function = call.get("function", call)
    arguments = function.get("arguments", {})
    told = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    named = {"name": function.get("name", ""), "arguments": told}
    return {"id": call.get("id", f"call{number:05}"), "type": "function", "function": named}


def interleaved(contenders: Sequence[Sequence[AnswerRequest]]) -> list[AnswerRequest]:
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


def by_engine(
    contenders: Sequence[Sequence[AnswerRequest]], engines: Mapping[str, VllmEndpoint]
) -> list[tuple[VllmEndpoint, list[AnswerRequest]]]:
    """What each engine is asked, one after the other; the contenders that share one take turns."""
    found: dict[VllmEndpoint, list[Sequence[AnswerRequest]]] = {}
    for requests in filter(None, contenders):
        found.setdefault(engines[requests[0].model], []).append(requests)
    return [(engine, interleaved(theirs)) for engine, theirs in found.items()]


async def _warm_up(client: openai.AsyncOpenAI, requests: Sequence[AnswerRequest]) -> None:
    """An engine compiles and loads with its first requests, of each kind and number; that is no contender's latency."""
    for name in dict.fromkeys(request.contender for request in requests):
        first = [request for request in requests if request.contender == name][:CONCURRENCY]
        await asyncio.gather(*(_send(client, request, 1, WARMING) for request in first))


async def _send(client: openai.AsyncOpenAI, request: AnswerRequest, max_tokens: int, salt: str) -> Any:
    """By the chat endpoint for messages and by the other for strings; at temperature 0, where that is not refused.

    The candidate finds in its prefix cache only what was asked with the same `salt`, as vLLM has it: no contender is
    to profit from another's prompts, or from those that warmed it up.
    """
    prompt = request.prompt.prompt
    extra = request.prompt.extra if request.url else request.prompt.extra | {"cache_salt": salt}
    options: dict[str, Any] = {"model": request.model, "extra_body": extra} | request.manner.options(max_tokens)
    if isinstance(prompt, str):
        return await client.completions.create(prompt=prompt, **options)
    if request.prompt.tools:
        options["tools"] = list(request.prompt.tools)
        if not request.url:
            # The template shows the tools; calls are read from the text, so the engine need not know how to.
            options["tool_choice"] = "none"
    messages: Any = [sent(message) for message in prompt]
    return await client.chat.completions.create(messages=messages, **options)
