"""publish with output.sign, and whoever fetches with the public key: signed as it was made, or told that it is not."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from finetune_trainer.contract.adapters import PublishedAdapter
from finetune_trainer.contract.outcome import StageError
from finetune_trainer.data import digests
from finetune_trainer.stages.adapters import fetch as load
from model_signing import verifying
from signing_keys import Keys, keys
from stores import Killed, Store
from test_publish import FILES, fetch, publish, trained, unfetched

PLACES = pytest.mark.parametrize("store", ["s3", "hf"], indirect=True)


@pytest.fixture
def signed(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Keys:
    """A key that the stage publish is given."""
    found = keys(tmp_path / "keys")
    monkeypatch.setenv("FINETUNE_OUTPUT_SIGNING_KEY", found.private)
    return found


@PLACES
def test_it_can_be_verified_with_the_public_key_alone(store: Store, signed: Keys, tmp_path: Path) -> None:
    uri = publish(trained(tmp_path / "workspace"), store.place, signed=True).uri
    said = fetch(uri, tmp_path / "fetched", signed.public)
    assert f"and signed with the key of {signed.public}" in said
    assert f"as published: {digests.digest(tmp_path / 'fetched')}" in said
    # As anybody would who has the library and knows nothing of this program.
    verifier = verifying.Config().use_elliptic_key_verifier(public_key=signed.public)
    verifier.verify(tmp_path / "fetched", tmp_path / "fetched/model.sig")


@PLACES
def test_the_private_key_is_in_nothing_that_is_written_or_logged(
    store: Store, signed: Keys, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    found = publish(trained(tmp_path / "workspace"), store.place, signed=True)
    written = {name: store.get(f"{found.uri}/{name}") for name in store.names(found.uri)}
    written |= {each.name: each.read_bytes() for each in (tmp_path / "workspace").rglob("*") if each.is_file()}
    written |= {"log": caplog.text.encode(), "result": found.model_dump_json().encode()}
    assert "model.sig" in written
    lines = [line.encode() for line in signed.private.splitlines() if not line.startswith("---")]
    assert [name for name, content in written.items() if any(line in content for line in lines)] == []


@pytest.mark.parametrize("store", ["s3"], indirect=True)
def test_killed_between_any_two_writes_it_begins_again_and_is_signed(
    store: Store, signed: Keys, tmp_path: Path
) -> None:
    workspace = trained(tmp_path / "workspace")
    for at in range(1, store.writes + 1):
        there = f"{store.place}-{at}"
        with store.environment.context() as killed:
            replace(store, environment=killed).dies(at)
            with pytest.raises(Killed):
                publish(workspace, there, signed=True)
        fetch(publish(workspace, there, signed=True).uri, tmp_path / f"whole-{at}", signed.public)


@PLACES
def test_what_was_published_unsigned_is_signed_and_not_twice(store: Store, signed: Keys, tmp_path: Path) -> None:
    workspace = trained(tmp_path / "workspace")
    uri = publish(workspace, store.place).uri
    said = unfetched(uri, tmp_path / "fetched", signed.public)
    assert said == f"{uri} is not signed: it has no model.sig."
    publish(workspace, store.place, signed=True)
    with store.environment.context() as killed:
        # The claim alone is tried.
        replace(store, environment=killed).dies(store.idle)
        publish(workspace, store.place, signed=True)
    with store.environment.context() as killed:
        replace(store, environment=killed).dies(store.idle)
        publish(workspace, store.place)
    fetch(uri, tmp_path / "fetched", signed.public)


@PLACES
def test_whoever_changes_a_file_and_the_manifest_has_no_signature_for_it(
    store: Store, signed: Keys, tmp_path: Path
) -> None:
    uri = publish(trained(tmp_path / "workspace"), store.place, signed=True).uri
    forged = trained(tmp_path / "forged", FILES | {"adapter_config.json": b"[]"})
    manifest = json.loads(store.get(f"{uri}/manifest.json"))
    manifest["files"]["adapter_config.json"] = digests.of_file(forged.artifact / "adapter_config.json")
    manifest["artifact"]["digest"] = digests.digest(forged.artifact)
    store.put(f"{uri}/adapter_config.json", b"[]")
    store.put(f"{uri}/manifest.json", json.dumps(manifest).encode())
    said = unfetched(uri, tmp_path / "fetched", signed.public)
    assert said.startswith(f"{uri} is not what was signed with the key of {signed.public}: Signature mismatch")
    assert "adapter_config.json" in said
    # Without the key it could not be told.
    fetch(uri, tmp_path / "believed")


@PLACES
def test_another_key_is_told(store: Store, signed: Keys, tmp_path: Path) -> None:
    uri = publish(trained(tmp_path / "workspace"), store.place, signed=True).uri
    other = keys(tmp_path / "others").public
    said = unfetched(uri, tmp_path / "fetched", other)
    assert said.startswith(f"{uri} is not what was signed with the key of {other}: Key mismatch")


@pytest.mark.parametrize("store", ["s3"], indirect=True)
def test_an_engine_loads_what_was_signed_with_its_key_and_nothing_else(
    store: Store, signed: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("FINETUNE_OUTPUT_AWS_")]:
        monkeypatch.setenv(name.replace("_OUTPUT_", "_LORA_"), os.environ[name])
    found = publish(trained(tmp_path / "workspace"), store.place, signed=True)
    adapter = PublishedAdapter(name="recipes-0a1b2c3d", uri=found.uri, digest=found.artifact.digest)
    load(adapter, tmp_path / "loaded", signed.public)
    assert (tmp_path / "loaded/adapter_config.json").exists()
    other = keys(tmp_path / "others").public
    with pytest.raises(StageError, match=f"is not what was signed with the key of {other}: Key mismatch") as refused:
        load(adapter, tmp_path / "not-loaded", other)
    # It is told, and not tried for ever before the pod is ready.
    assert not refused.value.outcome.exit.retry
    assert not (tmp_path / "not-loaded").exists()
