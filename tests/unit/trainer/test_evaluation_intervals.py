"""How sure a score is: against a known distribution, and by what must hold for any."""

import tracemalloc

import numpy as np
import pytest
from finetune_trainer.contract.results import CONFIDENCES, Comparison, Score
from finetune_trainer.evaluation import exact, intervals
from finetune_trainer.evaluation.intervals import Differing
from finetune_trainer.evaluation.metrics import Statistic, mean
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

SCORES = st.lists(st.floats(0, 1), min_size=1, max_size=20)


def coins(rows: int, right: float, seed: int = 0) -> Statistic:
    return mean(list((np.random.default_rng(seed).random(rows) < right).astype(float)))


def scored(statistic: Statistic, rows: int, seed: int = 1) -> Score:
    return intervals.score(statistic, intervals.resample(rows, seed))


def width(score: Score) -> float:
    return score.high - score.low


def test_half_right_of_400_is_known_to_five_percent() -> None:
    # 1.96 x sqrt(0.5 x 0.5 / 400) = 0.049
    assert width(scored(mean([0.0, 1.0] * 200), 400)) / 2 == pytest.approx(0.049, abs=0.004)


def test_95_of_100_intervals_have_the_truth() -> None:
    found = [scored(coins(100, 0.7, seed), 100) for seed in range(200)]
    there = sum(score.low <= 0.7 <= score.high for score in found)
    assert 180 <= there <= 198


def test_few_rows_are_less_sure_than_many() -> None:
    assert width(scored(coins(20, 0.7), 20)) > 3 * width(scored(coins(2000, 0.7), 2000))


@pytest.mark.parametrize("score", [0.0, 1.0])
def test_rows_that_are_all_alike_are_not_certain(score: float) -> None:
    """The rule of three: an event not seen in n rows may be as frequent as 3/n."""
    found = scored(mean([score] * 20), 20)
    assert found.score == score
    assert width(found) == pytest.approx(3 / 20, abs=0.001)


def test_what_is_hard_for_both_makes_nobody_less_sure() -> None:
    hard = list((np.random.default_rng(3).random(200) < 0.5).astype(float))
    better = [1.0 if row % 20 == 0 else score for row, score in enumerate(hard)]
    weights = intervals.resample(200, 1)
    paired = intervals.compare(mean(better), mean(hard), weights)
    alone = width(intervals.score(mean(better), weights)) + width(intervals.score(mean(hard), weights))
    assert paired.high - paired.low < alone / 3


def test_the_same_seed_says_the_same_and_another_nearly() -> None:
    statistic = coins(100, 0.7)
    assert scored(statistic, 100, 1) == scored(statistic, 100, 1)
    assert scored(statistic, 100, 1) != scored(statistic, 100, 2)
    assert scored(statistic, 100, 1).low == pytest.approx(scored(statistic, 100, 2).low, abs=0.03)


def test_more_confidence_promises_less() -> None:
    compared = intervals.compare(coins(100, 0.8, 1), coins(100, 0.6, 2), intervals.resample(100, 1))
    bounds = [compared.bounds[name] for name in CONFIDENCES]
    assert bounds == sorted(bounds, reverse=True)
    assert bounds[0] < compared.difference


def test_a_lead_is_as_sure_as_the_normal_formula_says() -> None:
    # One row in two is gained: 0.5 - z x sqrt(0.5 x 0.5 / 400), z one-sided.
    compared = intervals.compare(mean([0.0, 1.0] * 200), mean([0.0] * 400), intervals.resample(400, 1))
    quantiles = {"0.8": 0.842, "0.9": 1.282, "0.95": 1.645, "0.99": 2.326}
    expected = {name: 0.5 - quantile * 0.025 for name, quantile in quantiles.items()}
    assert compared.bounds == pytest.approx(expected, abs=0.006)
    assert (compared.low, compared.high) == pytest.approx((0.451, 0.549), abs=0.004)


def test_a_lead_in_every_row_of_a_few_is_not_certain() -> None:
    compared = intervals.compare(mean([1.0] * 20), mean([0.0] * 20), intervals.resample(20, 1))
    assert (compared.difference, compared.high) == (1, 1)
    assert compared.bounds["0.95"] == pytest.approx(1 - 3 / 20, abs=0.001)
    assert compared.bounds["0.99"] == pytest.approx(1 - 4.605 / 20, abs=0.001)


