"""Two operators, processes of their own and users of their own: one works, the other takes its place, never both."""

import asyncio
import itertools
import json
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from chart import RELEASE, SYSTEM
from conftest import OPERATOR, SECOND
from control_plane import PATIENCE, ControlPlane, Kubectl, User
from finetune_operator.shell.cluster import Cluster
from finetune_operator.shell.leases import Lease, lead
from kubernetes.aio import config
from kubernetes.aio.client.api_client import ApiClient
from operator_process import OperatorProcess
from playing import Played

Launch = Callable[..., OperatorProcess]
READS = ("get", "list", "watch")


@pytest.fixture
def leader(grant: Callable[..., None], launch: Launch, lease: dict[str, str]) -> OperatorProcess:
    """An operator that leads."""
    grant()
    found = launch(**lease)
    found.eventually(found.leads)
    return found


@pytest.fixture
def standby(leader: OperatorProcess, launch: Launch, lease: dict[str, str]) -> OperatorProcess:
    """Another one, which waits for the first one's Lease."""
    found = launch(SECOND, **lease)
    found.eventually(lambda: f"Lease {SYSTEM}/{RELEASE} is held by" in found.log())
    return found


@pytest.fixture
def writes(control_plane: ControlPlane, namespace: str) -> Callable[[User], list[str]]:
    """When a user wrote what in the test's namespace, in order."""

    def found(user: User) -> list[str]:
        calls = (call for call in control_plane.calls(user.name) if call["verb"] not in READS)
        here = (call for call in calls if call["objectRef"].get("namespace") == namespace)
        return sorted(f"{call['requestReceivedTimestamp']} {call['verb']} {call['requestURI']}" for call in here)

    return found


def test_the_second_goes_on_after_a_kill_and_wrote_nothing_before(
    leader: OperatorProcess, standby: OperatorProcess, played: Played, writes: Callable[[User], list[str]]
) -> None:
    played.create()
    played.start("prepare")
    played.wait_reason("DataReady", "Running")
    assert writes(OPERATOR)
    assert not standby.leads()
    leader.kill()
    assert writes(SECOND) == []
    played.complete("prepare")
    played.wait("/".join(played.owner("train")), "create")
    assert standby.leads()
    assert writes(SECOND)[0] > writes(OPERATOR)[-1]
    played.serve()


def test_told_to_stop_it_hands_over_at_once(
    leader: OperatorProcess,
    standby: OperatorProcess,
    played: Played,
    admin: Kubectl,
    control_plane: ControlPlane,
    writes: Callable[[User], list[str]],
) -> None:
    played.create()
    played.start("prepare")
    played.wait_reason("DataReady", "Running")
    raw = lease_object(admin)
    before = raw["spec"]
    leader.terminate()
    standby.eventually(standby.leads)
    assert leader.ends() == 0
    after = lease_spec(admin)
    assert after["holderIdentity"] != before["holderIdentity"]
    # It was free when the second one took it, which so had nothing to wait for.
    of_first = itertools.takewhile(
        lambda holder: holder != after["holderIdentity"], holders(control_plane, raw["metadata"]["resourceVersion"])
    )
    assert list(of_first)[-1] == ""
    assert after["leaseTransitions"] == before["leaseTransitions"] + 1
    assert after["acquireTime"] > before["renewTime"]
    played.complete("prepare")
    played.wait("/".join(played.owner("train")), "create")
    assert writes(SECOND)[0] > writes(OPERATOR)[-1]


def test_a_leader_that_was_frozen_finds_itself_replaced_and_writes_no_more(
    leader: OperatorProcess, standby: OperatorProcess, played: Played, writes: Callable[[User], list[str]]
) -> None:
    played.create()
    played.start("prepare")
    played.wait_reason("DataReady", "Running")
    with leader.paused():
        played.complete("prepare")
        played.wait("/".join(played.owner("train")), "create")
        before = writes(OPERATOR)
        # It is told of all of this when it goes on.
        played.start("train")
        played.wait_reason("Trained", "Running")
    assert leader.ends() == 1
    assert f"Lease {SYSTEM}/{RELEASE}" in leader.log().splitlines()[-1]
    assert writes(OPERATOR) == before
    played.serve()


