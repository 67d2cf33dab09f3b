"""The API server with the rights of its component of the chart, and what is around it."""

from collections.abc import Iterator
from pathlib import Path

import chart
import httpx
import openai_server
import pytest
from control_plane import ControlPlane, Kubectl
from openai import OpenAI
from openai_server import CHAT, KEY, Engine, Keyring, Told, rows
from s3 import Bucket


@pytest.fixture
def keys(tmp_path: Path, namespace: str) -> Keyring:
    found = Keyring(tmp_path / "keys")
    found.give(KEY, namespace)
    return found


@pytest.fixture(scope="module")
def granted(control_plane: ControlPlane, admin: Kubectl) -> Iterator[None]:
    """The rights that the chart gives the component, and no others."""
    chart.give(control_plane, admin, openai_server.rights())
    yield
    for manifest in openai_server.rights():
        admin("delete", "-f-", document=manifest)


@pytest.fixture
def most() -> int:
    """Questions at a time."""
    return 8


@pytest.fixture
def waits() -> dict[str, int]:
    """How many questions wait for a model to wake, and how long."""
    return {"waiting": 2, "wait_seconds": 600}


@pytest.fixture
def url(
    granted: None, control_plane: ControlPlane, bucket: Bucket, keys: Keyring, most: int, waits: dict[str, int]
) -> Iterator[str]:
    """The server's."""
    bucket.grant(
        "BUCKET",
        AWS_ACCESS_KEY_ID="the-access-key",
        AWS_SECRET_ACCESS_KEY="the-secret-key",
        AWS_ENDPOINT_URL=bucket.endpoint,
    )
    settings = openai_server.settings("s3://data/openai", keys.directory, file_bytes=100_000, requests=most, **waits)
    with openai_server.serving(control_plane, settings) as found:
        yield found


@pytest.fixture
def client(url: str) -> Iterator[OpenAI]:
    # Strict: every answer is held to the type that OpenAI's specification has for it.
    with OpenAI(base_url=url, api_key=KEY, max_retries=0, _strict_response_validation=True) as found:
        yield found


@pytest.fixture
def lenient(client: OpenAI) -> OpenAI:
    """The same for what OpenAI's types don't have: status paused, and other integrations than wandb."""
    return client.with_options(_extra_kwargs={"_strict_response_validation": False})


@pytest.fixture
def train(client: OpenAI) -> str:
    return client.files.create(file=("train.jsonl", rows(CHAT, CHAT)), purpose="fine-tune").id


@pytest.fixture
def told(kubectl: Kubectl) -> Told:
    return Told(kubectl)


@pytest.fixture
def engine() -> Engine:
    return Engine()


@pytest.fixture
def engine_url(engine: Engine) -> Iterator[str]:
    with openai_server.listening(engine.app) as found:
        yield found


@pytest.fixture
def services(monkeypatch: pytest.MonkeyPatch, engine_url: str) -> None:
    """The cluster's names of Services: there is one engine behind them."""
    sent, engine = httpx.AsyncHTTPTransport.handle_async_request, httpx.URL(engine_url)

    async def found(self: httpx.AsyncHTTPTransport, request: httpx.Request) -> httpx.Response:
        if request.url.host.endswith(".svc"):
            request.url = request.url.copy_with(host=engine.host, port=engine.port)
        return await sent(self, request)

    monkeypatch.setattr(httpx.AsyncHTTPTransport, "handle_async_request", found)
