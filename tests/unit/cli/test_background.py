"""`finetune run` in the background: what counts as begun, and whose run it is."""

import sys
from pathlib import Path

import pytest
from finetune_cli.background import Background, NotBegun
from finetune_cli.store import ROOT, Store

ENDS = "import sys; sys.exit('error: The base model is gone.')"
# While somebody else's run of the same job writes.
BESIDE = f"open('.finetune/recipes/status.json', 'w').close(); {ENDS}"


async def test_a_run_that_is_under_way_is_left_alone(tmp_path: Path) -> None:
    runs, store = Background(tmp_path, (sys.executable, "-c", ENDS)), Store("recipes", tmp_path / ROOT)
    with store.lock():
        (store.directory / "run.log").write_text("Step 3")
        with pytest.raises(
            NotBegun, match=r"recipes is being run already, by process \d+; `finetune cancel recipes` ends it\."
        ):
            await runs.create("recipes", "{}")
        assert (store.directory / "run.log").read_text() == "Step 3"
    assert not (tmp_path / "recipes.yaml").exists()


async def test_another_runs_status_is_not_taken_for_its_own(tmp_path: Path) -> None:
    runs = Background(tmp_path, (sys.executable, "-c", BESIDE))
    with pytest.raises(NotBegun) as found:
        await runs.create("recipes", "{}")
    assert found.value.why == "The base model is gone."
    assert not (tmp_path / "recipes.yaml").exists()


async def test_a_manifest_that_is_there_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "recipes.yaml").write_text("mine")
    with pytest.raises(FileExistsError):
        await Background(tmp_path, (sys.executable, "-c", ENDS)).create("recipes", "{}")
    assert (tmp_path / "recipes.yaml").read_text() == "mine"
