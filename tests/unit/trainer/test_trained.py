"""What of rows is trained, as the file of tokens has it: cut, in pairs, without what teaches nothing."""

from array import array
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from finetune_trainer.data import spool, trained
from finetune_trainer.data.examples import Example
from finetune_trainer.data.tokens import IGNORED, Tokens
from finetune_trainer.data.trained import Trained


def tokens(ids: list[int], *learned: tuple[int, int]) -> Tokens:
    return Tokens(array("i", ids), learned)


def written(path: Path, longest: int, *batches: list[Example]) -> tuple[Trained, list[dict[str, Any]]]:
    """What was counted of such batches, and the rows of the file."""
    found = trained.write(path, map(spool.pack, batches), longest)
    return found, pa.ipc.open_stream(path.read_bytes()).read_all().to_pylist()


@pytest.mark.parametrize(("longest", "labels"), [(9, 2), (4, 2), (3, 1)])
def test_a_row_is_cut_at_its_end(tmp_path: Path, longest: int, labels: int) -> None:
    row = Example(b"", "train.jsonl:1", tokens([5, 6, 7, 8], (2, 4)))
    found, (there,) = written(tmp_path / "rows", longest, [row])
    assert there["input_ids"] == [5, 6, 7, 8][:longest]
    assert there["labels"] == [IGNORED, IGNORED, 7, 8][:longest]
    assert (found.rows, found.learned, found.cut.count) == (1, labels, int(longest < 4))


def test_what_is_left_out_leaves_the_others_as_they_are(tmp_path: Path) -> None:
    rows = [
        Example(b"", "train.jsonl:1", tokens([1, 2, 3], (0, 1), (1, 2))),
        Example(b"", "train.jsonl:2", tokens([4, 5, 6], (2, 3))),
        Example(b"", "train.jsonl:3", tokens([7, 8], (1, 2))),
    ]
    found, there = written(tmp_path / "rows", 2, rows, [], [rows[1]], rows[2:])
    assert [(row["place"][-1], row["input_ids"], row["labels"]) for row in there] == [
        ("1", [1, 2], [1, 2]),
        ("3", [7, 8], [IGNORED, 8]),
        ("3", [7, 8], [IGNORED, 8]),
    ]
    assert (found.rows, found.tokens, found.highest) == (3, 6, 8)
    assert (found.teaching_nothing.count, found.teaching_nothing.first) == (2, ["train.jsonl:2", "train.jsonl:2"])
    assert (found.cut.count, found.cut.first) == (1, ["train.jsonl:1"])


def test_of_rows_that_are_all_left_out_there_is_an_empty_file(tmp_path: Path) -> None:
    row = Example(b"", "train.jsonl:1", tokens([1, 2], (1, 2)))
    found, there = written(tmp_path / "rows", 1, [row])
    assert (there, found.rows, found.left_out) == ([], 0, 1)


@pytest.mark.parametrize("sizes", [(3,), (1, 2), (2, 1), (1, 1, 1)])
def test_a_labelled_answer_has_the_one_before_it_beside_it_and_the_first_row_is_last(
    tmp_path: Path, sizes: tuple[int, ...]
) -> None:
    rows = [
        Example(
            b"", f"train.jsonl:{number}", tokens([*prompt, *answer], (len(prompt), len(prompt + answer))), None, good
        )
        for number, (prompt, answer, good) in enumerate(
            [([1], [2, 3], True), ([4, 5], [6], False), ([7], [8, 9, 10], True)], 1
        )
    ]
    left = iter(rows)
    _, there = written(tmp_path / "rows", 3, *[[next(left) for _ in range(size)] for size in sizes])
    assert [(row["place"][-1], row["other_input_ids"], row["other_labels"], row["desirable"]) for row in there] == [
        ("2", [4, 5, 2], [IGNORED, IGNORED, 2], False),
        ("3", [7, 6], [IGNORED, 6], True),
        ("1", [1, 8, 9], [IGNORED, 8, 9], True),
    ]


def test_a_pair_has_its_other_answer_beside_it(tmp_path: Path) -> None:
    rows = [
        Example(b"", "train.jsonl:1", tokens([1, 2], (1, 2)), tokens([1, 3, 4], (1, 3))),
        Example(b"", "train.jsonl:2", tokens([1, 2], (1, 2)), tokens([1, 2], (1, 2))),
        Example(b"", "train.jsonl:3", tokens([1, 2], (1, 2)), tokens([1, 2], (0, 2))),
        Example(b"", "train.jsonl:4", tokens([1, 2], (1, 2)), tokens([1, 3], (1, 2))),
    ]
    found, there = written(tmp_path / "rows", 9, rows)
    assert [(row["other_input_ids"], row["other_labels"]) for row in there] == [
        ([1, 3, 4], [IGNORED, 3, 4]),
        ([1, 2], [1, 2]),
        ([1, 3], [IGNORED, 3]),
    ]
    assert (found.alike.count, found.alike.first) == (1, ["train.jsonl:2"])