def test_a_leader_that_the_api_server_does_not_answer_ends_before_another_may_lead(
    leader: OperatorProcess, standby: OperatorProcess, control_plane: ControlPlane, played: Played
) -> None:
    # When it stops is held to the clock in test_shell_lease_faults. While nobody is answered, nobody can lead.
    with control_plane.paused():
        assert leader.ends() == 1
    assert leader.log().splitlines()[-1] == (
        f"Lease {SYSTEM}/{RELEASE} could not be renewed for 10 s: another operator may lead, so this one ends."
    )
    standby.eventually(standby.leads)
    played.create()
    played.serve()


def test_a_lease_that_it_may_not_use_ends_it_with_a_sentence(
    grant: Callable[..., None], control_plane: ControlPlane, lease: dict[str, str], tmp_path: Any
) -> None:
    grant()
    settings = lease | {"lease_name": "of-another-release"}
    operator = OperatorProcess(control_plane.kubeconfig(OPERATOR.name), tmp_path / "operator.log", **settings)
    assert operator.run() == 1
    said = operator.log().splitlines()[-1]
    assert said.startswith(f"The API server refused Lease {SYSTEM}/of-another-release: leases.coordination.k8s.io")
    assert 'User "operator" cannot get resource "leases"' in said


def lease_object(admin: Kubectl) -> dict[str, Any]:
    return dict(json.loads(admin("get", "lease", RELEASE, "-n", SYSTEM, "-o", "json")))


def lease_spec(admin: Kubectl) -> dict[str, Any]:
    return dict(lease_object(admin)["spec"])


def holders(control_plane: ControlPlane, version: str) -> Iterator[str]:
    """Who held the Lease, of every write since a version of it."""
    path = f"/apis/coordination.k8s.io/v1/namespaces/{SYSTEM}/leases?watch=true&resourceVersion={version}"
    for event in control_plane.watch(path):
        if event["object"]["metadata"]["name"] == RELEASE:
            yield event["object"]["spec"]["holderIdentity"]


@pytest.fixture
async def clients(control_plane: ControlPlane, lease: dict[str, str]) -> AsyncIterator[list[ApiClient]]:
    """Clients as the administrator, of operators in this process."""
    await config.load_kube_config(str(control_plane.kubeconfig()))
    found = [ApiClient() for _ in range(4)]
    yield found
    for client in found:
        await client.close()


async def test_of_many_that_start_at_once_each_leads_in_its_turn_and_never_two(
    clients: list[ApiClient], admin: Kubectl, caplog: pytest.LogCaptureFixture
) -> None:
    """Each works for a moment and is stopped; conflicts between those that wait are nobody's failure."""
    caplog.set_level(logging.INFO)
    turns: list[str] = []
    done = asyncio.Queue[int]()

    def work(number: int) -> Callable[[], Any]:
        async def working() -> None:
            turns.append(f"{number} begins")
            done.put_nowait(number)
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0)
                turns.append(f"{number} ends")

        return working

    leases = [Lease(Cluster(client), SYSTEM, RELEASE) for client in clients]
    tasks = [asyncio.create_task(lead(lease, work(number))) for number, lease in enumerate(leases)]
    for _ in tasks:
        async with asyncio.timeout(PATIENCE):
            number = await done.get()
        assert [lease.held() for lease in leases] == [other == number for other, _ in enumerate(leases)]
        tasks[number].cancel()
        await asyncio.wait({tasks[number]})
    assert sorted(turns[::2]) == [f"{number} begins" for number in range(4)]
    assert all(end == begin.replace("begins", "ends") for begin, end in zip(turns[::2], turns[1::2], strict=True))
    assert lease_spec(admin)["holderIdentity"] == ""
    assert lease_spec(admin)["leaseTransitions"] == len(tasks) - 1
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
