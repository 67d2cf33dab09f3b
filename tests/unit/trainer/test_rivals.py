"""Which trials of a sweep end early."""

from pathlib import Path

import pytest
from finetune_trainer.contract.config import Workspace
from finetune_trainer.training.rivals import Rivals, outdone

STEPS = 100


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


def rivals(workspace: Workspace, number: int) -> Rivals:
    return Rivals(workspace, number, count=4)


@pytest.mark.parametrize(
    ("loss", "others", "ends"),
    [
        (0.5, [], False),
        (0.5, [0.4], True),
        (0.5, [0.6], False),
        (0.5, [0.5], False),
        (0.5, [0.4, 0.6], False),
        (0.5, [0.4, 0.4], True),
        (0.5, [0.4, 0.4, 0.6], True),
        (0.5, [0.4, 0.6, 0.6], False),
    ],
)
def test_it_goes_on_among_the_better_half(loss: float, others: list[float], ends: bool) -> None:
    assert outdone(loss, others) is ends


def test_it_is_held_against_those_that_came_as_far(workspace: Workspace) -> None:
    first, second = rivals(workspace, 1), rivals(workspace, 2)
    assert not first.outdo(25, STEPS, 0.5)
    assert not second.outdo(25, STEPS, 0.4)
    # The first one is still at its first quarter.
    assert not second.outdo(50, STEPS, 9.0)
    assert first.outdo(50, STEPS, 9.1)


def test_steps_are_held_against_each_other_by_their_share_of_all(workspace: Workspace) -> None:
    assert not rivals(workspace, 1).outdo(3, 10, 0.4)
    assert rivals(workspace, 2).outdo(250, 1000, 0.5)


def test_before_a_quarter_between_the_rungs_and_at_the_end_nothing_ends(workspace: Workspace) -> None:
    rivals(workspace, 1).outdo(25, STEPS, 0.1)
    rivals(workspace, 1).outdo(50, STEPS, 0.1)
    second = rivals(workspace, 2)
    assert not second.outdo(24, STEPS, 9.0)
    assert second.outdo(25, STEPS, 9.0)
    assert not second.outdo(30, STEPS, 9.0)
    assert not second.outdo(STEPS, STEPS, 9.0)


def test_killed_after_a_rung_it_looks_again(workspace: Workspace) -> None:
    rivals(workspace, 1).outdo(25, STEPS, 0.1)
    assert rivals(workspace, 2).outdo(25, STEPS, 0.2)
    assert rivals(workspace, 2).outdo(25, STEPS, 0.2)


def test_what_is_no_number_is_left_to_the_training_itself(workspace: Workspace) -> None:
    assert not rivals(workspace, 1).outdo(25, STEPS, float("nan"))
    assert not rivals(workspace, 2).outdo(25, STEPS, 9.0)
