"""How busy an engine is, by vLLM's own metrics: requests that it computes and that wait, and since when there are none.

Asked of each pod of an Engine, whatever its image and whether it loads adapters or not.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain
from math import isfinite
from typing import Any

from finetune_operator import names
from finetune_operator.kinds.questions import Topic

_RUNNING, _WAITING = "vllm:num_requests_running", "vllm:num_requests_waiting"
_ENDED, _CACHE = "vllm:request_success_total", "vllm:kv_cache_usage_perc"
_NAMES = (_RUNNING, _WAITING, _ENDED, _CACHE)
_BEGINNINGS = tuple(name.encode() for name in _NAMES)
# vLLM keeps a line for every set of adapters that it has ever computed together.
_MOST = 4 * 2**20


@dataclass(frozen=True)
class Load:
    """What a pod told `at` a time. `ended`: requests that it has answered; `cache`: the share of its cache for
    conversations that is taken, None where it doesn't say; `since`: when it was last known to have had a request, or,
    before that, when it was first heard.
    """

    running: int
    waiting: int
    ended: float
    cache: float | None
    since: datetime
    at: datetime

    @property
    def idle(self) -> timedelta:
        """For how long it has had no request, as far as it told: one that is mute may well have some."""
        return self.at - self.since


def read(text: bytes, before: Load | None, now: datetime) -> Load:
    """What the metrics say. Raises ValueError where they are no engine's."""
    found: dict[str, list[float]] = {name: [] for name in _NAMES}
    for name, value in _samples(text):
        found[name].append(value)
    if not found[_RUNNING] or not all(map(isfinite, chain(*found.values()))):
        raise ValueError("no engine's metrics")
    running, waiting, ended = (sum(found[name]) for name in (_RUNNING, _WAITING, _ENDED))
    quiet = before is not None and not running + waiting and ended == before.ended
    since = before.since if before and quiet else now
    return Load(int(running), int(waiting), ended, max(found[_CACHE], default=None), since, now)


def _samples(text: bytes) -> Iterator[tuple[str, float]]:
    """Of the few lines that matter: a parser for all of them takes a hundred times as long."""
    for line in text.splitlines():
        if line.startswith(_BEGINNINGS):
            labelled, _, value = line.decode(errors="replace").rpartition(" ")
            name = labelled.partition("{")[0]
            if name in _NAMES:
                yield name, float(value)


def _shown(load: Load) -> Any:
    return load.running, load.waiting


LOAD = Topic(names.ENGINE_PORT, "/metrics", read, _shown, _MOST)
