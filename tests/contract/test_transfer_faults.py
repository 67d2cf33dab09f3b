"""What goes over a network while it fails: faults that pass are outlived, and others end soon, in a sentence.

Each kind of place is asked through one proxy (`network`), by the library that stages ask it by.
"""

import ssl
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import pytest
import stores
from finetune_trainer.contract.config import ModelConfig, Source
from finetune_trainer.contract.outcome import Outcome
from finetune_trainer.data import fetch as data
from hub_writes import WritableHub
from network import Network, Trouble, between
from s3 import Bucket, refused
from stores import Store
from test_fetch_https import certificate
from test_publish import fetch, publish, trained, unfetched

# Longer than what is sent or brought at once, so that a reset comes in its midst.
SIZE = 2**20
# However often it is tried: of each try huggingface_hub makes up to six, whatever it is told.
TRIES = 3
MOST = TRIES * 6
PASSING = (Trouble.TOO_MANY, Trouble.BROKEN, Trouble.RESET)
WORDS = {Trouble.TOO_MANY: "429", Trouble.BROKEN: "500", Trouble.RESET: "", Trouble.SILENT: ""}


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a user may have it. What has no such setting is huggingface_hub's own pause: its clock is another one."""
    monkeypatch.setenv("TRANSFER_TRIES", str(TRIES))
    monkeypatch.setenv("TRANSFER_WAIT_SECONDS", "0.01")
    for module in ("utils._http", "file_download"):
        monkeypatch.setattr(f"huggingface_hub.{module}.time", SimpleNamespace(sleep=lambda seconds: None))


@dataclass(frozen=True)
class Way:
    """To a place that is published to. `writes`, `reads`: words of the requests that send and bring the weights."""

    store: Store
    network: Network
    writes: tuple[str, ...]
    reads: tuple[str, ...]


@pytest.fixture(params=("s3", "hf", "oci"))
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Way]:
    """With the weights on it."""
    # Its names are directories and repositories: no test has another's.
    name = request.node.name.replace("[", "-").replace("]", "").lower()[-50:].strip("-_")
    with ExitStack() as stack:
        match request.param:
            case "s3":
                found: Bucket = request.getfixturevalue("bucket")
                network = stack.enter_context(between(found.endpoint.removeprefix("http://")))
                for owner in ("MODEL", "DATASET", "OUTPUT"):
                    found.grant(owner, AWS_ENDPOINT_URL=f"http://{network.address}")
                yield Way(stores.s3(found, name), network, ("PUT ", ".safetensors"), ("GET ", "/model.safetensors"))
            case "hf":
                hub: WritableHub = request.getfixturevalue("hub_server")
                network = stack.enter_context(between(hub.endpoint.removeprefix("http://")))
                # Where it sends the client with large files, too.
                monkeypatch.setattr(hub, "endpoint", f"http://{network.address}")
                store = stores.hf(hub, monkeypatch, name)
                yield Way(store, network, ("PUT ", "/large/"), ("GET ", "/model.safetensors"))
            case _:
                network = stack.enter_context(between(request.getfixturevalue("oci_server")))
                store = stores.oci(network.address, monkeypatch, name)
                yield Way(store, network, ("PUT ", "/blobs/uploads/"), ("GET ", "/blobs/"))


def files(test: str) -> dict[str, bytes]:
    """The weights are a test's own: what the hub has, it isn't sent."""
    weights = test.encode().ljust(SIZE, b".")
    return {"adapter_model.safetensors": weights, "model.safetensors": weights, "config.json": b"{}"}


def silent(monkeypatch: pytest.MonkeyPatch, trouble: Trouble) -> None:
    """Wait shortly for a server that never answers, and as long as need be for one that does."""
    if trouble is Trouble.SILENT:
        monkeypatch.setenv("TRANSFER_TRIES", "2")
        monkeypatch.setenv("TRANSFER_TIMEOUT_SECONDS", "0.2")
        # As HF_HUB_DOWNLOAD_TIMEOUT has it.
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DOWNLOAD_TIMEOUT", 0.2)


def told(uri: str, trouble: Trouble, message: str) -> None:
    """The sentence: to what it happened, what, and what to do."""
    assert message.startswith(f"{uri} could not be reached: ")
    assert WORDS[trouble] in message
    assert message.endswith(("try again.", "Try again later, or have its limit raised."))


