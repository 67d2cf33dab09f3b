"""The arithmetic of a run: who takes which rows, the order of the rows, when to log and validate, when it will end."""

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from finetune_trainer.contract.outcome import Outcome, StageError
from finetune_trainer.training import schedule
from hypothesis import given
from hypothesis import strategies as st


def test_devices_share_the_rows_of_a_step() -> None:
    assert schedule.share(8, 2) == 4


def test_a_batch_that_the_devices_cannot_share_is_told() -> None:
    with pytest.raises(StageError) as raised:
        schedule.share(8, 3)

    assert raised.value.outcome == Outcome.CONFIG_INVALID
    assert raised.value.message == ("training.batchSize 8 can't be shared evenly by 3 devices; choose a multiple of 3.")


@given(st.integers(1, 60), st.integers(1, 100), st.integers())
def test_every_row_is_taken_equally_often(count: int, wanted: int, seed: int) -> None:
    taken = Counter(schedule.order(count, wanted, seed))

    assert taken.total() == wanted
    times = [taken[row] for row in range(count)]
    assert max(times) - min(times) <= 1


@given(st.integers(1, 60), st.integers(1, 100), st.integers())
def test_the_order_is_the_seeds_alone_and_a_longer_run_begins_alike(count: int, wanted: int, seed: int) -> None:
    assert schedule.order(count, wanted, seed) == schedule.order(count, wanted + 7, seed)[:wanted]


def test_another_seed_and_another_epoch_have_another_order() -> None:
    first = schedule.order(32, 64, seed=1)

    assert first != schedule.order(32, 64, seed=2)
    assert first[:32] != first[32:]


@pytest.mark.parametrize(("total", "steps"), [(1, 1), (40, 2), (1000, 30)])
def test_the_warm_up_is_three_percent_in_even_steps(total: int, steps: int) -> None:
    rising = [schedule.rate(step, total) for step in range(steps)]
    assert rising == pytest.approx([(step + 1) / steps for step in range(steps)])
    after = [schedule.rate(step, total) for step in range(steps, total)]
    assert after == sorted(after, reverse=True)


@pytest.mark.parametrize("total", [1, 2, 3, 33, 34, 100, 1001])
def test_every_step_learns_something_and_none_more_than_the_peak(total: int) -> None:
    rates = [schedule.rate(step, total) for step in range(total)]
    assert max(rates) == 1
    assert min(rates) > 0


@pytest.mark.parametrize(("total", "steps"), [(1, 1), (500, 1), (501, 2), (10_000, 20)])
def test_the_metrics_stay_drawable(total: int, steps: int) -> None:
    assert schedule.log_every(total) == steps


@pytest.mark.parametrize(
    ("total", "batch_size", "rows", "steps"),
    [(100, 8, 24, 25), (100, 8, 240, 100), (2, 8, 1, 1), (100, 8, 10_000, 4167)],
)
def test_validation_takes_a_tenth_of_the_time_at_most(total: int, batch_size: int, rows: int, steps: int) -> None:
    assert schedule.validate_every(total, batch_size, rows) == steps


def test_the_end_is_expected_at_the_pace_so_far() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)

    assert schedule.expected_end(now, 20.0, done=10, left=30) == now + timedelta(minutes=1)
    assert schedule.expected_end(now, 20.0, done=0, left=30) is None
