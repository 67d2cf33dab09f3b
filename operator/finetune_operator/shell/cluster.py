"""The only module that talks to the API server: raw objects out, manifests in, all through one field manager.

`reconcile` calls it. RESOURCES is the whole of what the operator may do; the chart's rules are held to it by a test.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import aiohttp
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.exceptions import ApiException

from finetune_operator import names
from finetune_operator.api.status import FineTuneJobStatus
from finetune_operator.api.v1alpha1 import API_VERSION, KIND, PLURAL
from finetune_operator.finetunejob.observe import Ref, Snapshot
from finetune_operator.finetunejob.plan import Event
from finetune_operator.finetunejob.target import Manifest
from finetune_operator.shell.errors import Refused, Unavailable

Raw = dict[str, Any]
Parameters = list[tuple[str, str]]

# Answers to which the same call may be met with another one later.
_PASSING = {429, 500, 502, 503, 504}
# Answers that say that the object as it is will never do, as long as the cluster's rules are what they are.
_REFUSING = {400, 403, 413, 422}
# An Event's message may have this many bytes.
_EVENT_MESSAGE = 1024


@dataclass(frozen=True)
class Key:
    """One FineTuneJob."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True)
class Resource:
    """A kind of object, and the verbs that the operator uses on it. `watch` is kopf's, in `handlers`."""

    api_version: str
    plural: str
    verbs: frozenset[str]

    def path(self, namespace: str, name: str = "") -> str:
        """Where it lives in the API."""
        root = "/api/" if "/" not in self.api_version else "/apis/"
        return f"{root}{self.api_version}/namespaces/{namespace}/{self.plural}{'/' if name else ''}{name}"


def _resource(api_version: str, plural: str, verbs: str) -> Resource:
    return Resource(api_version, plural, frozenset(verbs.split()))


_MADE = "list watch create patch delete"
RESOURCES: dict[str, Resource] = {
    KIND: _resource(API_VERSION, PLURAL, "get list watch"),
    "Job": _resource("batch/v1", "jobs", _MADE),
    "Deployment": _resource("apps/v1", "deployments", _MADE),
    "Service": _resource("v1", "services", f"get {_MADE}"),
    "PersistentVolumeClaim": _resource("v1", "persistentvolumeclaims", f"get {_MADE}"),
    "ConfigMap": _resource("v1", "configmaps", f"get {_MADE}"),
    "Pod": _resource("v1", "pods", "list watch"),
    "Event": _resource("v1", "events", "list create"),
}
STATUS = _resource(API_VERSION, f"{PLURAL}/status", "patch")
# Owner references that block deletion ask for this right where the cluster enforces it.
FINALIZERS = _resource(API_VERSION, f"{PLURAL}/finalizers", "update")
CHILDREN = ("Job", "Pod", "Deployment", "Service", "PersistentVolumeClaim", "ConfigMap")


