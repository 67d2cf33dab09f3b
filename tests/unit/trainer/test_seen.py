"""What a person is shown of prepared rows: every row is in the histogram, and the rows that are shown differ."""

from finetune_trainer.data import seen
from hypothesis import given
from hypothesis import strategies as st

lengths = st.lists(st.integers(1, 10_000), min_size=1, max_size=50)


@given(lengths, st.integers(1, 12))
def test_every_row_is_in_one_step_of_the_histogram(found: list[int], bins: int) -> None:
    steps = seen.histogram(found, bins)
    assert len(steps) == bins
    for low, high, count in steps:
        assert count == sum(low <= length <= high for length in found)
    assert sum(count for _, _, count in steps) == len(found)


@given(lengths)
def test_a_short_a_middling_and_a_long_row_are_shown(found: list[int]) -> None:
    shown = [found[number] for number in seen.examples(found)]
    assert (shown[0], shown[-1]) == (min(found), max(found))
    assert len(shown) == min(3, len(found))
    assert shown == sorted(shown)


def test_of_no_rows_none_is_shown() -> None:
    assert seen.examples([]) == []
