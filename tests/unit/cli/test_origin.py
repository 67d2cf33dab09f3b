"""A job on a laptop that goes on from another one of the same directory: what NAME stands for, found once."""

import os
from pathlib import Path
from typing import Any

import pytest
from finetune_cli import origin
from finetune_cli.errors import ExitCode, UserError
from finetune_cli.job import LocalJob, localize
from finetune_cli.store import Store
from finetune_cli.trainer import write_run_config
from finetune_operator.api.status import FineTuneJobStatus
from finetune_operator.api.v1alpha1 import FineTuneJobSpec
from finetune_operator.finetunejob.desired.run_config import run_config
from finetune_operator.finetunejob.record import text
from finetune_trainer.contract.results import PrepareResult, TrainResult
from rehearsal import CHECKPOINTS, PREPARED, TRAINED

SFT = {"model": {"source": "hf://org/model"}, "dataset": {"train": {"source": "s3://b/rows.jsonl"}}}


def local(name: str, **spec: Any) -> LocalJob:
    return localize(name, FineTuneJobSpec.model_validate(SFT | spec), Path())


def train(root: Path, seed: int, model: dict[str, Any] | None = None) -> str:
    """Leave what a run of the job `sft` would; its revision."""
    job = local("sft", training={"seed": seed}, **({"model": model} if model else {}))
    workspace = Store("sft", root).workspace(job.revision)
    workspace.artifact.mkdir(parents=True)
    (workspace.root / "run.json").write_text(text(run_config("sft", job.revision, job.spec)))
    workspace.prepared.write_text(text(PrepareResult.model_validate(PREPARED)))
    result = TrainResult.model_validate(TRAINED | {"checkpoints": CHECKPOINTS, "steps": seed})
    workspace.trained.write_text(text(result))
    os.utime(workspace.trained, (seed, seed))
    return job.revision


def start(root: Path, address: str = "") -> tuple[LocalJob, Store]:
    return local("dpo", model={"source": f"ftj://sft{address}"}), Store("dpo", root)


def test_the_newest_that_was_trained_is_found_with_all_that_it_goes_back_to(tmp_path: Path) -> None:
    train(tmp_path, seed=2)
    newest = train(tmp_path, seed=3)
    train(tmp_path, seed=1)
    found = origin.found(*start(tmp_path))
    assert found is not None
    assert found.lineage == (f"ftj://sft/{newest}", "hf://org/model@abc123")
    assert (found.digest, found.files) == ("sha256:bb", tmp_path / "sft" / newest)
    assert found.base.path is None


def test_what_is_served_comes_first(tmp_path: Path) -> None:
    served = train(tmp_path, seed=1)
    train(tmp_path, seed=2)
    Store("sft", tmp_path).write(FineTuneJobStatus(served_revision=served))
    found = origin.found(*start(tmp_path))
    assert found is not None
    assert found.lineage[0] == f"ftj://sft/{served}"


def test_a_checkpoint_may_be_named(tmp_path: Path) -> None:
    revision = train(tmp_path, seed=1)
    found = origin.found(*start(tmp_path, f"/{revision}@30"))
    assert found is not None
    assert (found.step, found.digest) == (30, "sha256:cc")


def test_once_found_it_stays(tmp_path: Path) -> None:
    first = train(tmp_path, seed=1)
    job, store = start(tmp_path)
    write_run_config(job, store)
    train(tmp_path, seed=2)
    found = origin.found(job, store)
    assert found is not None
    assert found.lineage[0] == f"ftj://sft/{first}"


def test_where_a_model_lies_on_this_machine_is_told_by_its_end_alone(tmp_path: Path) -> None:
    train(tmp_path, seed=1, model={"source": "file:///home/me/models/tiny"})
    found = origin.found(*start(tmp_path))
    assert found is not None
    assert found.lineage[1] == "tiny@abc123"
    assert found.base.path == Path("/home/me/models/tiny")


@pytest.mark.parametrize(
    ("address", "trained", "told"),
    [
        ("", False, "sft was not trained in this directory (trained revisions: none)"),
        ("/0a1b2c3d", True, "revision 0a1b2c3d of sft was not trained in this directory (trained revisions: {})"),
    ],
)
def test_what_is_not_trained_is_told(tmp_path: Path, address: str, trained: bool, told: str) -> None:
    revision = train(tmp_path, seed=1) if trained else ""
    with pytest.raises(UserError) as error:
        origin.found(*start(tmp_path, address))
    assert str(error.value) == (
        f"model.source: {told.format(revision)}; train it first, with `finetune run` of its manifest."
    )
    assert error.value.code == ExitCode.USAGE
