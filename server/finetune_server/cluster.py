"""FineTuneJobs and Engines at the API server: the only state that the server has, and all that it may do there."""

import json
from collections.abc import Awaitable
from typing import cast

import aiohttp
from finetune_operator.api import engine
from finetune_operator.api.v1alpha1 import GROUP, PLURAL, VERSION
from kubernetes.aio.client.api.custom_objects_api import CustomObjectsApi
from kubernetes.aio.client.exceptions import ApiException

from finetune_server.errors import Problem
from finetune_server.settings import Raw

# What the server does with which of them, for the test that holds the chart's rules to it.
VERBS = {
    PLURAL: frozenset({"get", "list", "create", "patch"}),
    engine.PLURAL: frozenset({"get", "list"}),
    f"{engine.PLURAL}/scale": frozenset({"patch"}),
}
_PAGE = 250
SECONDS = 30.0
_GROUP = {"group": GROUP, "version": VERSION}


def by(token: str) -> Raw:
    """What has the API server asked with a token in place of the server's own."""
    auth = {"type": "api_key", "in": "header", "key": "authorization", "value": f"Bearer {token}"}
    return {"_request_auth": auth}


class _Objects:
    """Those of one kind, of all namespaces. Every method raises Problem with the API server's words.

    With a token they are asked by it: what its owner may not do is refused, and the audit log names them.
    """

    plural: str

    def __init__(self, api: CustomObjectsApi, token: str | None = None) -> None:
        self._api, self._where = api, {**_GROUP, "plural": self.plural}
        self._by = by(token) if token else {}

    async def all(self, namespace: str, selector: str = "") -> list[Raw]:
        """All in a namespace, or those with labels, the newest first."""
        found: list[Raw] = []
        token = ""
        while True:
            page = await _answered(
                self._api.list_namespaced_custom_object(
                    **self._where,
                    namespace=namespace,
                    label_selector=selector,
                    limit=_PAGE,
                    _continue=token,
                    _request_timeout=SECONDS,
                    **self._by,
                )
            )
            found += page["items"]
            token = page["metadata"].get("continue", "")
            if not token:
                break
        return sorted(found, key=lambda raw: (raw["metadata"]["creationTimestamp"], raw["metadata"]["name"]))[::-1]

    async def get(self, namespace: str, name: str) -> Raw | None:
        """One; None where there is none."""
        try:
            return await _answered(
                self._api.get_namespaced_custom_object(
                    **self._where, namespace=namespace, name=name, _request_timeout=SECONDS, **self._by
                )
            )
        except _Absent:
            return None


class ClusterJobs(_Objects):
    """The FineTuneJobs."""

    plural = PLURAL

    async def create(self, manifest: Raw) -> Raw:
        """Make a FineTuneJob."""
        namespace = manifest["metadata"]["namespace"]
        return await _answered(
            self._api.create_namespaced_custom_object(
                **self._where,
                namespace=namespace,
                body=manifest,
                field_validation="Strict",
                _request_timeout=SECONDS,
                **self._by,
            )
        )

    async def patch(self, raw: Raw, body: Raw) -> Raw:
        """Change a FineTuneJob, if it still is as it was read."""
        metadata = raw["metadata"]
        version = {"resourceVersion": metadata["resourceVersion"], "uid": metadata["uid"]}
        return await _answered(
            self._api.patch_namespaced_custom_object(
                **self._where,
                namespace=metadata["namespace"],
                name=metadata["name"],
                body={**body, "metadata": {**body.get("metadata", {}), **version}},
                _request_timeout=SECONDS,
                **self._by,
            )
        )


class ClusterEngines(_Objects):
    """The Engines."""

    plural = engine.PLURAL

    async def wake(self, raw: Raw) -> None:
        """Scale one to as many pods as it had, unless somebody else has changed it since it was read."""
        metadata = raw["metadata"]
        pods = raw.get("status", {}).get("wakesTo") or 1
        body = {"metadata": {"resourceVersion": metadata["resourceVersion"]}, "spec": {"replicas": pods}}
        try:
            await _answered(
                self._api.patch_namespaced_custom_object_scale(
                    **self._where,
                    namespace=metadata["namespace"],
                    name=metadata["name"],
                    body=body,
                    _request_timeout=SECONDS,
                )
            )
        except Problem as problem:
            if problem.status != 409:
                raise


class _Absent(Problem):
    """The API server has no object of that name."""


class Unknown(Problem):
    """The API server does not know who asks."""


async def answered(call: Awaitable[object]) -> object:
    """What the API server answers. Raises Problem."""
    try:
        return await call
    except ApiException as error:
        raise _problem(error) from error
    except (aiohttp.ClientError, TimeoutError) as error:
        raise Problem(503, "The cluster does not answer: try again in a moment.", code="cluster_unavailable") from error


async def _answered(call: Awaitable[object]) -> Raw:
    return cast(Raw, await answered(call))


def _problem(error: ApiException) -> Problem:
    """What the API server's refusal means to the client. A conflict passes: OpenAI's client tries again by itself."""
    try:
        said = str(json.loads(error.body)["message"])
    except (TypeError, ValueError, KeyError):
        said = f"{error.status} {error.reason}"
    if error.status == 404:
        return _Absent(404, said, code="not_found")
    if error.status in (400, 422):
        return Problem(400, said)
    if error.status == 409:
        return Problem(409, "The job has changed meanwhile: try again.", code="conflict")
    if error.status == 403:
        return Problem(403, f"The cluster does not allow it: {said}", code="forbidden")
    if error.status == 401:
        return Unknown(503, f"The cluster does not answer now: {said}", code="cluster_unavailable")
    return Problem(503, f"The cluster does not answer now: {said}", code="cluster_unavailable")
