"""The cut of train: the same rows every time, none of them twice, none in two splits."""

import json
from collections import Counter
from collections.abc import Sequence

import pytest
from finetune_trainer.contract.outcome import Outcome, StageError
from finetune_trainer.data.examples import encode
from finetune_trainer.data.split import cut
from hypothesis import assume, given
from hypothesis import strategies as st

NAME = "s3://bucket/train.jsonl"
fractions = st.dictionaries(st.sampled_from(["test", "validation"]), st.floats(0.01, 0.4))


def row(text: str) -> bytes:
    return encode({"text": text})


def texts(rows: Sequence[bytes], fractions: dict[str, float], seed: int = 42) -> dict[str, list[str]]:
    """What is in each split."""
    found: dict[str, list[str]] = {}
    for line, split in zip(rows, cut(rows, fractions, seed, NAME), strict=True):
        found.setdefault(split, []).append(json.loads(line)["text"])
    return found


NUMBERED = [row(f"row {number}") for number in range(1000)]


@given(
    rows=st.lists(st.sampled_from("abcdefghijklmnop"), min_size=1, max_size=60), wanted=fractions, seed=st.integers()
)
def test_every_row_is_in_one_split_and_its_twins_with_it(rows: list[str], wanted: dict[str, float], seed: int) -> None:
    try:
        found = texts([row(text) for text in rows], wanted, seed)
    except StageError:
        assume(False)
        return
    assert sum((Counter(part) for part in found.values()), Counter()) == Counter(rows)
    assert sum(len(set(part)) for part in found.values()) == len(set(rows))
    assert found.keys() == {"train", *wanted}
    assert all(found.values())


@given(seed=st.integers(), order=st.randoms(use_true_random=False))
def test_the_cut_depends_on_the_seed_and_the_rows_and_not_on_their_order(seed: int, order: "st.random.Random") -> None:
    shuffled = NUMBERED[:50]
    order.shuffle(shuffled)
    before, after = (texts(rows, {"test": 0.2}, seed) for rows in (NUMBERED[:50], shuffled))
    assert {name: set(part) for name, part in before.items()} == {name: set(part) for name, part in after.items()}


def test_another_seed_cuts_other_rows() -> None:
    cuts = [frozenset(texts(NUMBERED, {"test": 0.1}, seed)["test"]) for seed in range(3)]
    assert len(set(cuts)) == 3


def test_fractions_are_of_all_rows() -> None:
    found = texts(NUMBERED, {"test": 0.1, "validation": 0.2})
    assert {name: len(rows) for name, rows in found.items()} == {"train": 700, "test": 100, "validation": 200}


def test_every_split_keeps_the_order_of_the_file() -> None:
    everything = [f"row {number}" for number in range(1000)]
    for rows in texts(NUMBERED, {"test": 0.3}).values():
        assert [row for row in everything if row in rows] == rows


def test_a_validation_split_that_is_added_leaves_test_as_it_was() -> None:
    alone = texts(NUMBERED, {"test": 0.1})["test"]
    assert texts(NUMBERED, {"test": 0.1, "validation": 0.1})["test"] == alone


def test_a_small_fraction_of_few_rows_is_one_row() -> None:
    assert len(texts(NUMBERED[:5], {"test": 0.01})["test"]) == 1


def test_no_fraction_leaves_everything_in_train() -> None:
    assert cut(NUMBERED, {}, 42, NAME) == ["train"] * len(NUMBERED)


@pytest.mark.parametrize(
    ("rows", "wanted", "sentence"),
    [
        (
            NUMBERED[:1],
            {"test": 0.5},
            f"dataset.test.fraction 0.5 can't be cut from the 1 row of {NAME}: nothing is left for train. Add rows, "
            "lower the fraction, or give the split a source of its own.",
        ),
        (
            NUMBERED[:10],
            {"test": 0.6, "validation": 0.5},
            f"dataset.test.fraction 0.6 and dataset.validation.fraction 0.5 can't be cut from the 10 rows of {NAME}: "
            "nothing is left for train. Add rows, lower the fraction, or give the split a source of its own.",
        ),
        (
            [row("same")] * 10,
            {"validation": 0.1},
            f"dataset.validation.fraction 0.1 can't be cut from the 10 rows of {NAME}, of which 1 differs (equal rows "
            "stay together): nothing is left for train. Add rows, lower the fraction, or give the split a source of "
            "its own.",
        ),
        (
            [row("a"), row("b")] * 5,
            {"test": 0.1, "validation": 0.1},
            f"dataset.test.fraction 0.1 and dataset.validation.fraction 0.1 can't be cut from the 10 rows of {NAME}, "
            "of which 2 differ (equal rows stay together): nothing is left for train. Add rows, lower the fraction, or "
            "give the split a source of its own.",
        ),
    ],
)
def test_too_few_rows_for_the_splits_is_said(rows: list[bytes], wanted: dict[str, float], sentence: str) -> None:
    with pytest.raises(StageError) as error:
        cut(rows, wanted, 42, NAME)
    assert (error.value.outcome, error.value.message) == (Outcome.DATA_INVALID, sentence)


def test_the_cut_of_a_seed_is_the_same_for_ever() -> None:
    assert texts(NUMBERED[:10], {"test": 0.2})["test"] == ["row 3", "row 8"]
