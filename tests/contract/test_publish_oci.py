"""publish to an OCI registry: what holds for it beside what holds for every place."""

import base64
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from finetune_trainer.contract.config import ModelConfig, Source
from finetune_trainer.contract.outcome import Outcome
from finetune_trainer.contract.schemes import CREDENTIAL_KEYS
from finetune_trainer.data import bucket, fetch, registry
from finetune_trainer.data.places import oci
from http_server import Handler, answering
from s3 import refused
from signing_keys import keys
from stores import PASSWORD, USER, RegistryStore
from test_publish import BESIDE, FILES, OURS, publish, trained

ORAS_TITLE = "org.opencontainers.image.title"
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
def test_no_credential_is_in_a_manifest_a_config_or_a_layer(
    store: RegistryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair, canary = keys(tmp_path / "keys"), "canary-in-a-key"
    monkeypatch.setenv("FINETUNE_OUTPUT_SIGNING_KEY", pair.private)
    for name in CREDENTIAL_KEYS:
        if not name.startswith("REGISTRY_"):
            monkeypatch.setenv(f"FINETUNE_OUTPUT_{name}", canary)
    uri = publish(trained(tmp_path / "workspace"), store.place, signed=True).uri
    tag = oci.found(uri, "output", bucket.credentials("output"))
    blobs = [tag.manifest["config"]["digest"], *(layer["digest"] for layer in tag.manifest["layers"])]
    there = json.dumps(tag.manifest).encode() + b"".join(map(tag.repository.read, blobs))
    # The search finds what is there: the claim's owner, and the public key by its digest.
    assert OURS.encode() in there
    assert b"signedBy" in there
    secret = "".join(pair.private.splitlines()[1:-1])
    for word in (PASSWORD, USER, canary, pair.private.splitlines()[1], secret):
        assert word.encode() not in there
        assert base64.b64encode(word.encode()) not in there


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


def pushed(store: RegistryStore, files: dict[str, bytes], tag: str = "rows") -> str:
    """The address of files that were put there as `oras push` does it."""
    digests = {name: f"sha256:{hashlib.sha256(content).hexdigest()}" for name, content in files.items()}
    there = oci.found(f"{store.place}:{tag}", "output", bucket.credentials("output"))
    for name, content in [*files.items(), ("", b"{}")]:
        there.repository.put(digests.setdefault(name, f"sha256:{hashlib.sha256(content).hexdigest()}"), content)
    kind = "application/vnd.oci.image.layer.v1.tar"
    layers = [
        {"mediaType": kind, "digest": digests[name], "size": len(content)} | {"annotations": {ORAS_TITLE: name}}
        for name, content in files.items()
    ]
    archive = layers[0] | {"annotations": {ORAS_TITLE: "below", "io.deis.oras.content.unpack": "true"}}
    empty = {"mediaType": "application/vnd.oci.empty.v1+json", "digest": digests[""], "size": 2}
    document = {"schemaVersion": 2, "mediaType": registry.MANIFEST_TYPE, "config": empty, "layers": [*layers, archive]}
    there.repository.tag(tag, json.dumps(document).encode())
    return there.uri


@for_oci
def test_rows_are_read_from_a_registry(store: RegistryStore, tmp_path: Path) -> None:
    uri = pushed(
        store, {"train.jsonl": b"train", "data/a-1.jsonl": b"1", "data/a-0.jsonl": b"0", "data/b/a-2.jsonl": b"2"}
    )
    assert fetch.file(Source(uri=f"{uri}/train.jsonl"), tmp_path).read_bytes() == b"train"
    found = fetch.each(Source(uri=f"{uri}/data/a-*.jsonl"))
    assert [source.uri for source in found] == [f"{uri}/data/a-{number}.jsonl" for number in (0, 1)]
    assert [fetch.file(source, tmp_path).read_bytes() for source in found] == [b"0", b"1"]
    # What is there is not brought again.
    kept = fetch.file(found[0], tmp_path)
    inode = kept.stat().st_ino
    assert fetch.file(found[0], tmp_path).stat().st_ino == inode


@for_oci
@pytest.mark.parametrize("file", ["none.jsonl", "below", ""])
def test_rows_that_a_registry_does_not_have_are_told(store: RegistryStore, tmp_path: Path, file: str) -> None:
    uri = f"{pushed(store, {'train.jsonl': b'train'})}/{file}"
    error = refused(lambda: fetch.file(Source(uri=uri), tmp_path))
    assert (error.outcome, error.message) == (Outcome.NOT_FOUND, f"{uri} does not exist.")


@for_oci
def test_rows_that_differ_from_their_digest_are_refused(
    store: RegistryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = pushed(store, {"train.jsonl": b"train"})
    get = registry.Repository.get

    def cut(repository: registry.Repository, digest: str, local: Path) -> None:
        get(repository, digest, local)
        local.write_bytes(local.read_bytes()[:-1])

    monkeypatch.setattr(registry.Repository, "get", cut)
    error = refused(lambda: fetch.file(Source(uri=f"{uri}/train.jsonl"), tmp_path))
    told = f"{uri} holds train.jsonl otherwise than its manifest says."
    assert (error.outcome, error.message) == (Outcome.DATA_INVALID, told)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_registry_is_asked_without_tls_where_its_secret_says_so() -> None:
    def url(**secrets: str) -> str:
        return registry.Repository("registry.example.com/a", secrets)._base

    assert url() == "https://registry.example.com/v2/a"
    assert url(REGISTRY_PLAIN_HTTP="false") == "https://registry.example.com/v2/a"
    assert url(REGISTRY_PLAIN_HTTP="true") == "http://registry.example.com/v2/a"
    error = refused(lambda: url(REGISTRY_PLAIN_HTTP="yes"))
    told = "REGISTRY_PLAIN_HTTP has to be true or false: correct it in the Secret."
    assert (error.outcome, error.message) == (Outcome.CONFIG_INVALID, told)


class Tokens(Handler):
    """A registry as most are, which asks for a token that another address gives for the password."""

    def do_GET(self) -> None:
        basic = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        given, realm = self.headers["Authorization"], f"http://{self.headers['Host']}/token"
        if self.path.startswith("/token"):
            status, body = (200, b'{"token": "abc"}') if given == basic else (401, b"{}")
        else:
            status, body = (200, b'{"layers": []}') if given == "Bearer abc" else (401, b"{}")
        asks = {"WWW-Authenticate": f'Bearer realm="{realm}",service="registry",scope="repository:a:pull"'}
        self.answer(status, body, asks if status == 401 and not self.path.startswith("/token") else {})


@pytest.fixture
def tokens() -> Iterator[str]:
    """Its host and port."""
    with answering(Tokens) as place:
        yield place


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
