"""How often, and for how long, a server is asked that does not answer, or that answers that it can't now.

`registry`, `filesystems.https` and what the hub's client asks but once are tried again here, as oras and skopeo do it;
s3fs and the hub's client try again by themselves, and are told the same limits (`filesystems.s3`, `hub`). What fails
for longer is the stage's next run's, which its Job begins.
"""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from typing import ParamSpec, TypeVar

import httpx

from finetune_trainer.contract.outcome import Outcome, StageError

# Statuses that another try may not get: too slow, too many, and what is the server's own trouble.
PASSING = (408, 429, 500, 502, 503, 504)
# The longest wait, in seconds, also where a server asks for a longer one.
LONGEST = 60.0
_DOUBLING = 2.0

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Patience:
    """`tries`: how often a request is made at most. `wait`: seconds before the second time, doubled before each other.
    `silence`: the seconds after which a server that sends nothing is given up.
    """

    tries: int = 5
    wait: float = 0.5
    silence: float = 120.0

    @property
    def timeout(self) -> httpx.Timeout:
        """The same for each step of a request."""
        return httpx.Timeout(self.silence)

    def pause(self, error: httpx.HTTPError, tried: int) -> float | None:
        """Seconds until a request is made again that failed `tried` times; None where that would not help."""
        if tried >= self.tries or not _passes(error):
            return None
        asked = _retry_after(error)
        if asked is not None:
            return min(asked, LONGEST)
        return min(self.wait * _DOUBLING ** (tried - 1), LONGEST)


def given(environment: Mapping[str, str] = os.environ) -> Patience:
    """TRANSFER_TRIES, TRANSFER_WAIT_SECONDS and TRANSFER_TIMEOUT_SECONDS. Raises StageError where one is no number."""
    return Patience(
        max(1, int(_number(environment, "TRANSFER_TRIES", Patience.tries))),
        _number(environment, "TRANSFER_WAIT_SECONDS", Patience.wait),
        _number(environment, "TRANSFER_TIMEOUT_SECONDS", Patience.silence),
    )


def persistent(request: Callable[P, T]) -> Callable[P, T]:
    """`request`, made again while it fails of what may pass. It has to be one that can be made twice."""

    @wraps(request)
    def tried(*args: P.args, **kwargs: P.kwargs) -> T:
        patience, failed = given(), 0
        while True:
            try:
                return request(*args, **kwargs)
            except httpx.HTTPError as error:
                failed += 1
                pause = patience.pause(error, failed)
                if pause is None:
                    raise
            time.sleep(pause)

    return tried


def _passes(error: httpx.HTTPError) -> bool:
    response = getattr(error, "response", None)
    if response is not None:
        return bool(response.status_code in PASSING)
    return isinstance(error, httpx.TimeoutException | httpx.NetworkError | httpx.RemoteProtocolError)


def _retry_after(error: httpx.HTTPError) -> float | None:
    """The seconds that a server asks to wait for; a date, which few send, is not read."""
    response = getattr(error, "response", None)
    asked = response.headers.get("Retry-After", "") if response is not None else ""
    return float(asked) if asked.isdecimal() else None


def _number(environment: Mapping[str, str], name: str, otherwise: float) -> float:
    text = environment.get(name) or str(otherwise)
    try:
        found = float(text)
    except ValueError:
        found = -1
    if not 0 <= found < float("inf"):
        raise StageError(Outcome.CONFIG_INVALID, f"{name} is {text}: it has to be a number, 0 or more.")
    return found
