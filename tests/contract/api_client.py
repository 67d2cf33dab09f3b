"""The API server as the tests' own side of a story sees it: calls, and a mirror of everything, fed by watches.

Used by `node`, `life` and the tests of faults and findings. Asynchronous, so that many cases run side by side; the
operator never goes through here.
"""

import asyncio
import copy
import json
import ssl
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, TypeVar

import aiohttp
from control_plane import PATIENCE, ControlPlane

Raw = dict[str, Any]
T = TypeVar("T")

_GROUPS = {
    "api/v1": {
        "Pod": "pods",
        "Service": "services",
        "PersistentVolumeClaim": "persistentvolumeclaims",
        "ConfigMap": "configmaps",
        "Event": "events",
    },
    "apis/batch/v1": {"Job": "jobs"},
    "apis/apps/v1": {"Deployment": "deployments", "ReplicaSet": "replicasets"},
    "apis/networking.k8s.io/v1": {"NetworkPolicy": "networkpolicies"},
    "apis/finetune.dev/v1alpha1": {"FineTuneJob": "finetunejobs", "Engine": "engines"},
}
RESOURCES = {kind: (group, plural) for group, kinds in _GROUPS.items() for kind, plural in kinds.items()}
KINDS = {plural: kind for kind, (_, plural) in RESOURCES.items()}
MERGE, APPLY = "application/merge-patch+json", "application/apply-patch+yaml"


class Refusal(Exception):
    """An answer that is no success."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


class Api:
    """One user's calls."""

    def __init__(self, plane: ControlPlane) -> None:
        self._plane, self._address, self._headers = plane, plane.address, plane.headers()
        trust: ssl.SSLContext = plane.trust()
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trust, limit=0), read_bufsize=2**22)

    async def close(self) -> None:
        await self._session.close()

    def as_user(self, user: str) -> "Api":
        """The same API server, called by somebody else."""
        found = copy.copy(self)
        found._headers = self._plane.headers(user)
        return found

    async def call(self, method: str, path: str, body: Any = None, content: str = "application/json") -> Raw:
        """The answer as JSON; Refusal with the API server's words."""
        data = None if body is None else json.dumps(body)
        headers = self._headers | {"Content-Type": content}
        async with self._session.request(method, f"{self._address}{path}", data=data, headers=headers) as answer:
            found: Raw = json.loads(await answer.read())
        if answer.status == 429:
            # The API server's own word for later, such as for a CustomResourceDefinition that has just been made.
            await asyncio.sleep(int(answer.headers.get("Retry-After", 1)))
            return await self.call(method, path, body, content)
        if answer.status >= 400:
            raise Refusal(answer.status, found.get("message", ""))
        return found

    async def create(self, raw: Raw, namespace: str) -> Raw:
        return await self.call("POST", path(raw["kind"], namespace), raw)

    async def patch(self, kind: str, namespace: str, name: str, patch: Raw, subresource: str = "") -> Raw:
        """A merge patch."""
        return await self.call("PATCH", path(kind, namespace, name, subresource), patch, MERGE)

    async def delete(self, kind: str, namespace: str, name: str, **options: Any) -> None:
        """Delete; what is gone already is no failure."""
        try:
            await self.call("DELETE", path(kind, namespace, name), options)
        except Refusal as refusal:
            if refusal.status != 404:
                raise

    async def watch(self, kind: str, version: str) -> AsyncIterator[tuple[str, Raw]]:
        """Every change to the objects of a kind in all namespaces, until the API server ends it."""
        address = f"{self._address}{path(kind, '')}?watch=true&resourceVersion={version}&timeoutSeconds=86400"
        forever = aiohttp.ClientTimeout(total=None)
        async with self._session.get(address, headers=self._headers, timeout=forever) as answer:
            if answer.status >= 400:
                # In place of events, one word of the moment: a changed CustomResourceDefinition is being served anew.
                return
            async for line in answer.content:
                event = json.loads(line)
                yield event["type"], event["object"]


def path(kind: str, namespace: str, name: str = "", subresource: str = "") -> str:
    """Where an object lives in the API; without a namespace, all of the kind."""
    group, plural = RESOURCES[kind]
    parts = [group, *(["namespaces", namespace] if namespace else []), plural, name, subresource]
    return "/" + "/".join(part for part in parts if part)


class Mirror:
    """Every object of the kinds that matter, as the watches last told."""

    KINDS = tuple(kind for kind in RESOURCES if kind != "Event")

    def __init__(self, api: Api) -> None:
        self._api = api
        self._objects: dict[str, dict[tuple[str, str], Raw]] = defaultdict(dict)
        self._changed: dict[str, asyncio.Event] = defaultdict(asyncio.Event)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as watches:
            for kind in self.KINDS:
                watches.create_task(self._follow(kind))

    async def _follow(self, kind: str) -> None:
        """For ever: a changed CustomResourceDefinition ends the watches of its objects, and forgets what was before."""
        while True:
            listed = await self._api.call("GET", path(kind, ""))
            self._replace(kind, listed["items"])
            async for event, raw in self._api.watch(kind, listed["metadata"]["resourceVersion"]):
                if event == "ERROR":
                    break
                self._take(kind, event, raw)

    def _replace(self, kind: str, raws: list[Raw]) -> None:
        known = [raw for objects in self._objects.values() for (of, _), raw in objects.items() if of == kind]
        there = {raw["metadata"]["uid"] for raw in raws}
        for raw in known:
            if raw["metadata"]["uid"] not in there:
                self._take(kind, "DELETED", raw)
        for raw in raws:
            self._take(kind, "ADDED", raw)

    def _take(self, kind: str, event: str, raw: Raw) -> None:
        metadata = raw["metadata"]
        objects, key = self._objects[metadata["namespace"]], (kind, metadata["name"])
        if event == "DELETED":
            objects.pop(key, None)
        else:
            objects[key] = raw | {"kind": kind}
        self._changed.pop(metadata["namespace"], asyncio.Event()).set()

    def get(self, namespace: str, kind: str, name: str) -> Raw | None:
        return self._objects[namespace].get((kind, name))

    def all(self, namespace: str, *kinds: str) -> Iterator[Raw]:
        """The objects of a namespace, of some kinds or of every one."""
        return (raw for raw in list(self._objects[namespace].values()) if not kinds or raw["kind"] in kinds)

    def next_change(self, namespace: str) -> asyncio.Event:
        """What the next change in a namespace from now on sets: taken before a look that takes a while."""
        return self._changed[namespace]

    async def change(self, namespace: str) -> None:
        """Wait for the next change in a namespace."""
        await self.next_change(namespace).wait()

    async def changes(self, namespace: str, within: float) -> bool:
        """Whether anything changes in a namespace within so many seconds from now."""
        try:
            await asyncio.wait_for(self.change(namespace), within)
        except TimeoutError:
            return False
        return True

    async def until(self, namespace: str, holds: Callable[[], T], seconds: float = PATIENCE) -> T:
        """Wait until something holds of a namespace; TimeoutError when it doesn't in time."""
        async with asyncio.timeout(seconds):
            while not (found := holds()):
                await self.change(namespace)
        return found
