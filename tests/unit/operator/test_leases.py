"""Who may take a Lease, when, and what is written into it: client-go's rules, on a clock of the tests."""

from datetime import UTC, datetime
from typing import Any

import pytest
from finetune_operator.shell.leases import LEASE_DURATION, LeaseRecord, claim, observe, pause, seconds_until_free

NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
SPEC = {
    "holderIdentity": "a",
    "leaseDurationSeconds": 15,
    "acquireTime": "2026-01-01T10:00:00.000000Z",
    "renewTime": "2026-01-01T11:59:59.000000Z",
    "leaseTransitions": 3,
}


def seen(now: float, before: LeaseRecord | None = None, **spec: Any) -> LeaseRecord:
    return observe(SPEC | spec, before, now)


def test_it_is_reckoned_from_when_the_last_change_was_seen_and_not_by_the_holders_clock() -> None:
    first = seen(100.0, renewTime="1999-01-01T00:00:00.000000Z")
    assert seconds_until_free(first, "b", 100.0) == 15
    again = seen(110.0, first, renewTime="1999-01-01T00:00:00.000000Z")
    assert seconds_until_free(again, "b", 110.0) == 5
    assert seconds_until_free(again, "b", 115.0) == 0
    renewed = seen(114.0, again, renewTime="1999-01-01T00:00:14.000000Z")
    assert seconds_until_free(renewed, "b", 114.0) == 15


def test_what_somebody_else_writes_beside_the_spec_prolongs_nothing() -> None:
    first = seen(100.0)
    assert seen(110.0, first, strategy="OldestEmulationVersion").since == 100.0


@pytest.mark.parametrize("record", [None, seen(100.0, holderIdentity=""), seen(100.0, holderIdentity="b")])
def test_one_that_nobody_else_holds_is_free(record: LeaseRecord | None) -> None:
    assert seconds_until_free(record, "b", 100.0) == 0


def test_a_lease_that_says_nothing_is_free_and_one_without_a_duration_lasts_the_usual_one() -> None:
    assert seconds_until_free(observe({}, None, 0.0), "b", 0.0) == 0
    assert seconds_until_free(observe({"holderIdentity": "a"}, None, 0.0), "b", 0.0) == LEASE_DURATION


def test_another_holder_is_a_transition_and_a_renewal_is_none() -> None:
    taken = claim(seen(0.0), "b", NOW)
    assert taken == {
        "holderIdentity": "b",
        "leaseDurationSeconds": 15,
        "acquireTime": "2026-01-01T12:00:00.000000Z",
        "renewTime": "2026-01-01T12:00:00.000000Z",
        "leaseTransitions": 4,
    }
    renewed = claim(seen(0.0), "a", NOW)
    assert (renewed["leaseTransitions"], renewed["acquireTime"]) == (3, SPEC["acquireTime"])
    assert renewed["renewTime"] == taken["renewTime"]
    assert claim(None, "b", NOW)["leaseTransitions"] == 0


def test_two_operators_do_not_keep_step() -> None:
    assert (pause(lambda: 0.0), pause(lambda: 1.0)) == (2.0, 1.0)
