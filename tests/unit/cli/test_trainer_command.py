"""What a stage's process on a laptop is told beside the run config, read as the trainer's program reads it."""

from pathlib import Path
from typing import Any

import pytest
from finetune_cli import trainer
from finetune_cli.job import LocalJob
from finetune_cli.store import Store
from finetune_operator.api.v1alpha1 import FineTuneJobSpec
from finetune_operator.finetunejob.stages import JOBS
from finetune_trainer.__main__ import parse
from finetune_trainer.contract.config import OnSensitive, Sharding, TrackerType, TrackingConfig

SPEC = {
    "model": {"source": "file:///models/base"},
    "dataset": {"train": {"source": "file:///rows.jsonl"}, "onSensitive": "fail"},
}
TRAINING = {
    "keepCheckpoints": 3,
    "sharding": "none",
    "sweep": {"parameters": {"epochs": [1, 2]}},
    "retries": 7,
    "tracking": {"type": "mlflow", "url": "http://localhost:5000", "project": "food"},
}


def told_of(stage: str, root: Path, monkeypatch: pytest.MonkeyPatch, training: dict[str, Any]) -> Any:
    """The arguments of a stage's process, as its program reads them."""
    commands: list[list[str]] = []
    monkeypatch.setattr(trainer, "Child", lambda command, *_: commands.append(command))
    store = Store("recipes", root)
    store.workspace("0a1b2c3d").root.mkdir(parents=True)
    spec = FineTuneJobSpec.model_validate(SPEC | {"training": training})
    trainer.StageProcess(JOBS[stage], LocalJob("recipes", "0a1b2c3d", spec, ()), store)
    return parse(commands[0][3:])


@pytest.mark.parametrize("stage", ["prepare", "train"])
def test_a_stage_is_told_what_is_no_part_of_the_run_config(
    stage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = told_of(stage, tmp_path, monkeypatch, TRAINING)
    assert (told.stage, told.keep_checkpoints, told.on_sensitive) == (stage, 3, OnSensitive.FAIL)
    assert told.sharding == Sharding.NONE
    assert (told.retries, told.pods) == (7, 1)
    assert told.tracking == TrackingConfig(type=TrackerType.MLFLOW, url="http://localhost:5000", project="food")


def test_train_is_told_of_its_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert told_of("train", tmp_path, monkeypatch, {"budget": {"acceleratorHours": 1.5}}).budget == 1.5
