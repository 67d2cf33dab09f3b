"""Listening for the signals that ask a process to stop: SIGTERM, a pod's, and SIGINT, which is Ctrl-C.

Used by all that do something else about them than to end at once: `frame`, `follow`, `sweep`, `adapters` and
`carried`.
"""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def handled(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Call `handler` for them inside the block; what they did before is restored at its end."""
    before = {number: signal.signal(number, handler) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)
