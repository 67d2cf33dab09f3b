"""What a user reads when something can't work: a sentence, not a traceback, and the same in the status document."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from finetune_cli.errors import ExitCode
from finetune_trainer.contract.outcome import Outcome
from laptop import NAME, Command, Finetune

GOOD = {"messages": [{"role": "user", "content": "2 eggs"}, {"role": "assistant", "content": "egg"}]}


@pytest.fixture(scope="module", autouse=True)
def rows(directory: Path) -> None:
    (directory / "train.jsonl").write_text((json.dumps(GOOD) + "\n") * 20)


def failed(run: Command, code: int) -> str:
    """What it said, having ended with `code`."""
    assert run.ends() == code, run.said
    assert "Traceback" not in run.said
    return " ".join(run.said.split())


def condition(directory: Path, kind: str) -> dict[str, Any]:
    status = json.loads((directory / ".finetune" / NAME / "status.json").read_text())
    return next(found for found in status["conditions"] if found["type"] == kind)


def test_a_bad_row_is_named_with_file_and_line(finetune: Finetune, write: Callable[..., None], directory: Path) -> None:
    bad = directory / "bad.jsonl"
    bad.write_text(json.dumps(GOOD) + "\n" + '{"messages": []}\n' + json.dumps(GOOD) + "\n")
    write(dataset={"train": {"source": "file://bad.jsonl"}})
    said = failed(finetune("run", "job.yaml"), Outcome.DATA_INVALID.exit.code)
    assert "prepare failed (DataInvalid):" in said
    assert "bad.jsonl:2" in said
    assert condition(directory, "DataReady")["reason"] == "DataInvalid"
    assert "bad.jsonl:2" in condition(directory, "Ready")["message"]


def test_a_model_that_is_not_there_is_named(finetune: Finetune, write: Callable[..., None], directory: Path) -> None:
    write(model={"source": "file://no-such-model"})
    said = failed(finetune("run", "job.yaml"), Outcome.NOT_FOUND.exit.code)
    assert "prepare failed (SourceNotFound):" in said
    assert str(directory / "no-such-model") in said


def test_a_bucket_that_does_not_answer_is_tried_again_then_told(
    finetune: Finetune, write: Callable[..., None], directory: Path
) -> None:
    write(dataset={"train": {"source": "s3://bucket/train.jsonl"}}, training={"retries": 1})
    nobody = {"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    said = failed(finetune("run", "job.yaml", **nobody), Outcome.UNAVAILABLE.exit.code)
    assert "prepare is tried again in 10 s (1 of 1):" in said
    assert "prepare failed (SourceUnavailable):" in said
    assert condition(directory, "DataReady")["reason"] == "SourceUnavailable"


def test_a_stage_ends_at_max_runtime(finetune: Finetune, write: Callable[..., None], directory: Path) -> None:
    write(training={"maxRuntime": "1s"})
    said = failed(finetune("run", "job.yaml"), ExitCode.FAILED)
    assert "prepare failed (DeadlineExceeded): prepare took longer than training.maxRuntime (1s); raise it" in said
    assert condition(directory, "DataReady")["reason"] == "DeadlineExceeded"


def test_a_manifest_that_breaks_a_rule_is_refused_by_field(finetune: Finetune, write: Callable[..., None]) -> None:
    write(training={"epochs": 1, "maxSteps": 2})
    assert "training takes either epochs or maxSteps" in failed(finetune("run", "job.yaml"), ExitCode.USAGE)


def test_a_manifest_that_is_not_there_is_named(finetune: Finetune) -> None:
    assert "nothing.yaml" in failed(finetune("run", "nothing.yaml"), ExitCode.USAGE)


def test_what_only_a_cluster_has_is_refused(finetune: Finetune, write: Callable[..., None]) -> None:
    write(model={"source": "pvc://models/base"})
    said = failed(finetune("run", "job.yaml"), ExitCode.USAGE)
    assert "model.source: pvc://models/base is a PersistentVolumeClaim, which only a cluster has" in said


def test_render_refuses_what_only_a_laptop_has(finetune: Finetune, write: Callable[..., None]) -> None:
    write()
    said = failed(finetune("render", "job.yaml"), ExitCode.USAGE)
    assert "exists only for `finetune run`; in a cluster use hf://, s3://, gs://, abfs://" in said