@given(SCORES, SCORES)
def test_turned_round_a_difference_is_its_negative(left: list[float], right: list[float]) -> None:
    rows = min(len(left), len(right))
    ours, theirs = mean(left[:rows]), mean(right[:rows])
    weights = intervals.resample(rows, 1, count=200)
    one, other = intervals.compare(ours, theirs, weights), intervals.compare(theirs, ours, weights)
    assert one.difference == pytest.approx(-other.difference, abs=2e-4)
    assert one.low == pytest.approx(-other.high, abs=2e-4)


@given(SCORES)
def test_everything_stays_within_its_bounds(scores: list[float]) -> None:
    weights = intervals.resample(len(scores), 1, count=200)
    found = intervals.score(mean(scores), weights)
    assert 0 <= found.low <= found.high <= 1
    compared = intervals.compare(mean(scores), mean([1 - score for score in scores]), weights)
    assert -1 <= compared.low <= compared.high <= 1
    assert all(-1 <= bound <= 1 for bound in compared.bounds.values())
    falling = [compared.bounds[name] for name in CONFIDENCES]
    assert falling == sorted(falling, reverse=True)


def test_every_resample_has_as_many_rows() -> None:
    weights = intervals.resample(7, 1, count=50)
    assert weights.shape == (50, 7)
    assert set(weights.sum(axis=1)) == {7}


def test_a_hundred_thousand_rows_take_little_more_than_a_byte_for_each_draw() -> None:
    rows, count = 100_000, 100
    tracemalloc.start()
    try:
        drawn = intervals.resample(rows, 1, count)
        intervals.compare(coins(rows, 0.7, 1), coins(rows, 0.6, 2), drawn)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # The draws, and a few blocks of floats.
    assert peak < rows * count + 4 * intervals.BLOCK * 8


def test_in_blocks_it_says_what_it_says_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = scored(coins(100, 0.7), 100)
    monkeypatch.setattr(intervals, "BLOCK", 777)
    assert scored(coins(100, 0.7), 100) == whole


def against(wins: int, losses: int, rows: int = 200) -> Comparison:
    """Scores of 0 and 1 that differ in so many rows."""
    ours = [1.0] * wins + [0.0] * (rows - wins)
    theirs = [0.0] * wins + [1.0] * losses + [0.0] * (rows - wins - losses)
    return intervals.compare(mean(ours), mean(theirs), intervals.resample(rows, 42), Differing(wins, losses))


class TestMcNemar:
    """Expected values by scipy.stats.binomtest."""

    def test_three_wins_of_200_are_no_certainty(self) -> None:
        found = against(3, 0)
        assert found.bounds["0.95"] <= 0
        assert found.low <= 0 < found.high

    def test_five_wins_and_no_loss_are_the_fewest_that_are(self) -> None:
        assert against(4, 0).bounds["0.95"] <= 0
        assert against(5, 0).bounds["0.95"] > 0

    def test_it_takes_nothing_from_a_clear_lead_or_from_a_loss(self) -> None:
        assert against(40, 10).bounds["0.95"] == pytest.approx(0.15 - 1.645 * 0.034, abs=0.01)
        assert against(0, 40).high < 0
        assert against(0, 3).high >= 0

    @pytest.mark.parametrize(("wins", "losses"), [(3, 0), (9, 1), (12, 5), (5, 12), (500, 450), (0, 0)])
    def test_it_is_the_binomial_test(self, wins: int, losses: int) -> None:
        both = max(1, wins + losses)
        assert exact.tail(wins, wins + losses) == pytest.approx(binomtest(wins, both, alternative="greater").pvalue)
        assert exact.p_value(wins, losses) == pytest.approx(binomtest(wins, both).pvalue if wins + losses else 1)

    def test_the_smallest_lead_is_the_first_that_convinces(self) -> None:
        for differing in range(5, 60):
            lead = exact.smallest_lead(differing, 0.95)
            wins = (differing + lead) // 2
            assert exact.tail(wins, differing) <= 0.05 < exact.tail(wins - 1, differing)
        assert exact.smallest_lead(3, 0.95) == 5

    def test_many_rows_take_no_time(self) -> None:
        assert exact.p_value(50_300, 49_700) == pytest.approx(binomtest(50_300, 100_000).pvalue)
