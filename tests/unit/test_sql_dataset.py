"""The example text-to-sql is what its README says: reproducible, held out by table, and right as SQLite sees it."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from finetune_operator.api.v1alpha1 import FineTuneJobSpec
from finetune_trainer.evaluation import sql
from finetune_trainer.evaluation.contenders import Question
from tutorials import typed

EXAMPLE = Path(__file__).parents[2] / "examples" / "text-to-sql"
SPLITS = ("train", "test")


def rows(split: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in (EXAMPLE / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()]


def schemas(split: str) -> set[str]:
    return {row["prompt"].splitlines()[0] for row in rows(split)}


def test_the_generator_writes_the_committed_bytes(tmp_path: Path) -> None:
    subprocess.run([sys.executable, EXAMPLE / "make_dataset.py", tmp_path], check=True)
    for split in SPLITS:
        assert (tmp_path / f"{split}.jsonl").read_bytes() == (EXAMPLE / f"{split}.jsonl").read_bytes()


@pytest.mark.parametrize("split", SPLITS)
def test_every_answer_runs_on_the_table_of_its_prompt(split: str) -> None:
    assert sql.unfit([Question(row["prompt"], row["completion"]) for row in rows(split)]) is None


def test_sizes() -> None:
    assert [(len(rows(split)), len(schemas(split))) for split in SPLITS] == [(595, 26), (78, 6)]


def test_test_asks_about_tables_that_train_does_not_have() -> None:
    assert schemas("train") & schemas("test") == set()
    assert {row["prompt"] for row in rows("train")} & {row["prompt"] for row in rows("test")} == set()


def test_the_line_for_qlora_changes_the_adapter_and_nothing_else(tmp_path: Path) -> None:
    manifest = Path(shutil.copy(EXAMPLE / "finetunejob.yaml", tmp_path))
    before = yaml.safe_load(manifest.read_text())
    (command,) = typed("text-to-sql", "QLoRA")
    subprocess.run(["sh", "-ec", command], cwd=tmp_path, check=True)
    after = yaml.safe_load(manifest.read_text())
    assert FineTuneJobSpec.model_validate(after["spec"]).training.adapter.type == "qlora"
    before["spec"]["training"]["adapter"]["type"] = "qlora"
    assert after == before
