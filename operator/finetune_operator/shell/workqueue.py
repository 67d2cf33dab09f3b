"""A small keyed work queue: what changed is looked at once, each key by one worker at a time, failures later and later.

`informer`, `store` and `progress` add keys, `__main__` runs the workers. The shape is client-go's workqueue: a key
added while it is worked on is worked on once more afterwards.
"""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, Protocol, TypeVar

from finetune_operator.shell import metrics
from finetune_operator.shell.errors import Unavailable

logger = logging.getLogger(__name__)
K = TypeVar("K", bound=Hashable)

# Each waits for the API server most of its time, which answers many at once: client-go's controllers have 5 to 20.
WORKERS = 16
# Seconds until a failed key is tried again: doubled each time, up to the limit, and spread by up to half.
FIRST_BACKOFF, LONGEST_BACKOFF = 0.5, 60.0


class Timer(Protocol):
    """What `loop.call_later` returns."""

    def cancel(self) -> None:
        """Not now."""


Work = Callable[[K], Awaitable[float | None]]
Later = Callable[[float, Callable[[], None]], Timer]


def backoff(failures: int, spread: Callable[[], float] = random.random) -> float:
    """Seconds to wait after so many failures in a row."""
    longest = min(FIRST_BACKOFF * 2.0 ** min(failures - 1, 10), LONGEST_BACKOFF)
    return longest * (1 - spread() / 2)


class Queue(Generic[K]):
    """Keys to work on. They may be added before there is anybody who works."""

    def __init__(self, later: Later | None = None) -> None:
        self._later = later
        self._ready: asyncio.Queue[K] = asyncio.Queue()
        self._waiting: set[K] = set()
        self._running: set[K] = set()
        self._again: set[K] = set()
        self._timers: dict[K, Timer] = {}
        self._failures: dict[K, int] = {}

    def add(self, key: K) -> None:
        """Have a key worked on, now or as soon as the work on it under way has ended."""
        if timer := self._timers.pop(key, None):
            timer.cancel()
        if key in self._running:
            self._again.add(key)
        elif key not in self._waiting:
            self._waiting.add(key)
            self._ready.put_nowait(key)
        metrics.QUEUE.set(len(self._waiting))

    async def run(self, work: Work[K]) -> None:
        """Work until cancelled. `work` returns the seconds after which to look at the key again, or None."""
        async with asyncio.TaskGroup() as workers:
            for _ in range(WORKERS):
                workers.create_task(self._worker(work))

    async def _worker(self, work: Work[K]) -> None:
        while True:
            await self.step(work)

    async def step(self, work: Work[K]) -> None:
        """Wait for a key and work on it once."""
        key = await self._ready.get()
        self._waiting.discard(key)
        self._running.add(key)
        metrics.QUEUE.set(len(self._waiting))
        start = time.monotonic()
        # A task of its own, so that whatever one key's work raises is that key's alone.
        task = asyncio.ensure_future(work(key))
        try:
            await asyncio.wait({task})
        finally:
            task.cancel()
            self._running.discard(key)
        metrics.DURATION.observe(time.monotonic() - start)
        self._finish(key, self._seconds(key, task))

    def _seconds(self, key: K, task: "asyncio.Future[float | None]") -> float | None:
        """When to look again: as the work says, or after a backoff when it failed."""
        error = task.exception()
        if error is None:
            self._failures.pop(key, None)
            metrics.RECONCILES.labels("success").inc()
            return task.result()
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        metrics.RECONCILES.labels("error").inc()
        if isinstance(error, Unavailable):
            logger.warning("%s: the API server can't answer now, trying again: %s", key, error)
        else:
            logger.error("%s: the reconcile failed, trying again", key, exc_info=error)
        return max(backoff(failures), error.seconds if isinstance(error, Unavailable) else 0)

    def _finish(self, key: K, seconds: float | None) -> None:
        if key in self._again:
            self._again.discard(key)
            self.add(key)
        elif seconds is not None:
            later = self._later or asyncio.get_running_loop().call_later
            self._timers[key] = later(seconds, lambda: self.add(key))
