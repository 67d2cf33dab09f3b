"""`finetune chat` over the real client: what the server refuses, and what the user reads then."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from finetune_cli.chat import Chat, Refused, converse, show
from finetune_cli.errors import UserError
from finetune_cli.laptop import common_system_message
from finetune_cli.main import app
from finetune_cli.store import Store
from finetune_operator.api.status import FineTuneJobStatus
from http_server import Handler, answering
from played_kubectl import Kubectl
from rich.console import Console
from statuses import raw, serving, training
from typer.testing import CliRunner

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


class Engine(Handler):
    """The same over a socket, for those who know the key."""

    def do_POST(self) -> None:
        answer = served(httpx.Request("POST", "http://x", content=self.body()))
        if self.headers["Authorization"] != "Bearer open sesame":
            answer = httpx.Response(401, json={"error": {"message": "Unauthorized"}})
        self.answer(answer.status_code, answer.content, {"Content-Type": answer.headers["content-type"]})


class TestInACluster:
    @pytest.fixture
    def kubectl(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kubectl]:
        """One that forwards to a server of this machine."""
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        monkeypatch.chdir(tmp_path)
        with answering(Engine) as place:
            found = Kubectl(tmp_path)
            found.file("forward", f"Forwarding from {place} -> 8000\n")
            yield found

    def test_the_service_of_the_endpoint_is_forwarded_and_asked(self, kubectl: Kubectl) -> None:
        line = ["chat", "recipes", "-n", "kitchen", "-m", "Hello", "--system", "Be brief.", "--api-key", "open sesame"]
        assert CliRunner().invoke(app, line, catch_exceptions=False).output == "answer 2\n"
        assert kubectl.asked[-1] == "--namespace=kitchen port-forward service/recipes :80"

    def test_a_key_that_is_missing_is_asked_for(self, kubectl: Kubectl) -> None:
        with pytest.raises(UserError, match="asks for a key, and refuses the one given: give what"):
            CliRunner().invoke(app, ["chat", "-m", "Hello"], catch_exceptions=False)

    def test_what_nothing_serves_is_not_asked(self, kubectl: Kubectl) -> None:
        kubectl.has(raw(training()))
        with pytest.raises(UserError, match="Nothing of recipes serves; `finetune describe recipes` says why"):
            CliRunner().invoke(app, ["chat", "-m", "Hello"], catch_exceptions=False)

    def test_a_reward_model_has_nothing_to_say(self, kubectl: Kubectl) -> None:
        url = "http://recipes.kitchen.svc/classify"
        kubectl.has(raw(serving() | {"endpoint": {"url": url, "model": "recipes"}}))
        with pytest.raises(UserError) as refused:
            CliRunner().invoke(app, ["chat", "-m", "Hello"], catch_exceptions=False)
        assert refused.value.message == (
            "recipes is a reward model, which rates answers and writes none: post a whole chat to "
            f"{url}, as docs/methods.md shows."
        )


def test_a_run_of_this_machine_that_is_over_is_not_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = Store("recipes", tmp_path / ".finetune")
    with store.lock():
        store.write(FineTuneJobStatus.model_validate(serving()))
    with pytest.raises(UserError, match="recipes is not being served; start it with `finetune run`"):
        CliRunner().invoke(app, ["chat", "-m", "Hello"], catch_exceptions=False)


def test_the_system_message_is_the_one_that_all_rows_have(tmp_path: Path) -> None:
    rows = tmp_path / "train.jsonl"
    told = [{"messages": [{"role": "system", "content": words}]} for words in ("Extract.", "Extract.", "Sum up.")]
    rows.write_text("".join(json.dumps(row) + "\n" for row in told[:2]))
    assert common_system_message(rows) == "Extract."
    rows.write_text("".join(json.dumps(row) + "\n" for row in told))
    assert common_system_message(rows) is None


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
