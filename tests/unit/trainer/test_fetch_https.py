"""Rows from a web server: brought as they are, held to their checksum, and never over what proves nothing."""

import hashlib
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from finetune_trainer.contract.config import Source
from finetune_trainer.contract.outcome import Outcome, StageError
from finetune_trainer.data import fetch
from http_server import Handler, answering

ROWS = b'{"text": "Flour and water."}\n' * 1000
SHA256 = f"sha256:{hashlib.sha256(ROWS).hexdigest()}"


class Files(Handler):
    """Files by their path, and what goes wrong by its name."""

    def do_GET(self) -> None:
        sent = {"/rows.jsonl": ROWS, "/cut.jsonl": ROWS[:-10]}
        moved = {"/moved.jsonl": "/rows.jsonl", "/plain.jsonl": "http://127.0.0.1:1/rows.jsonl"}
        refused = {"/private.jsonl": 403, "/broken.jsonl": 503}
        if self.path in moved:
            self.answer(302, headers={"Location": moved[self.path]})
        elif self.path in sent:
            self.answer(200, sent[self.path], {"Content-Length": str(len(ROWS)), "Connection": "close"})
        else:
            self.answer(refused.get(self.path, 404))


def certificate(directory: Path) -> tuple[Path, Path]:
    """One for 127.0.0.1, signed by itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    shown, hidden = directory / "certificate.pem", directory / "key.pem"
    shown.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    pem = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    hidden.write_bytes(key.private_bytes(*pem))
    return shown, hidden


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def server(certified: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """HOST:PORT of a server whose certificate is trusted."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certified[0]))
    monkeypatch.setenv("TRANSFER_WAIT_SECONDS", "0")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certified)
    with answering(Files, tls=context) as place:
        yield place


def brought(server: str, name: str, directory: Path, checksum: str | None = None) -> Path:
    return fetch.file(Source(uri=f"https://{server}/{name}", checksum=checksum), directory)


@pytest.mark.parametrize("name", ["rows.jsonl", "moved.jsonl"])
def test_a_file_arrives_as_it_is(server: str, tmp_path: Path, name: str) -> None:
    found = brought(server, name, tmp_path, SHA256)
    assert found.name == name
    assert found.read_bytes() == ROWS


@pytest.mark.parametrize(
    ("name", "outcome", "sentence"),
    [
        ("none.jsonl", Outcome.NOT_FOUND, "{uri} does not exist."),
        (
            "private.jsonl",
            Outcome.ACCESS_DENIED,
            "{uri} was refused: it can be had only by those who log in, which https:// can't; put it into a bucket, "
            "for example.",
        ),
        (
            "plain.jsonl",
            Outcome.ACCESS_DENIED,
            "{uri} leads to http://127.0.0.1, which is not encrypted: name where the file lies.",
        ),
        ("broken.jsonl", Outcome.UNAVAILABLE, "{uri} could not be reached: Server error '503 Service Unavailable'"),
        ("cut.jsonl", Outcome.UNAVAILABLE, "{uri} could not be reached: peer closed connection"),
    ],
)
def test_what_goes_wrong_is_told_and_leaves_no_file(
    server: str, tmp_path: Path, name: str, outcome: Outcome, sentence: str
) -> None:
    with pytest.raises(StageError) as found:
        brought(server, name, tmp_path)
    assert found.value.outcome == outcome
    assert found.value.message.startswith(sentence.format(uri=f"https://{server}/{name}"))
    assert list(tmp_path.rglob(name)) == []


def test_a_server_that_nobody_vouches_for_is_not_read(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(StageError) as found:
        brought(server, "rows.jsonl", tmp_path)
    assert found.value.outcome == Outcome.UNAVAILABLE
    assert "certificate" in found.value.message.lower()


@pytest.mark.parametrize("mounted", [True, False])
def test_another_content_than_was_meant_is_refused(server: str, tmp_path: Path, mounted: bool) -> None:
    path, other = tmp_path / "rows.jsonl", "sha256:" + "0" * 64
    path.write_bytes(ROWS)
    source = Source(uri=f"https://{server}/rows.jsonl", path=path if mounted else None, checksum=other)
    with pytest.raises(StageError) as found:
        fetch.file(source, tmp_path / "downloads")
    assert found.value.outcome == Outcome.DATA_INVALID
    assert found.value.message == (
        f"https://{server}/rows.jsonl is not the file that is meant: its checksum is {SHA256}, and the manifest's "
        f"{other}. If it was changed on purpose, change the manifest's."
    )
