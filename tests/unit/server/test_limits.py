"""Requests a minute, and what a key may have, by a clock of the test's own."""

import json

import pytest
from finetune_server.errors import Problem
from finetune_server.keys import Entry
from finetune_server.limits import Limits, Rates


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def refused(rates: Rates, limit: int) -> Problem:
    with pytest.raises(Problem) as found:
        rates.take("alice", limit)
    return found.value


@pytest.mark.parametrize("limit", [1, 3, 7, 600])
def test_a_minutes_requests_come_at_once_and_the_next_as_they_come_back(limit: int) -> None:
    clock = Clock()
    rates = Rates(clock)
    remaining = [rates.take("alice", limit).remaining for _ in range(limit)]
    assert remaining == list(range(limit))[::-1]
    problem = refused(rates, limit)
    wait = int(problem.headers["Retry-After"])
    assert problem.message == f"More than {limit:,} requests a minute: try again in {wait} s."
    assert (problem.status, problem.code) == (429, "rate_limit_exceeded")
    assert problem.headers["X-RateLimit-Remaining-Requests"] == "0"
    assert problem.headers["X-RateLimit-Reset-Requests"] == "60s"
    clock.now += wait
    assert rates.take("alice", limit).limit == limit
    assert rates.take("bob", limit).remaining == limit - 1
    clock.now += 60
    assert [rates.take("alice", limit).remaining for _ in range(limit)][-1] == 0
    refused(rates, limit)


def test_who_asks_for_nothing_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("finetune_server.limits._REMEMBERED", 2)
    clock = Clock()
    rates = Rates(clock)
    for name in ("alice", "bob"):
        rates.take(name, 60)
    clock.now += 5
    rates.take("carol", 60)
    assert list(rates._full) == ["carol"]


def test_what_a_key_does_not_say_is_as_the_server_has_it() -> None:
    entry = {"sha256": "0" * 64, "namespace": "kitchen", "limits": {"requestsPerMinute": 5}}
    found = Entry.model_validate_json(json.dumps(entry)).limited(Limits(jobs=2))
    assert (found.requests_per_minute, found.jobs, found.files) == (5, 2, 1000)


def test_room_is_told_in_numbers() -> None:
    limits = Limits(jobs=2, files=3, megabytes=1)
    limits.room_for_a_job(1)
    limits.room_for_a_file(2, 2**19, 2**19)
    for ask, sentence in (
        (
            lambda: limits.room_for_a_job(2),
            "2 of this key's jobs are under way, and it may have 2 at once: wait until one has ended, or cancel or "
            "pause one.",
        ),
        (
            lambda: limits.room_for_a_file(3, 0, 1),
            "3 files are kept, and this key may add to no more than 3: delete files that no job needs.",
        ),
        (
            lambda: limits.room_for_a_file(2, 2**19, 2**19 + 1),
            "0.5 MB are kept, and with this file of 0.5 MB it would be more than the 1 MB that this key may add up to: "
            "delete files that no job needs.",
        ),
    ):
        with pytest.raises(Problem) as found:
            ask()
        assert (found.value.message, found.value.status) == (sentence, 429)
        # The client would try again at once, and nothing would have changed.
        assert found.value.headers["X-Should-Retry"] == "false"
