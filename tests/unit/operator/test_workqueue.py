"""The queue, driven step by step with a clock that only moves when a test says so."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from finetune_operator.errors import Unavailable
from finetune_operator.workqueue import FIRST_BACKOFF, LONGEST_BACKOFF, Queue, backoff


@dataclass
class Clock:
    """Keeps what was asked to be done later."""

    planned: list[tuple[float, Callable[[], None]]] = field(default_factory=list)
    cancelled: int = 0

    def __call__(self, seconds: float, do: Callable[[], None]) -> "Clock":
        self.planned.append((seconds, do))
        return self

    def cancel(self) -> None:
        self.cancelled += 1

    def strike(self) -> float:
        seconds, do = self.planned.pop(0)
        do()
        return seconds


class Work:
    """Work that counts, and ends as a test says."""

    def __init__(self, *endings: float | Exception | None) -> None:
        self.endings = list(endings)
        self.done: list[str] = []
        self.gate: asyncio.Event | None = None

    async def __call__(self, key: str) -> float | None:
        self.done.append(key)
        if self.gate:
            await self.gate.wait()
        ending = self.endings.pop(0) if self.endings else None
        if isinstance(ending, Exception):
            raise ending
        return ending


async def test_a_key_added_twice_is_worked_on_once() -> None:
    work = Work()
    queue: Queue[str] = Queue(work)
    queue.add("a")
    queue.add("a")
    queue.add("b")
    await queue.step()
    await queue.step()
    assert work.done == ["a", "b"]


async def test_a_key_added_while_it_is_worked_on_is_worked_on_once_more_and_never_twice_at_a_time() -> None:
    work = Work()
    work.gate = asyncio.Event()
    queue: Queue[str] = Queue(work)
    queue.add("a")
    first = asyncio.create_task(queue.step())
    await asyncio.wait({first}, timeout=0)
    while not work.done:
        await asyncio.wait({first}, timeout=0.01)
    queue.add("a")
    queue.add("a")
    assert work.done == ["a"]
    work.gate.set()
    await first
    await queue.step()
    assert work.done == ["a", "a"]


async def test_work_that_asks_for_another_look_gets_it_then() -> None:
    clock, work = Clock(), Work(10.0)
    queue: Queue[str] = Queue(work, clock)
    queue.add("a")
    await queue.step()
    assert clock.strike() == 10.0
    await queue.step()
    assert work.done == ["a", "a"]


async def test_a_change_comes_before_the_planned_look_and_replaces_it() -> None:
    clock, work = Clock(), Work(10.0)
    queue: Queue[str] = Queue(work, clock)
    queue.add("a")
    await queue.step()
    queue.add("a")
    assert clock.cancelled == 1


@pytest.mark.parametrize("error", [Unavailable("conflict"), ZeroDivisionError("a fault of ours")])
async def test_failures_are_tried_again_later_and_later_and_disturb_no_other_key(error: Exception) -> None:
    clock, work = Clock(), Work(error, error, None)
    queue: Queue[str] = Queue(work, clock)
    queue.add("a")
    await queue.step()
    first = clock.strike()
    await queue.step()
    assert FIRST_BACKOFF / 2 <= first <= FIRST_BACKOFF < clock.planned[0][0] * 2
    queue.add("b")
    await queue.step()
    assert work.done == ["a", "a", "b"]


def test_the_backoff_doubles_up_to_its_limit_and_is_spread() -> None:
    assert [backoff(failures, spread=lambda: 0.0) for failures in (1, 2, 3, 20)] == [0.5, 1.0, 2.0, LONGEST_BACKOFF]
    assert backoff(3, spread=lambda: 1.0) == 1.0
