"""The only module that talks to the API server: raw objects out, manifests in, all through one field manager.

`reconcile` and `informer` call it. Each call is one request, answered with the object as it is then.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import aiohttp
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.exceptions import ApiException
from kubernetes.aio.client.rest import RESTResponse
from pydantic_core import from_json

from finetune_operator import names
from finetune_operator.api.rules import ApiModel
from finetune_operator.api.v1alpha1 import API_VERSION
from finetune_operator.kinds.actions import Id, Ref
from finetune_operator.kinds.plan import Event
from finetune_operator.pods.metadata import Manifest, controller_of
from finetune_operator.shell.errors import Absent, Gone, InTheWay, Refused, Unavailable
from finetune_operator.shell.resources import LEASE, RESOURCES, Resource

Raw = dict[str, Any]
Parameters = list[tuple[str, str]]

# Answers that say that the object as it is will never do, as long as the cluster's rules are what they are.
_REFUSING = {400, 403, 413, 422}
# An Event's message may have this many bytes.
_EVENT_MESSAGE = 1024
REQUEST_SECONDS = 30.0
# Objects in a page of a list: a megabyte or three of JSON, and ten times that while it is read.
PAGE = 250
# The API server ends a watch after so many seconds. It sends a bookmark every minute: silence means a dead line.
WATCH_SECONDS, SILENCE_SECONDS = 600, 150.0

_JSON = "application/json"
_MERGE = "application/merge-patch+json"
_APPLY = "application/apply-patch+yaml"
_STRATEGIC = "application/strategic-merge-patch+json"


class Cluster:
    """The API server, as far as the operator uses it. Every method raises Unavailable when it should be tried later.

    Refused when the cluster's rules forbid it, be it a write or to read one object.

    `may_write` is asked before each write: an operator that was paused may find that another has taken its place.
    """

    def __init__(self, client: ApiClient, may_write: Callable[[], bool] = lambda: True) -> None:
        self._client = client
        self._may_write = may_write

    async def lacks(self, plurals: Iterable[str]) -> list[str]:
        """Of the kinds that are ours those whose CustomResourceDefinition is not there."""
        found = await self._found(f"/apis/{API_VERSION}", f"what is in {API_VERSION}") or {"resources": []}
        known = {resource["name"] for resource in found["resources"]}
        return [plural for plural in plurals if plural not in known]

    async def get(self, kind: str, namespace: str, name: str) -> Raw | None:
        """An object as it is now; None where there is none."""
        found: Raw | None = await self._found(RESOURCES[kind].path(namespace, name), f"{kind} {name}")
        return found

    async def read(self, namespace: str, wanted: frozenset[Id]) -> dict[Id, Raw | None]:
        """What a manifest names."""
        return {found: await self.get(found[0], namespace, found[1]) for found in sorted(wanted)}

    async def list(self, kind: str, namespace: str | None, label: str = "") -> AsyncIterator[tuple[list[Raw], int]]:
        """Every object of a kind that is watched, or that has a label, page by page, with the list's version.

        Absent when the cluster does not have the kind.
        """
        resource = RESOURCES[kind]
        query = [("limit", str(PAGE)), *_selectors(resource, label)]
        token = ""
        while True:
            try:
                page = await self._send("GET", resource.path(namespace), query=[*query, ("continue", token)])
            except ApiException as error:
                if error.status == 404 and resource.optional:
                    raise Absent(kind) from error
                raise Unavailable(_sentence(error)) from error
            yield page["items"], int(page["metadata"]["resourceVersion"])
            token = page["metadata"].get("continue", "")
            if not token:
                return

    async def watch(self, kind: str, namespace: str | None, version: int) -> AsyncGenerator[tuple[str, Raw], None]:
        """(ADDED, MODIFIED or DELETED, object) since a version, until the API server ends it.

        Gone when that version is no longer known. A bookmark has no more than a version.
        """
        resource = RESOURCES[kind]
        query = [
            *(("watch", "true"), ("allowWatchBookmarks", "true")),
            *(("resourceVersion", str(version)), ("timeoutSeconds", str(WATCH_SECONDS))),
            *_selectors(resource),
        ]
        response = await self._call("GET", resource.path(namespace), query=query, seconds=WATCH_SECONDS + 60)
        try:
            if response.status == 404 and resource.optional:
                raise Gone(kind)
            if response.status != 200:
                failure = _failure(response, (await response.read()).decode(errors="replace"))
                raise Unavailable(_sentence(failure)) if isinstance(failure, ApiException) else failure
            async for line in _lines(response):
                event = from_json(line)
                if event["type"] == "ERROR":
                    raise Gone(str(event["object"].get("message")))
                yield event["type"], event["object"]
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise Unavailable(f"watch of {resource.plural}: {error}") from error
        finally:
            response.response.close()

    async def create(self, manifest: Manifest) -> Raw:
        """Make an object that isn't there; our own, if it is. InTheWay when somebody else's is."""
        kind, metadata = manifest["kind"], manifest["metadata"]
        try:
            query = [("fieldManager", names.FIELD_MANAGER)]
            return await self._change("POST", kind, metadata["namespace"], "", manifest, _JSON, query)
        except ApiException as error:
            if error.status != 409:
                raise Unavailable(_sentence(error)) from error
        found = await self._ours(manifest)
        if found is None:
            raise Unavailable(f"{kind} {metadata['name']} comes and goes")
        return found

    async def apply(self, manifest: Manifest, uid: str | None) -> Raw:
        """Server-side apply to our object with that uid, or of a new one. InTheWay when somebody else's is there."""
        kind, metadata = manifest["kind"], manifest["metadata"]
        if uid is None:
            found = await self._ours(manifest)
            uid = found["metadata"]["uid"] if found else None
        body = {**manifest, "metadata": {**metadata, "uid": uid}} if uid else manifest
        query = [("fieldManager", names.FIELD_MANAGER), ("force", "true" if uid else "false")]
        try:
            return await self._change("PATCH", kind, metadata["namespace"], metadata["name"], body, _APPLY, query)
        except ApiException as error:
            raise Unavailable(_sentence(error)) from error

    async def patch(self, namespace: str, ref: Ref, body: Mapping[str, Any]) -> Raw | None:
        """Change fields of an object, if it still is the one that was observed; None when it is gone."""
        patch = {**body, "metadata": {"uid": ref.uid, **body.get("metadata", {})}}
        query = [("fieldManager", names.FIELD_MANAGER)]
        try:
            return await self._change("PATCH", ref.kind, namespace, ref.name, patch, _MERGE, query)
        except ApiException as error:
            if error.status == 404:
                return None
            raise Unavailable(_sentence(error)) from error

    async def adopt(self, namespace: str, ref: Ref, owner: Mapping[str, Any]) -> Raw | None:
        """Add an owner reference to an object, if it still is the one that was observed; None when it is gone.

        Refused when it has a controller by now: the API server allows one.
        """
        patch = {"metadata": {"uid": ref.uid, "ownerReferences": [dict(owner)]}}
        query = [("fieldManager", names.FIELD_MANAGER)]
        try:
            return await self._change("PATCH", ref.kind, namespace, ref.name, patch, _STRATEGIC, query)
        except ApiException as error:
            await self._check_gone(error, ref.kind, namespace, ref.name, ref.uid)
            return None

    async def scale(self, namespace: str, ref: Ref, version: str, replicas: int) -> None:
        """Ask for so many pods of one of ours, unless it has changed since that version, which is no failure: what has
        changed is looked at anew.
        """
        patch = {"metadata": {"resourceVersion": version}, "spec": {"replicas": replicas}}
        query = [("fieldManager", names.FIELD_MANAGER)]
        try:
            await self._change("PATCH", ref.kind, namespace, f"{ref.name}/scale", patch, _MERGE, query)
        except ApiException as error:
            if error.status not in (404, 409):
                raise Unavailable(_sentence(error)) from error

    async def delete(self, namespace: str, ref: Ref) -> Raw | None:
        """Delete an object, if it still is the one that was observed, after everything that it owns.

        What is left of it while it goes; None when it is gone.
        """
        options = {"preconditions": {"uid": ref.uid}, "propagationPolicy": "Foreground"}
        try:
            found = await self._change("DELETE", ref.kind, namespace, ref.name, options)
        except ApiException as error:
            await self._check_gone(error, ref.kind, namespace, ref.name, ref.uid)
            return None
        return found if found.get("kind") != "Status" else None

    async def apply_status(self, kind: str, subject: Mapping[str, Any], status: ApiModel) -> Raw | None:
        """Write the whole status, unless it says already what is there; None when nothing was written.

        Refused when it breaks the schema, which it never should.
        """
        document = status.model_dump(mode="json", by_alias=True, exclude_none=True)
        if document == subject.get("status"):
            return None
        metadata = {key: subject["metadata"][key] for key in ("name", "namespace", "uid")}
        body = {"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "status": document}
        path = RESOURCES[kind].path(metadata["namespace"], f"{metadata['name']}/status")
        query = [("fieldManager", names.FIELD_MANAGER), ("force", "true")]
        try:
            written: Raw = await self._send("PATCH", path, body, _APPLY, query)
        except ApiException as error:
            if error.status in _REFUSING:
                raise Refused(f"the status of {kind} {metadata['name']}", _sentence(error)) from error
            # Whoever took its place has a status of its own.
            await self._check_gone(error, kind, metadata["namespace"], metadata["name"], metadata["uid"])
            return None
        return written

    async def _check_gone(self, error: ApiException, kind: str, namespace: str, name: str, uid: str) -> None:
        """Whether an answer means that the object of that uid is gone: another one may have its name.

        Unavailable when it is still there, whatever was in the way: a conflict may pass.
        """
        if error.status == 404:
            return
        found = await self.get(kind, namespace, name) if error.status == 409 else None
        if error.status != 409 or (found is not None and found["metadata"]["uid"] == uid):
            raise Unavailable(_sentence(error)) from error

    async def post(self, kind: str, subject: Mapping[str, Any], event: Event) -> None:
        """Post an Event about one of ours; its name comes from what it says, so that a repetition is none."""
        metadata = subject["metadata"]
        said = [metadata["uid"], metadata.get("generation"), event.type, event.reason, event.message]
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        body = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{metadata['name']}.{names.digest(said)}", "namespace": metadata["namespace"]},
            "involvedObject": {
                "apiVersion": API_VERSION,
                "kind": kind,
                **{key: metadata[key] for key in ("name", "namespace", "uid")},
            },
            "type": event.type,
            "reason": event.reason,
            "message": event.message.encode()[:_EVENT_MESSAGE].decode(errors="ignore"),
            "source": {"component": names.FIELD_MANAGER},
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        try:
            await self._send("POST", RESOURCES["Event"].path(metadata["namespace"]), body)
        except ApiException as error:
            # Posted before (409), or the namespace is going (403): either way there is nothing to say again.
            if error.status not in (403, 404, 409):
                raise Unavailable(_sentence(error)) from error

    async def read_lease(self, namespace: str, name: str) -> Raw | None:
        """A Lease; None when there is none."""
        return await self._lease("GET", namespace, name)

    async def write_lease(self, lease: Manifest) -> Raw | None:
        """Make a Lease, or replace the version that was read; None when somebody else was faster."""
        metadata = lease["metadata"]
        method = "PUT" if "resourceVersion" in metadata else "POST"
        return await self._lease(method, metadata["namespace"], metadata["name"], lease)

    async def _lease(self, method: str, namespace: str, name: str, body: Manifest | None = None) -> Raw | None:
        try:
            return dict(await self._send(method, LEASE.path(namespace, "" if method == "POST" else name), body))
        except ApiException as error:
            # Taken, or deleted: but where there is nothing to make one in, there never will be one.
            if error.status == 409 or (error.status == 404 and method != "POST"):
                return None
            if error.status == 401:
                raise Unavailable(_sentence(error)) from error
            raise Refused(f"Lease {namespace}/{name}", _sentence(error)) from error

    async def _ours(self, manifest: Manifest) -> Raw | None:
        """The object that stands where a manifest goes: ours, or none."""
        kind, metadata = manifest["kind"], manifest["metadata"]
        found = await self.get(kind, metadata["namespace"], metadata["name"])
        if found is not None and controller_of(found) != controller_of(manifest):
            raise InTheWay(kind, found)
        return found

    async def _change(
        self,
        method: str,
        kind: str,
        namespace: str,
        name: str,
        body: Any,
        content: str = _JSON,
        query: Parameters | None = None,
    ) -> Raw:
        """A write. Refused when the cluster's rules forbid it; other failures are the caller's to read."""
        try:
            answer: Raw = await self._send(method, RESOURCES[kind].path(namespace, name), body, content, query)
        except ApiException as error:
            if error.status in _REFUSING:
                what = f"{kind} {name or body['metadata']['name']}"
                raise Refused(f"to delete {what}" if method == "DELETE" else what, _sentence(error)) from error
            raise
        return answer

    async def _found(self, path: str, what: str) -> Any:
        """What is there; None when there is nothing. Refused when the cluster's rules forbid to look."""
        try:
            return await self._send("GET", path)
        except ApiException as error:
            if error.status == 404:
                return None
            if error.status in _REFUSING:
                raise Refused(f"to show {what}", _sentence(error)) from error
            raise Unavailable(_sentence(error)) from error

    async def _send(
        self, method: str, path: str, body: Any = None, content: str = _JSON, query: Parameters | None = None
    ) -> Any:
        try:
            response = await self._call(method, path, body, content, query)
            text = await response.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Unavailable(f"{method} {path}: {error or type(error).__name__}") from error
        if 200 <= response.status <= 299:
            try:
                return from_json(text)
            except ValueError as error:
                raise Unavailable(f"{method} {path}: the answer is no JSON: {error}") from error
        raise _failure(response, text.decode(errors="replace"))

    async def _call(
        self,
        method: str,
        path: str,
        body: Any = None,
        content: str = _JSON,
        query: Parameters | None = None,
        seconds: float = REQUEST_SECONDS,
    ) -> RESTResponse:
        if method != "GET" and not self._may_write():
            raise Unavailable(f"{method} {path}: this operator leads no more")
        headers = {"Content-Type": content, "Accept": _JSON}
        request = await self._client.param_serialize(
            method, path, query_params=query or [], header_params=headers, body=body, auth_settings=["BearerToken"]
        )
        try:
            response: RESTResponse = await self._client.call_api(*request, _request_timeout=seconds)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Unavailable(f"{method} {path}: {error or type(error).__name__}") from error
        return response


def _selectors(resource: Resource, label: str = "") -> Parameters:
    found = [("labelSelector", label or resource.label_selector), ("fieldSelector", resource.field_selector)]
    return [(name, value) for name, value in found if value]


async def _lines(response: RESTResponse) -> AsyncIterator[bytes]:
    """The lines of a stream, however long each of them is."""
    rest = b""
    while True:
        # `asyncio.wait_for` would lose a cancellation that comes with a chunk (Python 3.11): the watch went on.
        async with asyncio.timeout(SILENCE_SECONDS):
            chunk = await response.response.content.readany()
        if not chunk:
            return
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line


def _failure(response: RESTResponse, text: str) -> ApiException | Gone | Unavailable:
    """What an answer other than success means: to be tried later, or for the caller to read."""
    failure = ApiException(status=response.status, reason=response.reason, body=text)
    if response.status == 410:
        return Gone(_sentence(failure))
    if response.status == 429 or response.status >= 500:
        after = response.headers.get("Retry-After", "")
        return Unavailable(_sentence(failure), float(after) if after.isdecimal() else 0)
    return failure


def _sentence(error: ApiException) -> str:
    """The API server's own words."""
    try:
        return str(json.loads(error.body)["message"])
    except (TypeError, ValueError, KeyError):
        return f"{error.status} {error.reason}"
