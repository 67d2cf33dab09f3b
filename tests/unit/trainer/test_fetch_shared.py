"""A base model that many share: fetched once, complete or absent, another one beside it, and nobody's copy."""

import errno
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from finetune_trainer.contract.config import ModelConfig, Source
from finetune_trainer.contract.outcome import Outcome, StageError
from finetune_trainer.data import fetch, published
from hub import Hub, Repository, listening

OLD, NEW = "0" * 40, "1" * 40
FILES = {"config.json": b"{}", "model.safetensors": b"weights", "tokenizer.json": b"[]"}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """One model of two commits."""
    commits = {OLD: {"config.json": b"old"}, NEW: FILES | {"modeling_tiny.py": b"code"}}
    with listening(Hub({"acme/tiny": Repository(commits, {"main": NEW})})) as found:
        monkeypatch.setenv("FINETUNE_MODEL_HF_ENDPOINT", found.endpoint)
        yield found


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    return tmp_path / "shared" / "models"


def config(shared: Path | None, revision: str | None = None, code: bool = False) -> ModelConfig:
    cache = Source(uri="pvc://shared/models", path=shared) if shared else None
    source = Source(uri="hf://acme/tiny")
    return ModelConfig(source=source, revision=revision, trust_remote_code=code, cache=cache)


def files(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}


def models(shared: Path) -> list[str]:
    """What people see there."""
    return sorted(path.name for path in shared.iterdir() if path.is_dir())


def test_the_next_revision_finds_what_the_first_one_brought(hub: Hub, tmp_path: Path, shared: Path) -> None:
    for revision in ("a", "b"):
        (tmp_path / revision).mkdir()
        assert fetch.model(config(shared), tmp_path / revision / "model") == NEW
        assert files(tmp_path / revision / "model") == FILES
    assert sorted(hub.asked) == sorted(FILES)
    (name,) = models(shared)
    assert name.startswith("acme-tiny-111")
    assert (tmp_path / "b" / "model").readlink() == shared / name


def test_of_many_at_once_one_brings_it(hub: Hub, tmp_path: Path, shared: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: fetch.model(config(shared), tmp_path / f"model-{number}"), range(4)))
    assert sorted(hub.asked) == sorted(FILES)
    assert all(files(tmp_path / f"model-{number}") == FILES for number in range(4))


def test_another_commit_lies_beside_it_and_what_runs_goes_on_reading_its_own(
    hub: Hub, tmp_path: Path, shared: Path
) -> None:
    fetch.model(config(shared), tmp_path / "new")
    fetch.model(config(shared, revision=OLD), tmp_path / "old")
    assert files(tmp_path / "new") == FILES
    assert files(tmp_path / "old") == {"config.json": b"old"}
    assert len(models(shared)) == 2


def test_a_models_code_is_not_there_for_those_who_do_not_trust_it(hub: Hub, tmp_path: Path, shared: Path) -> None:
    fetch.model(config(shared, code=True), tmp_path / "trusting")
    fetch.model(config(shared), tmp_path / "careful")
    assert "modeling_tiny.py" in files(tmp_path / "trusting")
    assert "modeling_tiny.py" not in files(tmp_path / "careful")


def test_a_download_that_was_cut_off_is_nobodys_model_and_goes_on_with_what_is_missing(
    hub: Hub, tmp_path: Path, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    hub.broken = {"tokenizer.json"}
    with pytest.raises(StageError):
        fetch.model(config(shared), tmp_path / "first")
    assert not (tmp_path / "first").exists()
    assert [name for name in models(shared) if not name.endswith(".partial")] == []
    brought = set(hub.asked) - hub.broken
    hub.broken = set()
    hub.asked.clear()
    fetch.model(config(shared), tmp_path / "second")
    assert files(tmp_path / "second") == FILES
    assert set(hub.asked) == FILES.keys() - brought


def test_a_copy_of_its_own_gives_way_to_the_shared_one_and_the_other_way_round(
    hub: Hub, tmp_path: Path, shared: Path
) -> None:
    target = tmp_path / "model"
    fetch.model(config(None), target)
    fetch.model(config(shared), target)
    assert target.is_symlink()
    fetch.model(config(None), target)
    assert not target.is_symlink()
    assert files(target) == FILES
    (name,) = models(shared)
    assert files(shared / name) == FILES


def test_a_claim_that_is_full_is_told_and_has_nothing_that_looks_whole(
    hub: Hub, tmp_path: Path, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*asked: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(published, "verify", full)
    with pytest.raises(StageError) as error:
        fetch.model(config(shared), tmp_path / "model")
    assert (error.value.outcome, error.value.message) == (
        Outcome.WORKSPACE_FULL,
        "PersistentVolumeClaim shared of workspace.cache is full, so that hf://acme/tiny could not be kept there: make "
        "it larger, or remove models from it that nobody asks for any more.",
    )
    assert [name for name in models(shared) if not name.endswith(".partial")] == []
    assert not (tmp_path / "model").exists()
    # Without a cache it is the workspace's own volume, which the program tells of.
    with pytest.raises(OSError, match="No space left"):
        fetch.model(config(None), tmp_path / "model")
