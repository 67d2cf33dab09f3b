"""`finetune chat`: ask the model that `finetune run` serves, or the base model beside it, with the openai client."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
from finetune_operator.api.status import Endpoint
from openai.types.chat import ChatCompletionMessageParam
from rich.console import Console

from finetune_cli.errors import UserError
from finetune_cli.store import find

# The endpoint asks for no key; the client insists on one.
NO_KEY = "none"


class Refused(UserError):
    """One question was refused; another may be answered."""


@dataclass
class Chat:
    """A conversation: its messages so far, and who answers."""

    client: openai.OpenAI
    model: str
    messages: list[ChatCompletionMessageParam]
    temperature: float

    def ask(self, question: str) -> Iterator[str]:
        """The answer, piece by piece; afterwards it is part of the conversation. UserError when there is none."""
        asked: list[ChatCompletionMessageParam] = [*self.messages, {"role": "user", "content": question}]
        answer = ""
        try:
            stream = self.client.chat.completions.create(
                model=self.model, messages=asked, temperature=self.temperature, stream=True
            )
            for chunk in stream:
                piece = (chunk.choices[0].delta.content if chunk.choices else None) or ""
                answer += piece
                yield piece
        except openai.APIConnectionError as error:
            raise UserError(f"{self.client.base_url} does not answer; is `finetune run` still serving?") from error
        except openai.APIError as error:
            raise Refused(f"{self.model} refused: {error.message}") from error
        self.messages = [*asked, {"role": "assistant", "content": answer}]


def chat_with(
    name: str | None, message: str | None, system: str | None, base: bool, temperature: float, console: Console
) -> None:
    """Ask once, or as long as the user likes; UserError when nothing is served."""
    store = find(name)
    status = store.read()
    if status is None or status.endpoint is None or not store.running:
        raise UserError(f"{store.name} is not being served; start it with `finetune run` and leave that running.")
    client = connect(status.endpoint)
    system = system or common_system_message(store.workspace(status.revision or "").data / "train.jsonl")
    chat = Chat(
        client,
        base_of(client, status.endpoint) if base else status.endpoint.model,
        [{"role": "system", "content": system}] if system else [],
        temperature,
    )
    if message is not None:
        show(chat, message, console)
        return
    console.print(f"{chat.model}, Ctrl-D ends." + (f" System message: {system}" if system else ""), markup=False)
    converse(chat, console, lambda: console.input("[bold]> [/]"))


def common_system_message(rows: Path) -> str | None:
    """The system message that all prepared rows begin with, which the model knows its task by; else None."""
    if not rows.is_file():
        return None
    with rows.open() as lines:
        found = {_system_message(json.loads(line)) for line in lines}
    return found.pop() if len(found) == 1 else None


def _system_message(row: dict[str, Any]) -> str | None:
    messages = row.get("messages") or row.get("prompt")
    first = messages[0] if isinstance(messages, list) and messages else {}
    return first["content"] if first.get("role") == "system" else None


def connect(endpoint: Endpoint) -> openai.OpenAI:
    """A client of the endpoint."""
    return openai.OpenAI(base_url=endpoint.url, api_key=NO_KEY, max_retries=0)


def base_of(client: openai.OpenAI, endpoint: Endpoint) -> str:
    """The name under which the endpoint serves the base model: the parent of the job's adapter."""
    try:
        models = client.models.list().data
    except openai.APIConnectionError as error:
        raise UserError(f"{endpoint.url} does not answer; is `finetune run` still serving?") from error
    parent = next((getattr(found, "parent", None) for found in models if found.id == endpoint.model), None)
    if not parent:
        raise UserError(f"{endpoint.model} is a whole model of its own, so the base model is not served beside it.")
    return str(parent)


def converse(chat: Chat, console: Console, read: Callable[[], str]) -> None:
    """Ask what the user types until they end the input (Ctrl-D) or stop (Ctrl-C)."""
    while True:
        try:
            if question := read().strip():
                show(chat, question, console)
        except Refused as error:
            console.print(error.message, markup=False, highlight=False, soft_wrap=True)
        except (EOFError, KeyboardInterrupt):
            console.print()
            return


def show(chat: Chat, question: str, console: Console) -> None:
    """Print the answer as it comes."""
    for piece in chat.ask(question):
        console.print(piece, end="", markup=False, highlight=False, soft_wrap=True)
    console.print()
