"""publish to a repository of the hub: what holds for it beside what holds for every place."""

from pathlib import Path
from typing import Any

import pytest
from finetune_trainer.contract.outcome import Outcome
from finetune_trainer.data.places import hub as places
from hub import Repository
from hub_writes import WritableHub
from s3 import refused
from stores import HubStore
from test_publish import ANOTHERS, BESIDE, FILES, fetch, publish, trained

pytestmark = pytest.mark.parametrize("store", ["hf"], indirect=True)


@pytest.fixture
def hub(store: HubStore) -> WritableHub:
    """The hub, as it is before and after each test."""
    store.environment.setattr(store.hub, "refuses", None)
    return store.hub


def test_a_repository_is_private_and_its_root_is_the_newest_revision(store: HubStore, tmp_path: Path) -> None:
    publish(trained(tmp_path / "first"), store.place)
    publish(trained(tmp_path / "second", {"adapter_model.safetensors": b"more"}), store.place, revision="99999999")
    name = store.place.removeprefix("hf://")
    assert store.hub.private[name]
    root = {"adapter_model.safetensors", *BESIDE, "claim.json", "manifest.json"}
    assert store.names(f"{store.place}@main") == root
    # The one before it is where it was.
    assert store.names(f"{store.place}@0a1b2c3d") >= set(FILES)
    fetch(f"{store.place}@0a1b2c3d", tmp_path / "fetched")


def test_a_repository_of_somebodys_own_is_left_alone(store: HubStore, hub: WritableHub, tmp_path: Path) -> None:
    theirs = {"config.json": b"theirs"}
    hub.repositories["acme/theirs"] = Repository({"0" * 40: theirs}, {"main": "0" * 40})
    error = refused(lambda: publish(trained(tmp_path / "workspace"), "hf://acme/theirs"))
    assert (error.outcome, error.message) == (
        Outcome.CONFIG_INVALID,
        "hf://acme/theirs has files that no FineTuneJob published: choose another output.destination.",
    )
    assert hub.repositories["acme/theirs"].commits == {"0" * 40: theirs}


def test_of_two_that_claim_a_repository_at_once_one_has_it(
    store: HubStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = places._api

    class Overtaken:
        """A client that is slower than another's."""

        def __init__(self, api: Any) -> None:
            self._api = api

        def __getattr__(self, name: str) -> Any:
            if name == "create_commit":
                monkeypatch.setattr(places, "_api", make)
                publish(trained(tmp_path / "first"), store.place, name="dishes")
            return getattr(self._api, name)

    monkeypatch.setattr(places, "_api", lambda secrets: Overtaken(make(secrets)))
    error = refused(lambda: publish(trained(tmp_path / "second", {"a.safetensors": b"a"}), store.place, ANOTHERS))
    assert error.message.startswith(f"{store.place} belongs to another FineTuneJob, dishes: choose another ")
    assert store.names(f"{store.place}@main") >= set(FILES)


@pytest.mark.parametrize(
    ("words", "status", "outcome"),
    [
        ("/commit/", 403, Outcome.ACCESS_DENIED),
        ("/commit/", 404, Outcome.NOT_FOUND),
        ("/commit/", 412, Outcome.UNAVAILABLE),
        ("/commit/", 429, Outcome.UNAVAILABLE),
        ("/commit/", 500, Outcome.UNAVAILABLE),
        ("/tag/", 500, Outcome.UNAVAILABLE),
        ("/large/", 403, Outcome.ACCESS_DENIED),
        ("/large/", 500, Outcome.UNAVAILABLE),
    ],
)
def test_what_the_hub_answers_is_told_and_the_next_try_goes_on(
    store: HubStore,
    hub: WritableHub,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: str,
    status: int,
    outcome: Outcome,
) -> None:
    # The client waits between its own tries.
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    place = f"{store.place[:80]}-{words.strip('/')}-{status}"
    publish(trained(tmp_path / "before", {"a.txt": b"a"}), place, revision="11111111")
    hub.refuses = (words, status)
    # The bytes are this try's own: what the hub has, it isn't sent.
    files = {"adapter_model.safetensors": f"{words} {status}".encode()}
    workspace = trained(tmp_path / "workspace", files)
    error = refused(lambda: publish(workspace, place))
    assert (error.outcome, error.message.startswith(place)) == (outcome, True)
    assert "hf_" not in error.message
    hub.refuses = None
    fetch(publish(workspace, place).uri, tmp_path / "fetched")


def test_a_model_card_that_the_hub_refuses_is_told(
    store: HubStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = (
        400,
        {"Content-Type": "application/json"},
        b'{"errors": [{"message": "license: no such one."}], "warnings": []}',
    )
    write = store.hub.write
    monkeypatch.setattr(
        store.hub, "write", lambda method, path, *rest: answer if "yaml" in path else write(method, path, *rest)
    )
    error = refused(lambda: publish(trained(tmp_path / "workspace", {"README.md": b"---\n---\n"}), store.place))
    assert error.outcome == Outcome.DATA_INVALID
    assert error.message.endswith("was not accepted: Invalid metadata in README.md. - license: no such one.")
