"""What the user sees while a job runs."""

import io
from datetime import UTC, datetime, timedelta

import pytest
from finetune_cli.progress import Bars, Lines, view
from finetune_cli.words import clock, detail
from finetune_trainer.contract.results import Progress
from rich.console import Console

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TRAINING = Progress(
    stage="train",
    activity="training",
    step=40,
    total_steps=120,
    loss=0.4213,
    validation_loss=0.5,
    tokens_per_second=1180.4,
    eta=NOW + timedelta(seconds=130),
)


def console(terminal: bool) -> tuple[Console, io.StringIO]:
    written = io.StringIO()
    return Console(file=written, force_terminal=terminal, width=120, color_system=None), written


def test_training_is_told_with_step_loss_speed_and_time_left() -> None:
    assert detail(TRAINING, NOW) == "step 40/120 · loss 0.421 · validation 0.500 · 1,180 tokens/s · 2:10 left"


def test_before_there_are_steps_the_activity_is_told() -> None:
    assert detail(Progress(stage="prepare", activity="fetching hf://org/model"), NOW) == "fetching hf://org/model"
    assert detail(Progress(stage="train", activity="loading the model", total_steps=9), NOW) == "loading the model"


def test_of_a_sweep_the_trial_is_told() -> None:
    loading = Progress(stage="train", activity="loading the model", trial=2, trials=4)
    assert detail(loading, NOW) == "trial 2/4 · loading the model"
    assert detail(TRAINING.model_copy(update={"trial": 2, "trials": 4}), NOW).startswith("trial 2/4 · step 40/120 · ")


def test_rows_are_counted_as_they_are_checked() -> None:
    counting = Progress(stage="prepare", activity="counting tokens", step=500, total_steps=10_000)
    assert detail(counting, NOW) == "counting tokens 500/10000"


def test_at_the_last_step_nothing_is_left_to_wait_for() -> None:
    last = TRAINING.model_copy(update={"step": 120})
    assert detail(last, NOW) == "step 120/120 · loss 0.421 · validation 0.500 · 1,180 tokens/s"


@pytest.mark.parametrize(("seconds", "text"), [(-5, "0:00"), (9.6, "0:10"), (130, "2:10"), (7265, "2:01:05")])
def test_time_is_told_as_a_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text


def test_a_terminal_gets_bars_and_a_log_gets_lines() -> None:
    assert isinstance(view(console(True)[0]), Bars)
    assert isinstance(view(console(False)[0]), Lines)


@pytest.mark.parametrize("terminal", [True, False])
def test_every_stage_is_named_with_what_came_of_it(terminal: bool) -> None:
    target, written = console(terminal)
    shown = view(target)
    shown.begin("prepare", "starting")
    shown.end("270 rows to train on.")
    shown.begin("train", "starting")
    shown.update(TRAINING)
    shown.say("train is tried again")
    shown.end("Trained on 9000 tokens.")
    shown.close()
    for words in ("prepare", "270 rows to train on.", "train is tried again", "Trained on 9000 tokens."):
        assert words in written.getvalue()


def test_messages_are_printed_as_they_are() -> None:
    target, written = console(False)
    Lines(target).say("a [bold]bracket[/bold] and a long line: " + "x" * 200)
    assert written.getvalue() == "a [bold]bracket[/bold] and a long line: " + "x" * 200 + "\n"
