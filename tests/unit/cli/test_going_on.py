"""`finetune resume` and `retry` of a run of this machine: its manifest is run again in the background.

Real: the verbs, `finetune run` and its files. Played: the trainer (`played_run`).
"""

import asyncio
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import yaml
from finetune_cli import background
from finetune_cli.background import Background
from finetune_cli.errors import UserError
from finetune_cli.main import app
from finetune_cli.store import ROOT, Store
from finetune_operator.api.status import FineTuneJobStatus
from played_run import HOLD, PLAYED, PROGRAM
from rehearsal import PREPARED, TRAINED
from statuses import ended
from typer.testing import CliRunner

JOB = {
    "apiVersion": "finetune.dev/v1alpha1",
    "kind": "FineTuneJob",
    "metadata": {"name": "recipes"},
    "spec": {
        "model": {"source": "file://model"},
        "dataset": {"train": {"source": "file://train.jsonl"}},
        "evaluation": {"enabled": False},
        "hosting": {"enabled": False},
    },
}
ELSEWHERE = "recipes is a run of this machine: `finetune run` of its manifest tries again what failed."


def line(*arguments: str) -> str:
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return " ".join(result.output.split())


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """One with a run that failed, and its manifest; nothing runs there afterwards."""
    done = {
        name: {"code": 0, "termination": {"reason": "Succeeded", "result": result}}
        for name, result in (("prepare", PREPARED), ("train", TRAINED))
    }
    (tmp_path / PLAYED).write_text(json.dumps(done))
    (tmp_path / "train.jsonl").write_text('{"prompt": "two eggs", "completion": "egg"}\n')
    (tmp_path / "recipes.yaml").write_text(yaml.safe_dump(JOB))
    store = Store("recipes", tmp_path / ROOT)
    with store.lock():
        store.write(FineTuneJobStatus.model_validate(ended("Failed", "Trained", "WorkspaceFull", "The disk is full.")))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(background, "Background", partial(Background, program=PROGRAM))
    yield tmp_path
    asyncio.run(Background(tmp_path).stop("recipes"))


@pytest.mark.parametrize("verb", ["resume", "retry"])
def test_it_goes_on_in_the_background_until_it_is_done(directory: Path, verb: str) -> None:
    assert line(verb, "recipes").endswith("`finetune wait recipes` waits for it.")
    assert "Succeeded" in line("wait", "recipes")
    assert "recipes Succeeded" in line("list")


def test_what_goes_on_already_is_left_alone(directory: Path) -> None:
    (directory / HOLD).touch()
    line("resume", "recipes")
    with pytest.raises(
        UserError, match=r"^recipes is being run already, by process \d+; `finetune cancel recipes` ends it\.$"
    ):
        line("resume", "recipes")
    assert line("cancel", "recipes").startswith("recipes stops and keeps a checkpoint")


def test_another_jobs_manifest_is_not_run_in_its_place(directory: Path) -> None:
    (directory / "recipes.yaml").write_text(yaml.safe_dump({**JOB, "metadata": {"name": "cakes"}}))
    with pytest.raises(UserError) as error:
        line("retry", "recipes")
    assert error.value.message.startswith(ELSEWHERE)


def test_why_it_does_not_begin_is_told(directory: Path) -> None:
    (directory / "train.jsonl").unlink()
    with pytest.raises(UserError, match=r"train\.jsonl can't be read \(No such file or directory\)"):
        line("retry", "recipes")
