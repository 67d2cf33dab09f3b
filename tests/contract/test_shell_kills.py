"""Killed between any two of its calls to the API server, at any stage, the operator ends where it would have ended."""

import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx
import pytest
from control_plane import ControlPlane, Kubectl
from finetune_operator.settings import Settings
from finetune_operator.shell.cluster import Cluster
from finetune_operator.shell.informer import Informer
from finetune_operator.shell.progress import Poller
from finetune_operator.shell.reconcile import Reconciler
from finetune_operator.shell.resources import RESOURCES, Key
from finetune_operator.shell.store import Store
from kubernetes.aio import config
from kubernetes.aio.client.api_client import ApiClient
from playing import NAME, Played

STAGES: dict[str, Callable[[Played], None]] = {
    "prepare": lambda played: played.complete("prepare"),
    "train": lambda played: played.complete("train"),
    "host": lambda played: played.roll_out(),
    "edit": lambda played: played.create(training={"maxSteps": 40, "seed": 7}),
}
# Given by the API server or the clock: not the operator's doing.
GIVEN = {
    *("uid", "controller-uid", "batch.kubernetes.io/controller-uid", "resourceVersion", "generation", "managedFields"),
    *("creationTimestamp", "lastTransitionTime", "namespace", "clusterIP", "clusterIPs"),
    # A digest of a manifest that names its owner.
    "finetune.dev/applied",
}


class Killed(BaseException):
    """SIGKILL, as far as one process can play it: nothing of the operator runs on."""


class MortalClient(ApiClient):
    """The operator's client, which dies after so many calls: the last one has reached the API server."""

    def __init__(self) -> None:
        super().__init__()
        self.calls_left: int | None = None

    async def call_api(self, *arguments: Any, **more: Any) -> Any:
        """Call, then die if it was the last."""
        answer = await super().call_api(*arguments, **more)
        if self.calls_left is not None:
            self.calls_left -= 1
            if self.calls_left == 0:
                raise Killed
        return answer


@pytest.fixture
async def client(control_plane: ControlPlane, admin: Kubectl) -> AsyncIterator[MortalClient]:
    """A client as the administrator."""
    await config.load_kube_config(str(control_plane.kubeconfig()))
    async with MortalClient() as found:
        yield found


async def start(client: MortalClient, namespace: str) -> Reconciler:
    """An operator that has just started, and knows what there is."""
    cluster, store = Cluster(client), Store()
    for kind in RESOURCES:
        await Informer(cluster, store, kind, namespace, lambda _: None, 600).list()
    async with httpx.AsyncClient() as pods:
        return Reconciler(cluster, store, Poller(pods, 600, lambda _: None), Settings())


async def settle(client: MortalClient, namespace: str) -> None:
    """Reconcile until two looks find the same."""
    before = None
    while True:
        reconciler = await start(client, namespace)
        now = reconciler.store.snapshot(Key(namespace, NAME))
        if now == before:
            return
        before = now
        await reconciler(Key(namespace, NAME))
        reconciler.poller.close()


async def die_everywhere(client: MortalClient, namespace: str) -> None:
    """Start the operator again and again; the first dies after one call, the next after two, until one gets through."""
    for calls in range(1, 200):
        reconciler = await start(client, namespace)
        client.calls_left = calls
        try:
            await reconciler(Key(namespace, NAME))
        except Killed:
            continue
        finally:
            client.calls_left = None
        return
    raise AssertionError("the reconcile never ends")


def stripped(raw: Any, namespace: str) -> Any:
    """Without what the API server and the clock gave."""
    if isinstance(raw, dict):
        return {key: stripped(value, namespace) for key, value in raw.items() if key not in GIVEN}
    if isinstance(raw, list):
        return [stripped(value, namespace) for value in raw]
    return raw.replace(namespace, "NAMESPACE") if isinstance(raw, str) else raw


def outcome(played: Played, namespace: str) -> dict[str, Any]:
    """Everything that is there now, and what was told, in a form that two namespaces can be compared in."""
    events = json.loads(played.kubectl("get", "events", "-o", "json"))["items"]
    # Who dies just after making a Job finds it made, and has never seen the moment in which the stage was starting.
    lasting = [event for event in events if event["reason"] not in ("Starting", "Running")]
    told = sorted(f"{event['reason']}: {event['message']}".replace(namespace, "NAMESPACE") for event in lasting)
    objects = {f"{raw['kind']}/{raw['metadata']['name']}": stripped(raw, namespace) for raw in played.objects()}
    return objects | {"told": told}


async def test_it_ends_where_it_would_have_ended(
    client: MortalClient, namespaces: Iterator[tuple[str, Kubectl]]
) -> None:
    spaces = [next(namespaces) for _ in range(2)]
    (calm, left_alone), (killed, often_killed) = [(name, Played(kubectl)) for name, kubectl in spaces]
    for played in (left_alone, often_killed):
        played.create()
    for step in (lambda _: None, *STAGES.values()):
        step(left_alone)
        step(often_killed)
        await settle(client, calm)
        await die_everywhere(client, killed)
        await settle(client, killed)
        assert outcome(often_killed, killed) == outcome(left_alone, calm)
    assert often_killed.job()["status"]["servedRevision"] != often_killed.revision
