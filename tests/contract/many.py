"""Many FineTuneJobs at once: made, changed and followed through a real API server, and what that server does by itself.

Used by `test_scale` and by `make benchmark-operator`. Requests go through the operator's own client library, so that a
bare loop of it can be held against the operator.
"""

import asyncio
import json
import threading
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from control_plane import ADMIN, PATIENCE, ControlPlane
from finetune_operator.api.v1alpha1 import GROUP
from finetune_operator.shell.workqueue import WORKERS
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.config import new_client_from_config
from simulated import MEASURED, PLAIN
from tally import Call

Raw = dict[str, Any]

JOBS = "/apis/finetune.dev/v1alpha1/namespaces/{}/finetunejobs"
APPLY, MERGE, JSON = "application/apply-patch+yaml", "application/merge-patch+json", "application/json"
# FineTuneJobs at a time: as many as the operator works on, so that a bare loop can be held against it.
AT_ONCE = WORKERS
# One FineTuneJob in so many is measured: its path has a stage more.
MEASURED_EVERY = 10


def name_of(number: int) -> str:
    """Names of one length, which `copies` counts on."""
    return f"job-{number:05}"


class Client:
    """The operator's client library, bare."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client

    async def send(self, method: str, path: str, body: Any = None, content: str = JSON) -> Raw:
        """One request; AssertionError unless it is answered with success."""
        headers = {"Content-Type": content, "Accept": JSON}
        request = await self._client.param_serialize(
            method, path, header_params=headers, body=body, auth_settings=["BearerToken"]
        )
        response = await self._client.call_api(*request, _request_timeout=PATIENCE)
        text = await response.read()
        assert 200 <= response.status <= 299, f"{method} {path}: {text.decode()}"
        return dict(json.loads(text))


Work = Callable[[Client, int], Awaitable[object]]


class Many:
    """FineTuneJobs job-00000, job-00001, … of one namespace."""

    def __init__(self, plane: ControlPlane, namespace: str) -> None:
        self._plane, self._namespace = plane, namespace
        plane.request("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
        self.uids: dict[int, str] = {}

    def create(self, numbers: Iterable[int]) -> None:
        """Make them; a share is measured."""

        async def one(client: Client, number: int) -> None:
            spec = MEASURED if number % MEASURED_EVERY == 0 else PLAIN
            metadata = {"name": name_of(number)}
            document = {"apiVersion": "finetune.dev/v1alpha1", "kind": "FineTuneJob", "metadata": metadata}
            made = await client.send("POST", JOBS.format(self._namespace), document | {"spec": spec})
            self.uids[number] = made["metadata"]["uid"]

        self._each(one, numbers)

    def entries(self) -> int:
        """How many entries their records have."""
        found = self._plane.request("GET", f"/api/v1/namespaces/{self._namespace}/configmaps")
        return sum(len(record.get("data", {})) for record in found["items"])

    def touch(self, numbers: Iterable[int], value: str) -> None:
        """Change something about each that the operator looks at, and that means nothing to it."""
        patch = {"metadata": {"annotations": {f"{GROUP}/touched": value}}}

        async def one(client: Client, number: int) -> None:
            await client.send("PATCH", f"{JOBS.format(self._namespace)}/{name_of(number)}", patch, MERGE)

        self._each(one, numbers)

    def replay(self, writes: list[Call], user: str) -> None:
        """Send for each of them, in a bare loop, what the operator sent for one."""
        said = next(call for call in writes if call.status)
        texts = [(call, json.dumps([call.uri, call.body])) for call in writes]
        owner = said.body["metadata"]["uid"]

        async def one(client: Client, number: int) -> None:
            for call, text in texts:
                text = text.replace(said.name, name_of(number)).replace(owner, self.uids[number])
                uri, body = json.loads(text.replace(said.namespace, self._namespace))
                method, content = ("PATCH", APPLY) if call.verb == "patch" else ("POST", JSON)
                await client.send(method, uri, body, content)

        self._each(one, self.uids, user)

    def _each(self, work: Work, numbers: Iterable[int], user: str = ADMIN) -> None:
        """Do something about each of them, so many at a time."""
        left = iter(list(numbers))

        async def worker(client: Client) -> None:
            for number in left:
                await work(client, number)

        async def all_of_them() -> None:
            async with connected(self._plane.kubeconfig(user)) as client, asyncio.TaskGroup() as workers:
                for _ in range(AT_ONCE):
                    workers.create_task(worker(client))

        asyncio.run(all_of_them())


@asynccontextmanager
async def connected(kubeconfig: Path) -> AsyncIterator[Client]:
    """A client, closed at the end."""
    async with await new_client_from_config(str(kubeconfig)) as client:
        yield Client(client)


class Followed:
    """The FineTuneJobs of a namespace, watched: how often the conditions of each changed, and its phase now."""

    def __init__(self, plane: ControlPlane, namespace: str) -> None:
        self.transitions: Counter[str] = Counter()
        self.phases: dict[str, str] = {}
        self._conditions: dict[str, object] = {}
        self._changed = threading.Condition()
        self._events = plane.watch(f"{JOBS.format(namespace)}?watch=true&timeoutSeconds=7200")
        threading.Thread(target=self._follow, daemon=True).start()

    def all_in(self, phase: str, count: int, seconds: float) -> bool:
        """Wait until so many are in a phase; whether they came to be in time."""

        def holds() -> bool:
            return sum(found == phase for found in self.phases.values()) >= count

        with self._changed:
            return self._changed.wait_for(holds, seconds)

    def _follow(self) -> None:
        for event in self._events:
            with self._changed:
                self._note(event["object"]["metadata"]["name"], event["object"].get("status", {}))
                self._changed.notify_all()

    def _note(self, name: str, status: Raw) -> None:
        conditions = [(each["type"], each["status"], each["reason"]) for each in status.get("conditions", [])]
        if conditions and conditions != self._conditions.get(name):
            self._conditions[name] = conditions
            self.transitions[name] += 1
        self.phases[name] = status.get("phase", "")
