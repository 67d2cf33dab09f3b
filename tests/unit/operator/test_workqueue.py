"""The queue on a clock of the tests: who is worked on when, and how often."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from finetune_operator.shell.errors import Unavailable
from finetune_operator.shell.workqueue import FIRST_BACKOFF, LONGEST_BACKOFF, Queue, backoff


@dataclass
class Entry:
    """Something to call later."""

    seconds: float
    call: Callable[[], None]
    cancelled: bool = False

    def cancel(self) -> None:
        self.cancelled = True


@dataclass
class Clock:
    """Keeps what is to be called later until a test says that it is time."""

    entries: list[Entry] = field(default_factory=list)

    def __call__(self, seconds: float, call: Callable[[], None]) -> Entry:
        self.entries.append(Entry(seconds, call))
        return self.entries[-1]

    @property
    def waiting(self) -> list[float]:
        return [entry.seconds for entry in self.entries if not entry.cancelled]

    def pass_time(self) -> None:
        due, self.entries = self.entries, []
        for entry in due:
            if not entry.cancelled:
                entry.call()


class Work:
    """Notes which key is worked on, and ends as it is told."""

    def __init__(self, *endings: float | Exception | None) -> None:
        self.done: list[str] = []
        self.endings = list(endings)
        self.gate = asyncio.Event()
        self.gate.set()
        self.started = asyncio.Event()

    async def __call__(self, key: str) -> float | None:
        self.done.append(key)
        self.started.set()
        await self.gate.wait()
        ending = self.endings.pop(0) if self.endings else None
        if isinstance(ending, Exception):
            raise ending
        return ending


async def idle(queue: Queue[str], work: Work) -> bool:
    """Whether there is nothing to work on."""
    step = asyncio.ensure_future(queue.step(work))
    await asyncio.wait({step}, timeout=0)
    return step.cancel()


async def test_a_key_that_waits_is_worked_on_once() -> None:
    work = Work()
    queue: Queue[str] = Queue(Clock())
    for key in ("a", "b", "a", "a"):
        queue.add(key)
    await queue.step(work)
    await queue.step(work)
    assert work.done == ["a", "b"]
    assert await idle(queue, work)


async def test_a_key_that_changes_while_it_is_worked_on_is_worked_on_once_more_afterwards() -> None:
    work = Work()
    work.gate.clear()
    queue: Queue[str] = Queue(Clock())
    queue.add("a")
    running = asyncio.ensure_future(queue.step(work))
    await asyncio.wait({running}, timeout=0)
    queue.add("a")
    queue.add("a")
    assert await idle(queue, work), "no second worker takes the same key"
    work.gate.set()
    await running
    await queue.step(work)
    assert work.done == ["a", "a"]
    assert await idle(queue, work)


async def test_work_says_when_to_look_again() -> None:
    clock = Clock()
    work = Work(10.0)
    queue: Queue[str] = Queue(clock)
    queue.add("a")
    await queue.step(work)
    assert clock.waiting == [10.0]
    clock.pass_time()
    await queue.step(work)
    assert clock.waiting == []


async def test_a_change_takes_the_place_of_the_later_look() -> None:
    clock = Clock()
    work = Work(10.0)
    queue: Queue[str] = Queue(clock)
    queue.add("a")
    await queue.step(work)
    queue.add("a")
    assert clock.waiting == []
    await queue.step(work)
    assert await idle(queue, work)


@pytest.mark.parametrize("error", [Unavailable("too many requests"), ValueError("a bug")])
async def test_failures_are_tried_again_later_and_later_until_one_succeeds(error: Exception) -> None:
    clock = Clock()
    work = Work(*[error] * 4, None, error)
    queue: Queue[str] = Queue(clock)
    queue.add("a")
    waits = []
    for _ in range(4):
        await queue.step(work)
        waits += clock.waiting
        clock.pass_time()
    assert waits == sorted(waits)
    assert waits[-1] > 2 * waits[0]
    await queue.step(work)
    queue.add("a")
    await queue.step(work)
    assert clock.waiting[0] <= FIRST_BACKOFF, "success forgets the failures"


async def test_one_keys_failure_keeps_no_other_waiting() -> None:
    work = Work(ValueError("a bug"))
    queue: Queue[str] = Queue(Clock())
    queue.add("bad")
    queue.add("good")
    await queue.step(work)
    await queue.step(work)
    assert work.done == ["bad", "good"]


def test_the_backoff_doubles_up_to_a_limit_and_spreads() -> None:
    assert [backoff(failures, lambda: 0.0) for failures in (1, 2, 3)] == [0.5, 1.0, 2.0]
    assert backoff(10_000, lambda: 0.0) == LONGEST_BACKOFF
    assert backoff(1, lambda: 1.0) == FIRST_BACKOFF / 2


async def test_cancelling_the_workers_ends_the_work_under_way() -> None:
    work = Work()
    work.gate.clear()
    queue: Queue[str] = Queue(Clock())
    queue.add("a")
    running = asyncio.ensure_future(queue.run(work))
    await work.started.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert work.done == ["a"]
    assert asyncio.all_tasks() == {asyncio.current_task()}
