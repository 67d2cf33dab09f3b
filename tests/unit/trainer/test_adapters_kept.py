"""The container that loads adapters beside an engine: whatever starts again, it ends with what is wanted."""

import json
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import httpx
import pytest
from finetune_trainer.contract.adapters import HeldAdapters, PublishedAdapter, WantedAdapters
from finetune_trainer.contract.outcome import Outcome, StageError
from finetune_trainer.stages import adapters as stage
from finetune_trainer.stages.adapter_engine import Refused
from finetune_trainer.stages.adapters import Keeper, KeeperSettings, key

ONE = PublishedAdapter(name="recipes-1", uri="s3://models/1", digest="sha256:" + "1" * 64)
FIRST = WantedAdapters(adapters=(ONE,), aliases={"recipes": "recipes-1"})


class Engine:
    """What it has is lost when it starts again; `down`: it is doing so."""

    def __init__(self) -> None:
        self.has: dict[str, str] = {}
        self.is_ready = self.down = False
        self.refuses = ""

    def restart(self) -> None:
        self.has, self.is_ready = {}, False

    def adapters(self) -> dict[str, str]:
        if self.down:
            raise httpx.ConnectError("refused")
        return dict(self.has)

    def load(self, name: str, path: Path, instead: bool) -> None:
        if self.refuses:
            raise Refused(self.refuses)
        assert instead == (name in self.has)
        self.has[name] = str(path)

    def unload(self, name: str) -> None:
        del self.has[name]

    def busy(self) -> frozenset[str]:
        return frozenset()

    def ready(self) -> None:
        self.is_ready = True


class AtOnce:
    """A pool that has done what it is given."""

    def __init__(self, *_: object) -> None:
        pass

    def submit(self, work: Any, *arguments: Any) -> "Future[None]":
        found: Future[None] = Future()
        try:
            found.set_result(work(*arguments))
        except (StageError, RuntimeError) as error:
            found.set_exception(error)
        return found


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> KeeperSettings:
    def fetch(adapter: PublishedAdapter, target: Path, signed: Path | None) -> None:
        target.mkdir()

    monkeypatch.setattr(stage, "fetch", fetch)
    monkeypatch.setattr(stage, "ThreadPoolExecutor", AtOnce)
    found = KeeperSettings(tmp_path / "now.json", tmp_path / "begin.json", tmp_path / "adapters")
    key(found.root)
    found.begin.write_text(FIRST.model_dump_json())
    return found


@pytest.fixture
def engine() -> Engine:
    return Engine()


def keeper(settings: KeeperSettings, engine: Engine) -> Keeper:
    return Keeper(settings, engine)  # type: ignore[arg-type]


def told(found: Keeper) -> HeldAdapters:
    answer = found.answer("/status")
    assert answer
    return HeldAdapters.model_validate_json(answer.body)


def test_what_a_pod_begins_with_is_loaded_and_then_requests_may_come(settings: KeeperSettings, engine: Engine) -> None:
    found = keeper(settings, engine)
    found.look()
    assert engine.is_ready
    assert told(found) == HeldAdapters(loaded=("recipes-1",), aliases={"recipes": "recipes-1"})
    assert json.loads((settings.root / "aliases.json").read_text()) == {"recipes": "recipes-1"}
    assert found.answer("/") is None


def test_an_engine_that_starts_again_has_all_of_it_before_requests_come(
    settings: KeeperSettings, engine: Engine
) -> None:
    found = keeper(settings, engine)
    found.look()
    engine.restart()
    engine.down = True
    found.look()
    assert told(found).loaded == ()
    assert not engine.is_ready
    engine.down = False
    found.look()
    assert engine.is_ready
    assert told(found).loaded == ("recipes-1",)


def test_a_container_that_starts_again_changes_nothing(settings: KeeperSettings, engine: Engine) -> None:
    keeper(settings, engine).look()
    before, secret = dict(engine.has), key(settings.root)
    # What a fetch had left that was killed.
    left = settings.root / ".recipes-2@222222222222.partial"
    left.mkdir()
    again = keeper(settings, engine)
    again.look()
    assert engine.has == before
    assert told(again).aliases == {"recipes": "recipes-1"}
    assert key(settings.root) == secret
    assert not left.exists()


def test_what_the_pod_is_told_counts_more_than_what_it_began_with(settings: KeeperSettings, engine: Engine) -> None:
    found = keeper(settings, engine)
    found.look()
    settings.now.write_text("")
    found.look()
    assert told(found).loaded == ("recipes-1",)
    settings.now.write_text("{")
    found.look()
    assert told(found).loaded == ("recipes-1",)
    later = FIRST.model_copy(update={"aliases": {"dishes": "recipes-1"}}).model_dump(mode="json") | {
        "since": "a later version"
    }
    settings.now.write_text(json.dumps(later))
    found.look()
    # The other name goes on for those who are still connected.
    assert told(found) == HeldAdapters(loaded=("recipes-1",), aliases={"dishes": "recipes-1", "recipes": "recipes-1"})


def test_a_fault_in_fetching_one_is_told_of_it_and_nothing_ends(
    settings: KeeperSettings, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(adapter: PublishedAdapter, target: Path, signed: Path | None) -> None:
        raise RuntimeError("a fault with the-canary")

    monkeypatch.setenv("FINETUNE_LORA_HF_TOKEN", "the-canary")
    monkeypatch.setattr(stage, "fetch", fetch)
    found = keeper(settings, engine)
    found.look()
    said = "s3://models/1 could not be fetched: RuntimeError: a fault with [hidden]"
    assert told(found).failed == {"recipes-1": said}
    # It may pass: the pod waits a little while.
    assert not engine.is_ready


def test_one_that_can_not_be_had_keeps_no_pod_from_serving(
    settings: KeeperSettings, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(adapter: PublishedAdapter, target: Path, signed: Path | None) -> None:
        raise StageError(Outcome.NOT_FOUND, "s3://models/1 does not exist.")

    monkeypatch.setattr(stage, "fetch", fetch)
    found = keeper(settings, engine)
    found.look()
    assert told(found).failed == {"recipes-1": "s3://models/1 does not exist."}
    assert engine.is_ready


def test_a_rank_that_is_too_large_is_told_with_what_to_do(settings: KeeperSettings, engine: Engine) -> None:
    engine.refuses = "LoRA rank 64 is greater than max_lora_rank 16."
    found = keeper(settings, engine)
    found.look()
    (message,) = told(found).failed.values()
    assert message.startswith("The engine can't load adapter recipes-1: LoRA rank 64")
    assert message.endswith("Raise spec.lora.maxRank of the Engine.")
