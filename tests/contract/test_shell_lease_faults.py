"""One operator's Lease on a real API server, with faults of the network and of people played in this process.

Time passes slowly, and where a test says so, at once: what takes long on a busy machine is no fault.
"""

import asyncio
import itertools
import json
import logging
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from chart import RELEASE, SYSTEM
from control_plane import PATIENCE, ControlPlane, Kubectl
from finetune_operator.shell import leases
from finetune_operator.shell.cluster import Cluster
from finetune_operator.shell.errors import Unavailable
from finetune_operator.shell.leases import Lease, LeaseLost, lead
from kubernetes.aio import config
from kubernetes.aio.client.api_client import ApiClient

# What a second of this machine is to a Lease: a term would end while a busy one stands still for ten of them.
PACE = 0.1


class Clock:
    """The clock of the Lease and of the event loop. Put forward, it is what a process sees that was frozen so long."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def monotonic(self) -> float:
        return time.monotonic() * PACE + self.ahead


@pytest.fixture
async def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(leases, "time", found)
    monkeypatch.setattr(asyncio.get_running_loop(), "time", found.monotonic)
    return found


class Network(ApiClient):
    """The way to the API server: so many of the calls to come are never answered, and each answer takes so long.

    The whole process can be frozen once, for so many seconds, just as an answer has come.
    """

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock
        self.hangs, self.seconds, self.frozen = 0, 0.0, 0.0
        self.writes, self.written, self.swallowed = 0, asyncio.Event(), asyncio.Event()

    async def call_api(self, method: str, *arguments: Any, **more: Any) -> Any:
        """Call, unless the network swallows it."""
        if self.hangs:
            self.hangs -= 1
            self.swallowed.set()
            await asyncio.Event().wait()
        answer = await super().call_api(method, *arguments, **more)
        # All of it has come.
        await answer.read()
        await asyncio.sleep(self.seconds)
        if method != "GET":
            self.writes += 1
            self.written.set()
        self._freeze()
        return answer

    def _freeze(self) -> None:
        seconds, self.frozen = self.frozen, 0.0
        self._clock.ahead += seconds

    async def renewed(self) -> None:
        """Wait until the Lease has been written once more."""
        self.written.clear()
        async with asyncio.timeout(PATIENCE):
            await self.written.wait()


class Work:
    """Goes on until it is cancelled or told to fail."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.begun, self.failing, self.ended = asyncio.Event(), asyncio.Event(), 0.0

    async def __call__(self) -> None:
        self.begun.set()
        try:
            await self.failing.wait()
            raise ValueError("a bug")
        finally:
            self.ended = self._clock.monotonic()


@pytest.fixture
async def network(control_plane: ControlPlane, lease: dict[str, str], clock: Clock) -> AsyncIterator[Network]:
    """As the administrator."""
    await config.load_kube_config(str(control_plane.kubeconfig()))
    async with Network(clock) as found:
        yield found


@pytest.fixture
def ours(network: Network, monkeypatch: pytest.MonkeyPatch) -> Lease:
    """A Lease that is renewed every fifth of a second, as this machine has them."""
    monkeypatch.setattr(leases, "RETRY_PERIOD", 0.2 * PACE)
    return Lease(Cluster(network), SYSTEM, RELEASE)


@pytest.fixture
async def leading(ours: Lease, clock: Clock) -> AsyncIterator[tuple[asyncio.Task[None], Work]]:
    """It leads, and works."""
    work = Work(clock)
    task = asyncio.create_task(lead(ours, work))
    async with asyncio.timeout(PATIENCE):
        await work.begun.wait()
    yield task, work
    task.cancel()
    await asyncio.wait({task})


Leading = tuple[asyncio.Task[None], Work]


async def ended(task: "asyncio.Task[None]") -> None:
    """It ends by itself, and with what."""
    async with asyncio.timeout(PATIENCE):
        await task


