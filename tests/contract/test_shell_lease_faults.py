"""One operator's Lease on a real API server, with faults of the network and of people played in this process."""

import asyncio
import itertools
import json
import logging
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from chart import RELEASE, SYSTEM
from control_plane import ControlPlane, Kubectl
from finetune_operator.shell import leases
from finetune_operator.shell.cluster import Cluster
from finetune_operator.shell.errors import Unavailable
from finetune_operator.shell.leases import Lease, LeaseLost, lead
from kubernetes.aio import config
from kubernetes.aio.client.api_client import ApiClient


class Network(ApiClient):
    """The way to the API server: so many of the calls to come are never answered, and each answer takes so long.

    The whole process can be frozen once, for so many seconds, just as an answer has come.
    """

    def __init__(self) -> None:
        super().__init__()
        self.hangs, self.seconds, self.frozen = 0, 0.0, 0.0
        self.writes, self.written = 0, asyncio.Event()

    async def call_api(self, method: str, *arguments: Any, **more: Any) -> Any:
        """Call, unless the network swallows it."""
        if self.hangs:
            self.hangs -= 1
            await asyncio.Event().wait()
        answer = await super().call_api(method, *arguments, **more)
        await asyncio.sleep(self.seconds)
        if method != "GET":
            self.writes += 1
            self.written.set()
        self._freeze()
        return answer

    def _freeze(self) -> None:
        seconds, self.frozen = self.frozen, 0.0
        time.sleep(seconds)

    async def renewed(self) -> None:
        """Wait until the Lease has been written once more."""
        self.written.clear()
        async with asyncio.timeout(10):
            await self.written.wait()


class Work:
    """Goes on until it is cancelled or told to fail."""

    def __init__(self) -> None:
        self.begun, self.failing, self.ended = asyncio.Event(), asyncio.Event(), 0.0

    async def __call__(self) -> None:
        self.begun.set()
        try:
            await self.failing.wait()
            raise ValueError("a bug")
        finally:
            self.ended = time.monotonic()


@pytest.fixture
async def network(control_plane: ControlPlane, lease: dict[str, str]) -> AsyncIterator[Network]:
    """As the administrator."""
    await config.load_kube_config(str(control_plane.kubeconfig()))
    async with Network() as found:
        yield found


@pytest.fixture
def ours(network: Network, monkeypatch: pytest.MonkeyPatch) -> Lease:
    """A Lease whose seconds pass ten times as fast."""
    for name in ("RENEW_DEADLINE", "RETRY_PERIOD", "ATTEMPT_TIMEOUT", "RELEASE_TIMEOUT"):
        monkeypatch.setattr(leases, name, getattr(leases, name) / 10)
    return Lease(Cluster(network), SYSTEM, RELEASE)


@pytest.fixture
async def leading(ours: Lease) -> AsyncIterator[tuple[asyncio.Task[None], Work]]:
    """It leads, and works."""
    work = Work()
    task = asyncio.create_task(lead(ours, work))
    async with asyncio.timeout(10):
        await work.begun.wait()
    yield task, work
    task.cancel()
    await asyncio.wait({task})


Leading = tuple[asyncio.Task[None], Work]


def spec(admin: Kubectl) -> dict[str, Any]:
    return dict(json.loads(admin("get", "lease", RELEASE, "-n", SYSTEM, "-o", "json"))["spec"])


async def test_a_slow_answer_does_not_lengthen_the_term(network: Network, ours: Lease) -> None:
    network.seconds = 0.1
    start = time.monotonic()
    assert await ours.attempt()
    assert time.monotonic() - start >= 0.2
    assert ours.until - start - leases.RENEW_DEADLINE < 0.1


async def test_a_renewal_without_an_answer_is_tried_again_in_time(network: Network, leading: Leading) -> None:
    network.hangs = 1
    await network.renewed()
    assert network.hangs == 0
    assert not leading[0].done()
    assert not leading[1].ended


async def test_the_work_ends_no_later_than_the_term(
    network: Network, ours: Lease, leading: Leading, admin: Kubectl
) -> None:
    network.hangs = 1000
    with pytest.raises(LeaseLost, match=f"Lease {SYSTEM}/{RELEASE} could not be renewed"):
        await leading[0]
    assert leading[1].ended - ours.until < 0.1
    assert not ours.held()
    assert spec(admin)["holderIdentity"] == ours.identity, "what may be another's is not given back"


async def test_work_that_fails_gives_the_lease_back(leading: Leading, admin: Kubectl) -> None:
    leading[1].failing.set()
    with pytest.raises(ValueError, match="a bug"):
        await leading[0]
    assert spec(admin)["holderIdentity"] == ""


async def test_a_lease_deleted_by_hand_is_made_anew(
    network: Network, ours: Lease, leading: Leading, admin: Kubectl
) -> None:
    admin("delete", "lease", RELEASE, "-n", SYSTEM)
    await network.renewed()
    assert spec(admin)["holderIdentity"] == ours.identity
    assert not leading[1].ended


async def test_one_taken_by_force_is_lost_at_once(ours: Lease, leading: Leading, admin: Kubectl) -> None:
    taken = {"spec": {"holderIdentity": "somebody", "leaseTransitions": 7}}
    admin("patch", "lease", RELEASE, "-n", SYSTEM, "--type=merge", "-p", json.dumps(taken))
    with pytest.raises(LeaseLost, match=f"Lease {SYSTEM}/{RELEASE} was taken by somebody"):
        await leading[0]
    assert spec(admin)["holderIdentity"] == "somebody"


async def test_a_lease_whose_holder_does_not_stop_renewing_is_left_alone(
    ours: Lease, leading: Leading, network: Network, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    other = Lease(Cluster(network), SYSTEM, RELEASE)
    for _ in range(3):
        assert not await other.attempt()
        await network.renewed()
    assert other.wait > 14
    assert caplog.messages == [f"Lease {SYSTEM}/{RELEASE} is held by {ours.identity}"]


async def test_one_that_was_frozen_just_as_an_answer_came_writes_no_more(network: Network, ours: Lease) -> None:
    async with Network() as way:
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
        before, way.frozen = way.writes, leases.RENEW_DEADLINE + 0.1
        with pytest.raises(LeaseLost):
            await task
        assert way.writes == before + 1
        assert refused.is_set()
