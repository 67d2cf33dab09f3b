"""publish to an OCI registry: what holds for it beside what holds for every place."""

import base64
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from finetune_trainer.contract.config import ModelConfig, Source
from finetune_trainer.contract.outcome import Outcome
from finetune_trainer.data import bucket, fetch, registry
from finetune_trainer.data.places import oci
from s3 import refused
from stores import PASSWORD, USER, RegistryStore
from test_publish import BESIDE, FILES, publish, trained

for_oci = pytest.mark.parametrize("store", ["oci"], indirect=True)


@for_oci
def test_what_is_published_is_a_model_artifact(store: RegistryStore, tmp_path: Path) -> None:
    uri = publish(trained(tmp_path / "workspace"), store.place).uri
    manifest = oci.found(uri, "output", bucket.credentials("output")).manifest
    assert manifest["artifactType"] == "application/vnd.cncf.model.manifest.v1+json"
    types = {layer["annotations"]["org.cncf.model.filepath"]: layer["mediaType"] for layer in manifest["layers"]}
    assert set(types) == {*FILES, *BESIDE, "manifest.json"}
    assert types["adapter_model.safetensors"] == "application/vnd.cncf.model.weight.v1.raw"


@for_oci
def test_a_tag_of_somebodys_own_is_left_alone(store: RegistryStore, tmp_path: Path) -> None:
    uri = publish(trained(tmp_path / "workspace"), store.place).uri
    tag = oci.found(uri, "output", bucket.credentials("output"))
    theirs = {name: value for name, value in tag.manifest.items() if name != "annotations"}
    tag.repository.tag("0a1b2c3d", json.dumps(theirs).encode())
    error = refused(lambda: publish(trained(tmp_path / "another", {"a.txt": b"a"}), store.place))
    assert (error.outcome, error.message) == (
        Outcome.CONFIG_INVALID,
        f"{uri} is something that no FineTuneJob published: choose another output.destination.",
    )
    assert oci.found(uri, "output", bucket.credentials("output")).manifest == theirs


@for_oci
@pytest.mark.parametrize("name", ["../../outside.txt", "/outside.txt"])
def test_a_layer_can_be_no_file_outside_of_the_model(store: RegistryStore, tmp_path: Path, name: str) -> None:
    uri = publish(trained(tmp_path / "workspace", {"config.json": b"{}", "a.txt": b"outside"}), store.place).uri
    tag = oci.found(uri, "output", bucket.credentials("output"))
    (layer,) = (each for each in tag.manifest["layers"] if each["annotations"]["org.cncf.model.filepath"] == "a.txt")
    layer["annotations"]["org.cncf.model.filepath"] = name
    tag.repository.tag("evil", json.dumps(tag.manifest).encode())
    target = tmp_path / "below/model"
    model = ModelConfig(source=Source(uri=f"{store.place}:evil"))
    if name.startswith("/"):
        assert "outside of the artifact" in refused(lambda: fetch.model(model, target)).message
    else:
        fetch.model(model, target)
    assert list(tmp_path.rglob("outside.txt")) == []


@for_oci
def test_a_tag_that_is_not_there_is_told(store: RegistryStore, tmp_path: Path) -> None:
    uri = f"{store.place}:none"
    error = refused(lambda: fetch.model(ModelConfig(source=Source(uri=uri)), tmp_path / "model"))
    assert (error.outcome, error.message) == (Outcome.NOT_FOUND, f"{uri} does not exist.")


class Tokens(BaseHTTPRequestHandler):
    """A registry as most are, which asks for a token that another address gives for the password."""

    def do_GET(self) -> None:
        basic = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        given, realm = self.headers["Authorization"], f"http://{self.headers['Host']}/token"
        if self.path.startswith("/token"):
            status, body = (200, b'{"token": "abc"}') if given == basic else (401, b"{}")
        else:
            status, body = (200, b'{"layers": []}') if given == "Bearer abc" else (401, b"{}")
        self.send_response(status)
        if status == 401 and not self.path.startswith("/token"):
            self.send_header("WWW-Authenticate", f'Bearer realm="{realm}",service="registry",scope="repository:a:pull"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Silent."""


@pytest.fixture
def tokens() -> Iterator[str]:
    """Its host and port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Tokens)
    thread = Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_token_is_asked_for_with_the_password(tokens: str) -> None:
    given = {"REGISTRY_USERNAME": USER, "REGISTRY_PASSWORD": PASSWORD}
    assert registry.Repository(f"{tokens}/a", given).manifest("tag") == {"layers": []}


def test_a_password_that_no_token_is_given_for_is_told(
    tokens: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FINETUNE_MODEL_REGISTRY_USERNAME", USER)
    monkeypatch.setenv("FINETUNE_MODEL_REGISTRY_PASSWORD", "wrong")
    error = refused(lambda: fetch.model(ModelConfig(source=Source(uri=f"oci://{tokens}/a:b")), tmp_path / "model"))
    assert error.outcome == Outcome.ACCESS_DENIED
    assert error.message.startswith(f"oci://{tokens}/a:b was refused: the REGISTRY_PASSWORD given for the model")
