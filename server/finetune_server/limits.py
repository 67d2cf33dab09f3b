"""How much a key may ask for: requests a minute, jobs under way, and files that are kept.

Jobs and files are counted where they are, so that all replicas count alike; requests are counted by each replica for
itself. `callers` knows whose limits count, `app` holds them.
"""

import math
from collections.abc import Callable
from time import monotonic
from typing import Annotated, NamedTuple

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from finetune_server.errors import Problem

# The client tries 429s again by itself; these won't be mended by that.
FINAL = {"X-Should-Retry": "false"}
_MINUTE = 60
# Those whose requests are remembered; beyond, who has asked for nothing lately is forgotten.
_REMEMBERED = 10_000
_More = Annotated[int, Field(ge=1, strict=True)]


class Limits(BaseModel):
    """What somebody may have. `jobs`: under way at once. `files`, `megabytes`: kept in the namespace."""

    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel, populate_by_name=True)

    requests_per_minute: _More = 600
    jobs: _More = 20
    files: _More = 1000
    megabytes: _More = 20_480

    def room_for_a_job(self, under_way: int) -> None:
        """Raises Problem where as many are under way as may be."""
        if under_way >= self.jobs:
            raise Problem(
                429,
                f"{under_way} of this key's jobs are under way, and it may have {self.jobs} at once: wait until one "
                "has ended, or cancel or pause one.",
                code="rate_limit_exceeded",
                headers={"Retry-After": str(_MINUTE), **FINAL},
            )

    def room_for_a_file(self, kept: int, kept_bytes: int, size: int) -> None:
        """Raises Problem where one of `size` bytes beside those that are kept is too much."""
        if kept >= self.files:
            had = f"{kept:,} files are kept, and this key may add to no more than {self.files:,}"
        elif kept_bytes + size > self.megabytes * 2**20:
            had = (
                f"{kept_bytes / 2**20:,.1f} MB are kept, and with this file of {size / 2**20:,.1f} MB it would be more "
                f"than the {self.megabytes:,} MB that this key may add up to"
            )
        else:
            return
        raise Problem(429, f"{had}: delete files that no job needs.", "file", "insufficient_quota", headers=FINAL)


class RateLimit(NamedTuple):
    """How far somebody is from their limit. `reset`: seconds until all of it may be asked for again."""

    limit: int
    remaining: int
    reset: int

    @property
    def headers(self) -> dict[str, str]:
        """OpenAI's."""
        return {
            "X-RateLimit-Limit-Requests": str(self.limit),
            "X-RateLimit-Remaining-Requests": str(self.remaining),
            "X-RateLimit-Reset-Requests": f"{self.reset}s",
        }


class Rates:
    """Requests of everybody: a minute's at once, and then as many as come back with time."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        # When all that was asked for has come back.
        self._full: dict[str, float] = {}

    def take(self, name: str, limit: int) -> RateLimit:
        """A request. Raises Problem where none is left, with how long to wait for one."""
        now, each = self._clock(), _MINUTE / limit
        full = max(self._full.get(name, now), now) + each
        # A hair more than a minute is rounding's.
        if full - now > _MINUTE + each / 2:
            rate_limit = RateLimit(limit, 0, _whole(full - each - now))
            wait = _whole(full - now - _MINUTE)
            raise Problem(
                429,
                f"More than {limit:,} requests a minute: try again in {wait} s.",
                code="rate_limit_exceeded",
                headers={"Retry-After": str(wait), **rate_limit.headers},
            )
        if len(self._full) >= _REMEMBERED:
            self._full = {who: until for who, until in self._full.items() if until > now}
        self._full[name] = full
        return RateLimit(limit, int((_MINUTE - (full - now)) / each + 0.5), _whole(full - now))


def _whole(seconds: float) -> int:
    """So many seconds at least; what is less than a microsecond is rounding's."""
    return math.ceil(round(seconds, 6))