@pytest.mark.parametrize("trouble", PASSING)
def test_what_passes_keeps_nothing_from_being_published(
    way: Way, trouble: Trouble, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    workspace = trained(tmp_path / "workspace", files(request.node.name))
    way.network.spoil(trouble, way.writes, 1)
    found = publish(workspace, way.store.place)
    assert len(way.network.spoilt) == 1
    fetch(found.uri, tmp_path / "fetched")


@pytest.mark.parametrize("trouble", Trouble)
def test_what_lasts_is_told_and_the_next_try_goes_on(
    way: Way, trouble: Trouble, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    workspace = trained(tmp_path / "workspace", files(request.node.name))
    way.network.spoil(trouble, way.writes)
    with pytest.MonkeyPatch.context() as environment:
        silent(environment, trouble)
        error = refused(lambda: publish(workspace, way.store.place))
    assert error.outcome == Outcome.UNAVAILABLE
    told(way.store.place, trouble, error.message)
    assert 1 <= len(way.network.spoilt) <= MOST
    way.network.left = 0
    unfetched(way.store.uri(way.store.place, "0a1b2c3d"), tmp_path / "half")
    publish(workspace, way.store.place)


@pytest.mark.parametrize("trouble", PASSING)
def test_what_passes_keeps_nothing_from_being_brought(
    way: Way, trouble: Trouble, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    content = files(request.node.name)
    uri = publish(trained(tmp_path / "workspace", content), way.store.place).uri
    way.network.spoil(trouble, way.reads, 1)
    fetch(uri, tmp_path / "fetched")
    way.network.spoil(trouble, way.reads, 1)
    data.model(model(uri), tmp_path / "model")
    assert len(way.network.spoilt) == 2
    assert (tmp_path / "model/model.safetensors").read_bytes() == content["model.safetensors"]


@pytest.mark.parametrize("trouble", Trouble)
def test_what_cannot_be_brought_is_told_and_the_next_try_goes_on(
    way: Way, trouble: Trouble, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    uri = publish(trained(tmp_path / "workspace", files(request.node.name)), way.store.place).uri
    way.network.spoil(trouble, way.reads)
    with pytest.MonkeyPatch.context() as environment:
        silent(environment, trouble)
        error = refused(lambda: data.model(model(uri), tmp_path / "model"))
    assert error.outcome == Outcome.UNAVAILABLE
    told(model(uri).source.uri, trouble, error.message)
    assert 1 <= len(way.network.spoilt) <= MOST
    way.network.left = 0
    data.model(model(uri), tmp_path / "model")


def model(uri: str) -> ModelConfig:
    """What was published, as a base model."""
    if not uri.startswith("hf://"):
        return ModelConfig(source=Source(uri=uri))
    address, _, tag = uri.partition("@")
    return ModelConfig(source=Source(uri=address), revision=tag)


ROWS = b'{"text": "Flour and water."}\n' * 2**14


@pytest.fixture
def web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Network]:
    """The way to a web server with rows, encrypted."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site/rows.jsonl").write_bytes(ROWS)
    shown, hidden = certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(shown))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(shown, hidden)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Site, directory=str(tmp_path / "site")))
    thread = Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    with between(f"127.0.0.1:{server.server_port}", context) as network:
        yield network
    server.shutdown()
    server.server_close()
    thread.join()


class Site(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Silent."""


@pytest.mark.parametrize("trouble", PASSING)
def test_what_passes_keeps_no_rows_from_being_brought(web: Network, trouble: Trouble, tmp_path: Path) -> None:
    web.spoil(trouble, ("GET ",), 1)
    assert data.file(Source(uri=f"https://{web.address}/rows.jsonl"), tmp_path).read_bytes() == ROWS
    assert len(web.spoilt) == 1


@pytest.mark.parametrize("trouble", Trouble)
def test_rows_that_cannot_be_brought_are_told(
    web: Network, trouble: Trouble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent(monkeypatch, trouble)
    web.spoil(trouble, ("GET ",))
    uri = f"https://{web.address}/rows.jsonl"
    error = refused(lambda: data.file(Source(uri=uri), tmp_path / "rows"))
    assert error.outcome == Outcome.UNAVAILABLE
    told(uri, trouble, error.message)
    assert 1 <= len(web.spoilt) <= MOST
    assert list((tmp_path / "rows").rglob("rows.jsonl")) == []
