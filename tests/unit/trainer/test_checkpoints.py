"""Checkpoints are complete or absent."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from finetune_trainer.data.disk import write_whole
from finetune_trainer.training.checkpoints import Checkpoints, elapsed


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    found = Checkpoints(tmp_path / "checkpoints")
    found.clean()
    return found


def save(checkpoints: Checkpoints, step: int) -> None:
    staged = checkpoints.staging / f"checkpoint-{step}"
    staged.mkdir()
    (staged / "weights").write_text(str(step))
    checkpoints.keep(step, seconds=step * 1.5)


def test_the_last_one_is_kept_alone(checkpoints: Checkpoints) -> None:
    save(checkpoints, 9)
    save(checkpoints, 10)

    latest = checkpoints.latest()

    assert latest is not None
    assert (latest / "weights").read_text() == "10"
    assert sorted(path.name for path in checkpoints.root.iterdir()) == ["checkpoint-10", "staging"]
    assert elapsed(latest) == 15.0


def test_a_half_written_one_is_neither_found_nor_left(checkpoints: Checkpoints) -> None:
    save(checkpoints, 3)
    (checkpoints.staging / "checkpoint-4").mkdir()

    assert checkpoints.latest() == checkpoints.root / "checkpoint-3"
    checkpoints.clean()
    assert list(checkpoints.staging.iterdir()) == []
    assert checkpoints.latest() == checkpoints.root / "checkpoint-3"


def test_killed_between_rename_and_removal_the_newer_one_counts(checkpoints: Checkpoints) -> None:
    save(checkpoints, 99)
    (checkpoints.root / "checkpoint-100").mkdir()

    assert checkpoints.latest() == checkpoints.root / "checkpoint-100"


def test_without_any_there_is_nothing_to_resume(checkpoints: Checkpoints) -> None:
    assert checkpoints.latest() is None
    assert elapsed(None) == 0.0


def test_a_small_file_is_whole_however_many_write_it_at_once(tmp_path: Path) -> None:
    """Pods that train together share the volume, and the number of their process is the same in each."""
    path, words = tmp_path / "new" / "attempt.json", [letter * 1000 for letter in "abcd"]

    with ThreadPoolExecutor(4) as writers:
        for _ in writers.map(lambda word: write_whole(path, word), words * 200):
            assert path.read_text() in words

    assert [found.name for found in path.parent.iterdir()] == [path.name]
