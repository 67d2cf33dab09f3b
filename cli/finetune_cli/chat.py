"""`finetune chat`: ask the model that a job serves, or the base model beside it, with the openai client."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import openai
from finetune_operator.api.status import Endpoint
from finetune_trainer.contract.asked import rates
from openai.types.chat import ChatCompletionMessageParam
from rich.console import Console

from finetune_cli.errors import UserError
from finetune_cli.jobs import Job, Place

# The endpoint asks for no key; the client insists on one.
NO_KEY = "none"
# hosting.apiKey names a Secret, which people may not be allowed to read.
NO_ENTRY = "The endpoint asks for a key, and refuses the one given: give what the Secret has, by --api-key."


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
            raise _silent(self.client) from error
        except openai.AuthenticationError as error:
            raise UserError(NO_ENTRY) from error
        except openai.APIError as error:
            raise Refused(f"{self.model} refused: {error.message}") from error
        self.messages = [*asked, {"role": "assistant", "content": answer}]


@dataclass(frozen=True)
class ChatOptions:
    """What a user wants: `message` asks once; `system` None: what the job is known to be told; `key` opens the door."""

    message: str | None
    system: str | None
    base: bool
    temperature: float
    key: str | None


def chat_with(place: Place, job: Job, options: ChatOptions, console: Console) -> None:
    """Ask once, or as long as the user likes; UserError when nothing is served."""
    endpoint = job.status.endpoint
    if endpoint and rates(endpoint.url):
        raise UserError(
            f"{job.name} is a reward model, which rates answers and writes none: post a whole chat to {endpoint.url}, "
            "as docs/methods.md shows."
        )
    with place.reach(job) as reached:
        client = connect(reached.endpoint, options.key)
        system = options.system or reached.system
        chat = Chat(
            client,
            base_of(client, reached.endpoint) if options.base else reached.endpoint.model,
            [{"role": "system", "content": system}] if system else [],
            options.temperature,
        )
        if options.message is not None:
            show(chat, options.message, console)
            return
        console.print(f"{chat.model}, Ctrl-D ends." + (f" System message: {system}" if system else ""), markup=False)
        converse(chat, console, lambda: console.input("[bold]> [/]"))


def connect(endpoint: Endpoint, key: str | None = None) -> openai.OpenAI:
    """A client of the endpoint."""
    return openai.OpenAI(base_url=endpoint.url, api_key=key or NO_KEY, max_retries=0)


def base_of(client: openai.OpenAI, endpoint: Endpoint) -> str:
    """The name under which the endpoint serves the base model: the parent of the job's adapter."""
    try:
        models = client.models.list().data
    except openai.APIConnectionError as error:
        raise _silent(client) from error
    except openai.AuthenticationError as error:
        raise UserError(NO_ENTRY) from error
    parent = next((getattr(found, "parent", None) for found in models if found.id == endpoint.model), None)
    if not parent:
        raise UserError(f"{endpoint.model} is a whole model of its own, so the base model is not served beside it.")
    return str(parent)


def _silent(client: openai.OpenAI) -> UserError:
    return UserError(f"{client.base_url} does not answer (any more): is the model still being served?")


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
