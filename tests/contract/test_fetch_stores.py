"""fetch from each kind of bucket that artifacts are published to."""

from pathlib import Path

import pytest
from finetune_trainer.contract.config import ModelConfig, Source
from finetune_trainer.contract.outcome import Outcome
from finetune_trainer.data import fetch
from s3 import refused
from stores import Store

BUCKETS = pytest.mark.parametrize("store", ["s3", "gs", "abfs"], indirect=True)


@BUCKETS
def test_a_model_arrives_and_what_was_mended_is_brought_again(store: Store, tmp_path: Path) -> None:
    model = ModelConfig(source=Source(uri=store.place))
    for name, content in {
        "config.json": b"bad",
        "model.safetensors": b"w",
        "model.bin": b"no",
        "a/b.json": b"no",
    }.items():
        store.put(f"{store.place}/{name}", content)
    fetch.model(model, tmp_path / "model")
    kept = (tmp_path / "model/model.safetensors").stat().st_ino
    store.put(f"{store.place}/config.json", b"good")
    fetch.model(model, tmp_path / "model")
    there = {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()}
    assert there == {"config.json": b"good", "model.safetensors": b"w"}
    assert (tmp_path / "model/model.safetensors").stat().st_ino == kept


@BUCKETS
def test_a_star_stands_for_every_file_of_such_a_name(store: Store, tmp_path: Path) -> None:
    for name in ("train-1.jsonl", "train-0.jsonl", "test.jsonl", "below/train-2.jsonl"):
        store.put(f"{store.place}/{name}", name.encode())
    found = fetch.each(Source(uri=f"{store.place}/train-*.jsonl"))
    assert [source.uri for source in found] == [f"{store.place}/train-{number}.jsonl" for number in (0, 1)]
    assert [fetch.file(source, tmp_path).read_bytes() for source in found] == [b"train-0.jsonl", b"train-1.jsonl"]


@BUCKETS
def test_what_is_not_there_is_told(store: Store, tmp_path: Path) -> None:
    for what in (
        lambda uri: fetch.model(ModelConfig(source=Source(uri=uri)), tmp_path / "model"),
        lambda uri: fetch.file(Source(uri=uri), tmp_path),
    ):
        error = refused(lambda what=what: what(f"{store.place}/none"))
        assert (error.outcome, error.message) == (Outcome.NOT_FOUND, f"{store.place}/none does not exist.")


@pytest.mark.parametrize(
    ("uri", "key", "value", "told"),
    [
        ("gs://models/a", "GOOGLE_APPLICATION_CREDENTIALS_JSON", "canary", "is no key of a service account"),
        (
            "gs://models/a",
            "GOOGLE_APPLICATION_CREDENTIALS_JSON",
            '{"type": "canary"}',
            "is no key of a service account",
        ),
        ("abfs://models/a", "AZURE_STORAGE_CONNECTION_STRING", "canary", "are none of a storage account"),
        ("abfs://models/a", "AZURE_STORAGE_ACCOUNT_KEY", "canary", "are none of a storage account"),
    ],
)
def test_credentials_that_are_none_are_told_and_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str, key: str, value: str, told: str
) -> None:
    monkeypatch.setenv(f"FINETUNE_MODEL_{key}", value)
    error = refused(lambda: fetch.model(ModelConfig(source=Source(uri=uri)), tmp_path / "model"))
    assert error.outcome == Outcome.CONFIG_INVALID
    assert told in error.message
    assert "canary" not in f"{error.message}{error.__context__!r}"
