"""The API server in this process, on a port of its own, as the tests of OpenAI's API talk to it.

Real: the server, the Kubernetes API server, the bucket, OpenAI's client. Played: what the operator would write into a
status, and the engine, which answers with what it was asked.
"""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import chart
import openai
import pytest
from control_plane import ControlPlane, Kubectl
from finetune_server.on_cluster import application
from finetune_server.settings import ClusterSettings
from kubernetes.aio.config import kube_config
from listening import listening
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

USER = "api"
VALUES = {"api": {"enabled": True, "files": {"bucket": "s3://data/openai"}}}
BASE = "gpt-4o-mini-2024-07-18"
PLAIN = "qwen"
MODELS: dict[str, Any] = {
    BASE: {
        "model": {"source": "hf://acme/small-instruct"},
        "training": {"learningRate": 2e-4, "tracking": {"type": "mlflow", "url": "https://mlflow.example.com"}},
        "evaluation": {"gate": {"margin": 0.02}},
    },
    PLAIN: {"model": {"source": "hf://acme/qwen"}},
}


class Keyring:
    """The mounted Secret."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir()

    def give(self, key: str, namespace: str, *rights: str) -> None:
        entry = {"sha256": sha256(key.encode()).hexdigest(), "namespace": namespace}
        self.write(
            f"entry-{len(list(self.directory.iterdir()))}", json.dumps(entry | ({"rights": rights} if rights else {}))
        )

    def write(self, name: str, text: str) -> None:
        """As the kubelet does it: whole, and seen in the directory."""
        draft = self.directory.parent / f"{name}.draft"
        draft.write_text(text)
        draft.replace(self.directory / name)

    def take(self) -> None:
        for each in self.directory.iterdir():
            each.unlink()


def rights() -> list[chart.Manifest]:
    """What the chart allows this component, and no other."""
    name = f"{chart.RELEASE}-api"
    return [found for found in chart.rights(USER, **VALUES) if found["metadata"]["name"] == name]


def settings(bucket: str, keys: Path, **others: Any) -> ClusterSettings:
    return ClusterSettings(bucket=bucket, rows_secret="bucket", keys=keys, models=MODELS, **others)


@contextmanager
def serving(plane: ControlPlane, found: ClusterSettings) -> Iterator[str]:
    """The API server; the base URL for OpenAI's client."""
    before = kube_config.KUBE_CONFIG_DEFAULT_LOCATION
    kube_config.KUBE_CONFIG_DEFAULT_LOCATION = str(plane.kubeconfig(USER))
    try:
        with listening(application(found)) as address:
            yield f"{address}/v1"
    finally:
        kube_config.KUBE_CONFIG_DEFAULT_LOCATION = before


class Engine:
    """Answers as vLLM would, as far as it goes through the server: what it was asked, and at its own pace."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        # After the first word of a stream it waits until it is told to go on.
        self.go_on: Callable[[], object] = lambda: None
        self.left = threading.Event()
        self.locked = False
        routes = [Route(f"/v1/{path}", self.answer, methods=["POST"]) for path in ("chat/completions", "completions")]
        self.app = Starlette(routes=routes)

    async def answer(self, request: Request) -> Response:
        body = await request.json()
        self.asked.append(body)
        self.headers.append(dict(request.headers))
        if self.locked:
            return JSONResponse({"error": "Unauthorized"}, 401)
        if body.get("max_tokens") == 0:
            error = {"message": "max_tokens must be at least 1", "type": "BadRequestError", "param": None, "code": 400}
            return JSONResponse({"error": error}, 400)
        if body.get("stream"):
            return StreamingResponse(self._pieces(body), media_type="text/event-stream")
        message = {"role": "assistant", "content": "flour, eggs"}
        choice = {"index": 0, "finish_reason": "stop", "message": message, "text": "flour, eggs"}
        headers = {"Connection": "close", "X-Request-Id": "abc"}
        kind = "chat.completion" if "messages" in body else "text_completion"
        return JSONResponse(_answer(body, choice, kind), headers=headers)

    async def _pieces(self, body: dict[str, Any]) -> AsyncIterator[str]:
        held, loop = asyncio.Event(), asyncio.get_running_loop()
        self.go_on = lambda: loop.call_soon_threadsafe(held.set)
        try:
            for number, word in enumerate(("flour", ", eggs")):
                choice = {"index": 0, "finish_reason": None, "delta": {"role": "assistant", "content": word}}
                yield f"data: {json.dumps(_answer(body, choice, 'chat.completion.chunk'))}\n\n"
                if number == 0:
                    await held.wait()
            yield "data: [DONE]\n\n"
        finally:
            self.left.set()


def _answer(body: dict[str, Any], choice: dict[str, Any], kind: str) -> dict[str, Any]:
    usage = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
    return {"id": "chat-1", "object": kind, "created": 1, "model": body["model"], "choices": [choice], "usage": usage}


KEY = "sk-the-key"

CHAT = {"messages": [{"role": "user", "content": "Pancakes?"}, {"role": "assistant", "content": "flour, eggs"}]}

PAIR = {
    "input": {"messages": [{"role": "user", "content": "Pancakes?"}]},
    "preferred_output": [{"role": "assistant", "content": "flour, eggs"}],
    "non_preferred_output": [{"role": "assistant", "content": "Yummy!"}],
}


def rows(*them: Any) -> bytes:
    return b"".join(json.dumps(each).encode() + b"\n" for each in them)


class Told:
    """The operator's part: what it would write into a FineTuneJob's status."""

    def __init__(self, kubectl: Kubectl) -> None:
        self._kubectl = kubectl

    def job(self, id: str) -> dict[str, Any]:
        return dict(json.loads(self._kubectl("get", "ftj", id.removeprefix("ftjob-"), "-o", "json")))

    def status(self, id: str, phase: str, conditions: dict[str, tuple[str, str, str]], **others: Any) -> None:
        told = [
            {
                "type": kind,
                **dict(zip(("status", "reason", "message"), found, strict=True)),
                "observedGeneration": 1,
                "lastTransitionTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            }
            for kind, found in conditions.items()
        ]
        status = {"observedGeneration": 1, "phase": phase, "conditions": told, "progress": None, **others}
        name = id.removeprefix("ftjob-")
        self._kubectl(
            "patch", "ftj", name, "--subresource=status", "--type=merge", "-p", json.dumps({"status": status})
        )

    def serves(self, id: str, engine: str, **others: Any) -> None:
        done = ("True", "Succeeded", "It is done.")
        names = ("Accepted", "DataReady", "Trained", "Hosted", "Evaluated", "Promoted", "Ready")
        endpoint = {"url": f"{engine}/v1", "model": id.removeprefix("ftjob-")}
        usage = {"trainedTokens": 1234, "seconds": 60, "acceleratorSeconds": 60}
        checkpoint = {
            "name": "7f3c9a1e",
            "step": 40,
            "validationLoss": "0.47",
            "uri": "pvc://v/a",
            "digest": "sha256:a",
            "bytes": 1,
        }
        self.status(
            id,
            "Serving",
            dict.fromkeys(names, done),
            revision="7f3c9a1e",
            servedRevision="7f3c9a1e",
            endpoint=endpoint,
            usage=usage,
            checkpoints=[checkpoint],
            **others,
        )


def refused(error: type[openai.APIStatusError], what: Callable[[], object]) -> str:
    """The sentence, in OpenAI's shape."""
    with pytest.raises(error) as found:
        what()
    body = found.value.response.json()
    assert body["error"].keys() == {"message", "type", "param", "code"}
    assert "the-secret-key" not in body["error"]["message"]
    return str(body["error"]["message"])
