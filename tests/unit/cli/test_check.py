"""`finetune check` says what `finetune run` would: which fields it can't act on here, and what it finds wrong."""

from pathlib import Path

import pytest
import yaml
from finetune_cli.check import check_manifest
from finetune_cli.errors import UserError
from finetune_trainer.contract.outcome import Outcome
from rich.console import Console


def test_fields_for_a_cluster_are_named_before_anything_is_prepared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.jsonl").write_text('{"prompt": "two eggs", "completion": "egg"}\n')
    spec = {
        "model": {"source": "file://nowhere", "credentials": {"secretRef": {"name": "hub"}}},
        "dataset": {"train": {"source": "file://train.jsonl"}},
        "training": {"resources": {"limits": {"cpu": 2}}},
        "evaluation": {"enabled": False},
    }
    job = {"apiVersion": "finetune.dev/v1alpha1", "kind": "FineTuneJob", "metadata": {"name": "recipes"}, "spec": spec}
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(job))
    out, notes = Console(width=400), Console(width=400)
    with out.capture() as said, notes.capture() as noted, pytest.raises(UserError) as failed:
        check_manifest(Path("job.yaml"), True, out, notes)
    lines = noted.get().splitlines()
    assert lines[0] == "Only a cluster acts on training.resources; here the job takes what this machine has."
    assert lines[1].endswith("not from Secret hub.")
    assert lines[2].startswith("prepare: ")
    assert failed.value.code == Outcome.NOT_FOUND.exit.code
    assert said.get() == ""
