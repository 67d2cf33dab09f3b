"""The rows of an evaluation where they lie: read when they are looked at, and never all of them held."""

import json
import tracemalloc
from pathlib import Path

import pytest
from finetune_trainer.contract.config import EvaluationConfig, Workspace
from finetune_trainer.evaluation import choosers, near, testset
from finetune_trainer.evaluation.contenders import Question

ROWS, ANSWER = 400, 20_000


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Short questions in many words of more than one byte, with long answers."""
    found = Workspace(tmp_path)
    found.data.mkdir()
    for split, count in (("train", ROWS), ("test", 4)):
        rows = [{"prompt": f"{split} Möhren {row}", "completion": f"{row}" * ANSWER} for row in range(count)]
        (found.data / f"{split}.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return found


def test_a_row_is_found_by_its_number(workspace: Workspace) -> None:
    train = testset.questions(workspace, "train")
    assert len(train) == ROWS
    assert [row.prompt for row in train] == [f"train Möhren {row}" for row in range(ROWS)]
    assert train[7] == Question("train Möhren 7", "7" * ANSWER)
    assert train[-1] == train[ROWS - 1]
    assert [row.prompt for row in train[2:6:2]] == ["train Möhren 2", "train Möhren 4"]
    with pytest.raises(IndexError):
        train[ROWS]


def test_a_split_that_is_not_there_has_no_rows(workspace: Workspace) -> None:
    assert list(testset.questions(workspace, "validation")) == []


def test_of_train_no_more_is_held_than_the_examples_that_are_asked_with(workspace: Workspace) -> None:
    size = (workspace.data / "train.jsonl").stat().st_size
    choosers.retrieval([Question("import", "it")], 1)(Question("import", "it"))
    tracemalloc.start()
    test, train = (testset.questions(workspace, split) for split in ("test", "train"))
    kept = testset.clean(test, train, EvaluationConfig()).kept
    chosen = [choosers.few_shot(train, 2, seed=1), choosers.retrieval(train, 2)]
    for question in kept:
        assert [len(choose(question)) for choose in chosen] == [2, 2]
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # Beside what is the same for any train: the counts of shingles and the marks of those that are looked for.
    assert most - 5 * 2**near.BITS < size / 10, (most, size)
