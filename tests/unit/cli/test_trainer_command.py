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
from finetune_trainer.contract.config import OnSensitive, TrackerType, TrackingConfig

SPEC = {
    "model": {"source": "file:///models/base"},
    "dataset": {"train": {"source": "file:///rows.jsonl"}, "onSensitive": "fail"},
    "training": {
        "keepCheckpoints": 3,
        "tracking": {"type": "mlflow", "url": "http://localhost:5000", "project": "food"},
    },
}


@pytest.mark.parametrize("stage", ["prepare", "train"])
def test_a_stage_is_told_what_is_no_part_of_the_run_config(
    stage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[list[str]] = []
    monkeypatch.setattr(trainer, "Child", lambda command, *_: commands.append(command))
    store = Store("recipes", tmp_path)
    store.workspace("0a1b2c3d").root.mkdir(parents=True)
    job = LocalJob("recipes", "0a1b2c3d", FineTuneJobSpec.model_validate(SPEC), ())

    trainer.Attempt(JOBS[stage], job, store)

    told: Any = parse(commands[0][3:])
    assert (told.stage, told.keep_checkpoints, told.on_sensitive) == (stage, 3, OnSensitive.FAIL)
    assert told.tracking == TrackingConfig(type=TrackerType.MLFLOW, url="http://localhost:5000", project="food")