async def holder(admin: Kubectl) -> str:
    """Whose the Lease is; it is renewed meanwhile."""
    said = await asyncio.to_thread(admin, "get", "lease", RELEASE, "-n", SYSTEM, "-o", "json", "--ignore-not-found")
    return str(json.loads(said or '{"spec": {"holderIdentity": "nobody\'s"}}')["spec"]["holderIdentity"])


async def test_a_slow_answer_does_not_lengthen_the_term(network: Network, ours: Lease, clock: Clock) -> None:
    network.seconds = 0.02
    start = clock.monotonic()
    assert await ours.attempt()
    # One answer to the look, and one to the write.
    assert start <= ours.until - leases.RENEW_DEADLINE <= clock.monotonic() - 0.04


async def test_a_renewal_without_an_answer_is_tried_again_in_time(
    network: Network, leading: Leading, clock: Clock
) -> None:
    network.hangs = 1
    await network.swallowed.wait()
    clock.ahead += leases.ATTEMPT_TIMEOUT
    await network.renewed()
    assert not leading[0].done()
    assert not leading[1].ended


async def test_the_work_ends_with_the_term_and_before_another_may_lead(
    network: Network, ours: Lease, leading: Leading, admin: Kubectl, clock: Clock
) -> None:
    network.hangs = 1000
    await network.swallowed.wait()
    clock.ahead += ours.until - clock.monotonic()
    with pytest.raises(LeaseLost, match=f"Lease {SYSTEM}/{RELEASE} could not be renewed"):
        await ended(leading[0])
    assert leading[1].ended - ours.until < leases.LEASE_DURATION - leases.RENEW_DEADLINE
    assert not ours.held()
    assert await holder(admin) == ours.identity, "what may be another's is not given back"


async def test_work_that_fails_gives_the_lease_back(leading: Leading, admin: Kubectl) -> None:
    leading[1].failing.set()
    with pytest.raises(ValueError, match="a bug"):
        await ended(leading[0])
    assert await holder(admin) == ""


async def test_a_lease_deleted_by_hand_is_made_anew(
    network: Network, ours: Lease, leading: Leading, admin: Kubectl
) -> None:
    await asyncio.to_thread(admin, "delete", "lease", RELEASE, "-n", SYSTEM)
    # A write that was on its way is refused, and the next one makes it.
    while await holder(admin) != ours.identity:
        await network.renewed()
    assert not leading[1].ended


async def test_one_taken_by_force_is_lost_at_once(ours: Lease, leading: Leading, admin: Kubectl) -> None:
    taken = {"spec": {"holderIdentity": "somebody", "leaseTransitions": 7}}
    await asyncio.to_thread(admin, "patch", "lease", RELEASE, "-n", SYSTEM, "--type=merge", "-p", json.dumps(taken))
    with pytest.raises(LeaseLost, match=f"Lease {SYSTEM}/{RELEASE} was taken by somebody"):
        await ended(leading[0])
    assert await holder(admin) == "somebody"


async def test_a_lease_whose_holder_does_not_stop_renewing_is_left_alone(
    ours: Lease, leading: Leading, network: Network, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    other = Lease(Cluster(network), SYSTEM, RELEASE)
    for _ in range(3):
        before = other.wait
        assert not await other.attempt()
        assert other.wait > before, "each renewal that it sees lets it wait anew"
        await network.renewed()
    assert caplog.messages == [f"Lease {SYSTEM}/{RELEASE} is held by {ours.identity}"]


async def test_one_that_was_frozen_just_as_an_answer_came_writes_no_more(ours: Lease, clock: Clock) -> None:
    async with Network(clock) as way:
        cluster = Cluster(way, ours.held)
        refused = asyncio.Event()

        async def work() -> None:
            try:
                for number in itertools.count():
                    metadata = {"namespace": SYSTEM, "name": f"written-{number}"}
                    await cluster.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})
            except Unavailable:
                refused.set()
                await asyncio.Event().wait()

        task = asyncio.create_task(lead(ours, work))
        await way.renewed()
        before, way.frozen = way.writes, leases.RENEW_DEADLINE
        with pytest.raises(LeaseLost):
            await ended(task)
        assert way.writes == before + 1
        assert refused.is_set()
