"""The example text-to-sql is what its README says: reproducible, held out by table, and right as SQLite sees it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from finetune_trainer.evaluation import sql
from finetune_trainer.evaluation.contenders import Question

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
