"""`finetune chat` over the real client: what the server refuses, and what the user reads then."""

import json
from typing import Any

import httpx
import openai
import pytest
from finetune_cli.chat import Chat, Refused, converse, show
from rich.console import Console

TOO_LONG = "This model's maximum context length is 2048 tokens."


def served(request: httpx.Request) -> httpx.Response:
    """A server that refuses long questions."""
    asked = json.loads(request.content)["messages"]
    if any(len(message["content"]) > 100 for message in asked):
        return httpx.Response(400, json={"error": {"message": TOO_LONG}})
    chunk: dict[str, Any] = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "recipes"}
    chunk["choices"] = [{"index": 0, "delta": {"content": f"answer {len(asked)}"}, "finish_reason": None}]
    return httpx.Response(
        200, text=f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n", headers={"content-type": "text/event-stream"}
    )


@pytest.fixture
def chat() -> Chat:
    http = httpx.Client(transport=httpx.MockTransport(served))
    client = openai.OpenAI(base_url="http://127.0.0.1/v1", api_key="none", max_retries=0, http_client=http)
    return Chat(client, "recipes", [], 0.0)


def test_a_question_that_is_refused_does_not_end_the_conversation(chat: Chat) -> None:
    questions = iter(["hello", "x" * 101, "are you there?"])

    def read() -> str:
        found = next(questions, None)
        if found is None:
            raise EOFError
        return found

    console = Console(width=200, color_system=None)
    with console.capture() as capture:
        converse(chat, console, read)
    said = capture.get().splitlines()
    assert said[0] == "answer 1"
    assert said[1].startswith("recipes refused: ")
    assert TOO_LONG in said[1]
    assert said[2] == "answer 3", "the refused one is no part of the conversation"


def test_asked_once_it_is_an_error(chat: Chat) -> None:
    with pytest.raises(Refused, match="maximum context length"):
        show(chat, "x" * 101, Console())
