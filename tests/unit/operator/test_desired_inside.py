"""The programs that run in the engine's container: the startup probe, and the drain."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from finetune_operator.serving.inside import finetune_answers, finetune_drain
from http_server import Handler, answering


class Engine(Handler):
    """Answers completions as `recipes`, and as nobody else, the way vLLM does; and rates answers as `judge`."""

    def do_POST(self):
        request = json.loads(self.body())
        asked = self.path == "/v1/completions" and request["max_tokens"] == 1
        rated = self.path == "/classify" and request == {"model": "judge", "input": "Hello"}
        admitted = request["model"] == "guarded" and self.headers["Authorization"] == "Bearer secret"
        known = rated or (asked and (request["model"] == "recipes" or admitted))
        self.answer(*((200, b'{"choices": []}') if known else (404, b"The model does not exist.")))


@pytest.fixture
def port() -> Iterator[str]:
    with answering(Engine) as place:
        yield place.partition(":")[2]


def probe(model, port, path="/v1/completions", **environment):
    """Run it as the kubelet does."""
    command = [sys.executable, finetune_answers.__file__, model, port, path]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment})


def test_an_engine_that_answers_has_started(port):
    ended = probe("recipes", port)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_an_engine_that_asks_for_a_key_is_given_its_own(port):
    assert probe("guarded", port, VLLM_API_KEY="secret").returncode == 0
    assert probe("guarded", port, VLLM_API_KEY="wrong").returncode == 1


def test_an_engine_that_rates_answers_is_asked_to_rate_one(port):
    assert probe("judge", port, "/classify").returncode == 0
    assert probe("judge", port).returncode == 1
    assert probe("recipes", port, "/classify").returncode == 1


def test_an_engine_without_the_adapter_has_not_started(port):
    ended = probe("other", port)
    assert ended.returncode == 1
    assert ended.stderr.strip() == "the engine answers 404: The model does not exist."


def test_an_engine_that_still_loads_is_told_in_one_line(port):
    ended = probe("recipes", "1")
    assert ended.returncode == 1
    assert ended.stderr.strip() == "the engine does not answer yet: [Errno 111] Connection refused"


async def answer(mark, monkeypatch):
    """What a client gets through the middleware from an application that says hello."""
    monkeypatch.setattr(finetune_drain, "MARK", mark)
    sent = []

    async def hello(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": b"hello"})

    async def receive():
        return {"type": "http.request"}

    async def send(message):
        sent.append(message)

    await finetune_drain.AskToReconnect(hello)({"type": "http"}, receive, send)
    start, body = sent
    assert body["body"] == b"hello"
    return start["headers"]


async def test_connections_are_kept_while_the_pod_serves(tmp_path, monkeypatch):
    assert await answer(tmp_path / "mark", monkeypatch) == [(b"content-type", b"text/plain")]


async def test_clients_of_a_pod_that_ends_are_asked_to_reconnect(tmp_path, monkeypatch):
    (tmp_path / "mark").touch()
    assert (b"connection", b"close") in await answer(tmp_path / "mark", monkeypatch)


def test_the_hook_leaves_the_mark_and_ends():
    finetune_drain.MARK.unlink(missing_ok=True)
    try:
        subprocess.run([sys.executable, finetune_drain.__file__, "0"], check=True, timeout=120)
        assert finetune_drain.MARK.exists()
    finally:
        finetune_drain.MARK.unlink(missing_ok=True)
