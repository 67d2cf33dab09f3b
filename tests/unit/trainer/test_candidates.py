"""Of the weights that were validated the best are kept, complete or absent, whatever interrupts training."""

import math
from pathlib import Path

import pytest
from finetune_trainer.training.candidates import Candidates


def offer(candidates: Candidates, step: int, loss: float) -> None:
    candidates.offer(step, loss, lambda directory: (directory / "weights").write_text(f"{step}: {loss}") and None)


def steps(candidates: Candidates) -> list[int]:
    return [candidate.step for candidate in candidates.ranked()]


@pytest.fixture
def candidates(tmp_path: Path) -> Candidates:
    return Candidates(tmp_path / "best", count=2)


def test_those_with_the_lowest_losses_are_kept_the_best_first(candidates: Candidates) -> None:
    for step, loss in ((10, 0.5), (20, 0.3), (30, 0.4), (40, 0.6)):
        offer(candidates, step, loss)

    assert steps(candidates) == [20, 30]
    assert sorted(path.name for path in candidates.root.iterdir()) == ["step-20", "step-30"]
    assert (candidates.ranked()[0].path / "weights").read_text() == "20: 0.3"


def test_of_two_that_are_as_good_the_later_one_comes_first(candidates: Candidates) -> None:
    offer(candidates, 10, 0.3)
    offer(candidates, 20, 0.3)

    assert steps(candidates) == [20, 10]


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_no_number_is_worse_than_any(candidates: Candidates, loss: float) -> None:
    offer(candidates, 10, loss)
    assert steps(candidates) == [10]
    offer(candidates, 20, 9.0)
    offer(candidates, 30, 8.0)

    assert steps(candidates) == [30, 20]


def test_a_run_that_comes_by_a_step_again_replaces_what_the_first_one_left(candidates: Candidates) -> None:
    offer(candidates, 10, 0.3)
    offer(candidates, 10, 0.4)

    assert [candidate.loss for candidate in candidates.ranked()] == [0.4]
    assert (candidates.ranked()[0].path / "weights").read_text() == "10: 0.4"


def test_a_half_written_one_is_neither_found_nor_left(candidates: Candidates) -> None:
    def killed(directory: Path) -> None:
        (directory / "weights").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        candidates.offer(10, 0.3, killed)

    assert steps(candidates) == []
    candidates.clean()
    assert list(candidates.root.iterdir()) == []


def test_fewer_are_kept_once_fewer_are_asked_for(candidates: Candidates) -> None:
    offer(candidates, 10, 0.3)
    offer(candidates, 20, 0.4)

    fewer = Candidates(candidates.root, count=1)

    assert steps(fewer) == [10]
    offer(fewer, 30, 0.5)
    assert [path.name for path in fewer.root.iterdir()] == ["step-10"]