class Cluster:
    """The API server, as far as the operator uses it. Every method raises Unavailable when it should be tried later."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client

    async def knows_finetunejobs(self) -> bool:
        """Whether the CustomResourceDefinition is there."""
        return await self._unless_gone("GET", f"/apis/{API_VERSION}") is not None

    async def snapshot(self, key: Key) -> Snapshot | None:
        """Everything around a FineTuneJob, as it is now; None when it is gone."""
        job = await self._get(KIND, key.namespace, key.name)
        if job is None:
            return None
        children = {kind: await self._children(kind, key) for kind in CHILDREN}
        return Snapshot(
            job=job,
            children=children,
            stable_service=await self._get("Service", key.namespace, key.name),
            user_claims=await self._named("PersistentVolumeClaim", key.namespace, _sources(job, "pvc")),
            user_config_maps=await self._named("ConfigMap", key.namespace, _sources(job, "configmap")),
            job_events=await self._refusals(key.namespace, children),
        )

    async def apply(self, manifest: Manifest) -> None:
        """Server-side apply; Refused when the API server will not have it."""
        metadata, kind = manifest["metadata"], manifest["kind"]
        path = RESOURCES[kind].path(metadata["namespace"], metadata["name"])
        try:
            await self._apply(path, manifest)
        except ApiException as error:
            if error.status in _REFUSING:
                raise Refused(f"{kind} {metadata['name']}", _sentence(error)) from error
            if error.status in (404, 409):
                raise Unavailable(_sentence(error)) from error
            raise

    async def suspend(self, namespace: str, job: Ref, suspend: bool) -> None:
        """Set a Job's spec.suspend, if it still is the Job that was observed."""
        patch = {"metadata": {"uid": job.uid}, "spec": {"suspend": suspend}}
        path = RESOURCES["Job"].path(namespace, job.name)
        await self._unless_gone("PATCH", path, patch, "application/merge-patch+json")

    async def delete(self, namespace: str, ref: Ref) -> None:
        """Delete an object, if it still is the one that was observed, after everything that it owns."""
        options = {"preconditions": {"uid": ref.uid}, "propagationPolicy": "Foreground"}
        await self._unless_gone("DELETE", RESOURCES[ref.kind].path(namespace, ref.name), options)

    async def apply_status(self, job: Mapping[str, Any], status: FineTuneJobStatus) -> None:
        """Write the whole status, unless it says already what is there."""
        document = status.model_dump(mode="json", by_alias=True, exclude_none=True)
        if document == job.get("status"):
            return
        metadata = {key: job["metadata"][key] for key in ("name", "namespace", "uid")}
        body = {"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "status": document}
        path = RESOURCES[KIND].path(metadata["namespace"], f"{metadata['name']}/status")
        try:
            await self._apply(path, body)
        except ApiException as error:
            # Gone, or another one of its name: whoever took its place has a status of its own.
            if error.status not in (404, 409):
                raise

    async def post(self, job: Mapping[str, Any], event: Event) -> None:
        """Post an Event about a FineTuneJob; its name comes from what it says, so that a repetition is none."""
        metadata = job["metadata"]
        said = [metadata["uid"], metadata.get("generation"), event.type, event.reason, event.message]
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        body = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{metadata['name']}.{names.digest(said)}", "namespace": metadata["namespace"]},
            "involvedObject": {
                "apiVersion": API_VERSION,
                "kind": KIND,
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
                raise

    async def _children(self, kind: str, key: Key) -> list[Raw]:
        selector = [("labelSelector", f"{names.JOB}={key.name}")]
        found = await self._send("GET", RESOURCES[kind].path(key.namespace), query=selector)
        return list(found["items"])

    async def _named(self, kind: str, namespace: str, wanted: set[str]) -> dict[str, Raw | None]:
        return {name: await self._get(kind, namespace, name) for name in sorted(wanted)}

    async def _refusals(self, namespace: str, children: Mapping[str, list[Raw]]) -> list[Raw]:
        """Events that say why a Job of ours has no pod: nothing else has the API server's refusal of a pod."""
        podless = [job for job in children["Job"] if _waits_for_pod(job)]
        if not podless or children["Pod"]:
            return []
        selector = [("fieldSelector", "involvedObject.kind=Job,reason=FailedCreate")]
        found = await self._send("GET", RESOURCES["Event"].path(namespace), query=selector)
        uids = {job["metadata"]["uid"] for job in podless}
        return [event for event in found["items"] if event["involvedObject"].get("uid") in uids]

    async def _get(self, kind: str, namespace: str, name: str) -> Raw | None:
        found: Raw | None = await self._unless_gone("GET", RESOURCES[kind].path(namespace, name))
        return found

    async def _apply(self, path: str, body: Manifest) -> None:
        query = [("fieldManager", names.FIELD_MANAGER), ("force", "true")]
        await self._send("PATCH", path, body, "application/apply-patch+yaml", query)

    async def _unless_gone(self, method: str, path: str, body: Any = None, content: str = "application/json") -> Any:
        """A call on an object; None when there is no such object any more, or another one of its name (409)."""
        try:
            return await self._send(method, path, body, content)
        except ApiException as error:
            if error.status in (404, 409):
                return None
            raise

    async def _send(
        self,
        method: str,
        path: str,
        body: Any = None,
        content: str = "application/json",
        query: Parameters | None = None,
    ) -> Any:
        headers = {"Content-Type": content, "Accept": "application/json"}
        request = await self._client.param_serialize(
            method, path, query_params=query or [], header_params=headers, body=body, auth_settings=["BearerToken"]
        )
        try:
            response = await self._client.call_api(*request, _request_timeout=30)
            text = await response.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Unavailable(f"{method} {path}: {error}") from error
        if 200 <= response.status <= 299:
            return json.loads(text)
        failure = ApiException(status=response.status, reason=response.reason, body=text.decode())
        if response.status in _PASSING:
            raise Unavailable(_sentence(failure)) from failure
        raise failure


def _sentence(error: ApiException) -> str:
    """The API server's own words."""
    try:
        return str(json.loads(error.body)["message"])
    except (TypeError, ValueError, KeyError):
        return f"{error.status} {error.reason}"


def _waits_for_pod(job: Raw) -> bool:
    status = job.get("status", {})
    return not status.get("active") and not status.get("conditions") and not job["spec"].get("suspend")


def _sources(job: Raw, scheme: str) -> set[str]:
    """The names of the user's own objects in the spec's URIs of a scheme."""
    spec = job.get("spec", {})
    dataset = spec.get("dataset", {})
    splits = (dataset.get(split) or {} for split in ("train", "validation", "test"))
    uris = [spec.get("model", {}).get("source", ""), *(split.get("source", "") for split in splits)]
    return {uri.removeprefix(f"{scheme}://").split("/")[0] for uri in uris if uri.startswith(f"{scheme}://")}
