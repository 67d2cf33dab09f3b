"""Watching a job: redrawn in place on a terminal, a line at each change elsewhere, and how it ends."""

import io
from collections.abc import Generator

import pytest
from finetune_cli import follow
from finetune_cli.errors import ExitCode, UserError
from finetune_cli.follow import Lines, wait
from finetune_cli.jobs import Job
from finetune_cli.progress import LINE_SECONDS
from rich.console import Console
from statuses import Raw, job, serving, training


class Seen:
    """A place that has seen a job go through these states; `closed`: whose watches have ended."""

    def __init__(self, *states: Job) -> None:
        self.states = states
        self.closed: list[str] = []

    def job(self, name: str) -> Job:
        return self.states[-1]

    def watch(self, name: str, seconds: float | None) -> Generator[Job, None, None]:
        try:
            yield from self.states
        finally:
            self.closed.append(name)


def at(step: int) -> Raw:
    found = training()
    return found | {"progress": found["progress"] | {"step": step}}


def test_on_a_terminal_the_last_state_is_what_stays() -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=120, color_system=None)
    place = Seen(job(training()), job(serving()))
    _, found = wait(place, "recipes", None, console)
    assert found.code == ExitCode.DONE
    assert screen.getvalue().rindex("recipes  Serving  revision bbbb0002") > screen.getvalue().rindex("Training")
    assert place.closed == ["recipes"]


def test_elsewhere_a_line_tells_what_is_new_and_now_and_then_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(width=300, color_system=None)
    lines = Lines(console)
    with console.capture() as capture:
        for seconds, step in ((100.0, 40), (101.0, 41), (101.0 + LINE_SECONDS, 55)):
            monkeypatch.setattr(follow.time, "monotonic", lambda seconds=seconds: seconds)
            lines.show(job(at(step)))
        lines.show(job(serving()))
    told = capture.get().splitlines()
    assert [line.partition(" · loss")[0] for line in told[:2]] == [
        "Training · revision bbbb0002 · step 40/120",
        "Training · revision bbbb0002 · step 55/120",
    ]
    assert "Trained: The train Job is running." in told[0]
    assert "Trained" not in told[1], "the reason is told once"
    assert told[2].startswith("Serving · revision bbbb0002: http://recipes.kitchen.svc/v1 answers")
    assert len(told) == 3


def test_a_time_that_is_over_says_where_it_is_and_that_it_goes_on() -> None:
    with pytest.raises(UserError) as error:
        wait(Seen(job(training())), "recipes", 60, None)
    assert error.value.code == ExitCode.TIMED_OUT
    assert error.value.message.startswith(
        "recipes is not at its end after 60 s, and goes on. It is Training: Trained: The train Job is running."
    )
