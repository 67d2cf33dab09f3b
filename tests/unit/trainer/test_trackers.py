"""A tracker that can't be had is told before anything is trained; tests/trainer sends to real ones."""

from pathlib import Path

import pytest
from decisions import CONFIG
from finetune_trainer import __main__ as program
from finetune_trainer.contract.config import TrackerType, TrackingConfig
from finetune_trainer.contract.outcome import Outcome, StageError
from finetune_trainer.training import trackers

LIBRARIES = (TrackerType.MLFLOW, TrackerType.TENSORBOARD, TrackerType.WANDB)


@pytest.mark.parametrize("type", LIBRARIES)
def test_an_image_without_its_library_is_named(type: TrackerType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)

    with pytest.raises(StageError) as error:
        trackers.check(TrackingConfig(type=type))

    assert error.value.outcome == Outcome.CONFIG_INVALID
    assert error.value.message.startswith(f"training.tracking: {type} is a library that this trainer lacks")
    assert f"EXTRAS=trainer,{type}" in error.value.message


@pytest.mark.parametrize("stage", ["prepare", "train"])
def test_a_stage_looks_for_it_before_anything_else(stage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The manifest may name another tracker when prepare is done."""
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    run = tmp_path / "run.json"
    run.write_text(CONFIG.model_dump_json(by_alias=True))
    places = ["--config", str(run), "--workspace", str(tmp_path / "workspace")]

    with pytest.raises(StageError) as error:
        program.stage(program.parse([stage, *places, "--tracking", '{"type": "tensorboard"}']))

    assert error.value.outcome == Outcome.CONFIG_INVALID
    assert not (tmp_path / "workspace").exists()


@pytest.mark.parametrize("type", LIBRARIES)
def test_with_it_nothing_is_said(type: TrackerType) -> None:
    trackers.check(TrackingConfig(type=type))


def test_trackio_is_asked_without_its_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    trackers.check(TrackingConfig(type=TrackerType.TRACKIO, url="http://trackio:7860"))
