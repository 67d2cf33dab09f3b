"""Azure's shape of the same: deployments over FineTuneJobs, and requests to its paths as requests to OpenAI's.

A deployment is a label of the FineTuneJob whose model it serves, deployments.finetune.dev/NAME with the sku's name, and
hosting.enabled. So kubectl sees it, any replica does, and it is gone with the job. Jobs made by Azure's paths begin
without hosting, as models there cost nothing until they are deployed. `app` has the routes.
"""

import json
import re
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.types import Message

from finetune_server import incoming, view
from finetune_server.errors import Problem, invalid, missing
from finetune_server.ground import Jobs
from finetune_server.settings import Raw

# What a job that Azure's paths make begins with.
UNDEPLOYED = {"hosting": {"enabled": False}}
_NAME = re.compile("[a-zA-Z0-9]([-._a-zA-Z0-9]{0,61}[a-zA-Z0-9])?")
VERSION = "[0-9]{4}-[0-9]{2}-[0-9]{2}(-preview)?"
# And of the paths that have their version in them.
V1 = ("v1", "preview", "latest")
_TYPE = "Microsoft.CognitiveServices/accounts/deployments"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class _Sku(_Part):
    # Azure's names of what is paid by token; how much a deployment takes is the table's, so capacity has one value.
    name: Annotated[str, Field(pattern="(?i)^(standard|globalstandard|developertier|developer)$")]
    capacity: Literal[1] = 1


class _Model(_Part):
    format: Literal["OpenAI"]
    name: str
    version: Literal["1"] = "1"


class _Properties(_Part):
    model: _Model


class DeploymentRequest(_Part):
    """The body of PUT …/deployments/NAME."""

    sku: _Sku
    properties: _Properties


class Deployments:
    """The deployments of all namespaces; every method raises Problem. `place`: the path of a namespace's."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs

    async def all(self, namespace: str, place: str) -> list[Raw]:
        """All in a namespace."""
        found = [(name, raw) for raw in await self._jobs.all(namespace) for name in view.deployments(raw)]
        return [_seen(name, raw, place) for name, raw in sorted(found, key=lambda each: each[0])]

    async def get(self, namespace: str, name: str, place: str) -> Raw:
        """The deployment of a name. Raises Problem where there is none."""
        return _seen(name, await self.job(namespace, name), place)

    async def put(self, namespace: str, name: str, body: bytes, place: str) -> tuple[Raw, bool]:
        """Deploy a model under a name; and whether it is new."""
        try:
            asked = DeploymentRequest.model_validate_json(body)
        except ValidationError as error:
            raise invalid(error) from error
        if not _NAME.fullmatch(name):
            raise Problem(
                400,
                f"{name[:80]!r} can't be a deployment's name: at most 63 letters, digits, '-', '_' and '.', a letter "
                "or digit first and last.",
                code="InvalidResourceName",
            )
        raw = await self._tuned(namespace, asked.properties.model.name)
        before = await self._holders(namespace, name)
        _no_other(name, raw, before)
        label = {f"{view.DEPLOYMENTS}{name}": asked.sku.name.lower()}
        raw = await self._jobs.patch(raw, {"metadata": {"labels": label}, "spec": {"hosting": {"enabled": True}}})
        try:
            # Somebody else may have taken the name for another model at the same moment.
            _no_other(name, raw, await self._holders(namespace, name))
        except Problem:
            await self._release(raw, name)
            raise
        return _seen(name, raw, place), not before

    async def delete(self, namespace: str, name: str) -> bool:
        """Take a name from its model, and with the last one its engine; whether there was one."""
        holders = await self._holders(namespace, name)
        for raw in holders:
            await self._release(raw, name)
        return bool(holders)

    async def job(self, namespace: str, name: str) -> Raw:
        """The FineTuneJob whose model is deployed under a name."""
        holders = await self._holders(namespace, name)
        if not holders:
            raise Problem(
                404, f"No such deployment: {name}. Deploy a model under that name first.", code="DeploymentNotFound"
            )
        return holders[-1]

    async def _holders(self, namespace: str, name: str) -> list[Raw]:
        """Those with the name, the newest first; more than one for a moment only."""
        return await self._jobs.all(namespace, f"{view.DEPLOYMENTS}{name}") if _NAME.fullmatch(name) else []

    async def _release(self, raw: Raw, name: str) -> None:
        body: Raw = {"metadata": {"labels": {f"{view.DEPLOYMENTS}{name}": None}}}
        if view.deployments(raw).keys() == {name}:
            body["spec"] = UNDEPLOYED
        await self._jobs.patch(raw, body)

    async def _tuned(self, namespace: str, model: str) -> Raw:
        job = view.job_named_in(model)
        raw = await self._jobs.get(namespace, job) if job else None
        if raw is None or view.job(raw)["fine_tuned_model"] != model:
            raise missing("fine-tuned model", model, "properties.model.name")
        return raw


def no_version(request: Request, versioned: bool) -> Request:
    """A request to OpenAI's own path, which knows no api-version. All that are known mean the same. Raises Problem."""
    given = QueryParams(request.scope["query_string"]).multi_items()
    versions = [value for name, value in given if name == "api-version"]
    if versioned and not versions:
        raise Problem(400, "api-version is required, such as ?api-version=2024-10-21.", "api-version")
    for each in versions:
        if not re.fullmatch(VERSION, each) and (versioned or each not in V1):
            raise Problem(400, f"api-version {each[:40]} is no version: send one such as 2024-10-21.", "api-version")
    left = str(QueryParams([each for each in given if each[0] != "api-version"]))
    return Request({**request.scope, "query_string": left.encode()}, request.receive)


async def question(request: Request, most: int) -> tuple[str, Raw]:
    """The deployment or model that is asked, by the path or else by the body, and the body. Raises Problem."""
    try:
        found = json.loads(await incoming.body(request, most))
    except (ValueError, RecursionError) as error:
        raise Problem(400, f"The request's body is not JSON: {error}.") from error
    if not isinstance(found, dict):
        raise Problem(400, "The request's body must be a JSON object.")
    name = request.path_params.get("name", found.get("model"))
    if not isinstance(name, str):
        raise Problem(400, "model is required, the name of a deployment.", "model")
    return name, found


def to_model(request: Request, model: str, body: Raw) -> Request:
    """The same question to OpenAI's own path, by a model's name."""
    content = json.dumps(body | {"model": model}).encode()
    path = f"/v1/{'chat/completions' if request.scope['path'].endswith('/chat/completions') else 'completions'}"
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
    asked = True

    async def receive() -> Message:
        nonlocal asked
        if not asked:
            return await request.receive()
        asked = False
        return {"type": "http.request", "body": content, "more_body": False}

    return Request({**request.scope, "path": path, "headers": headers}, receive)


def _no_other(name: str, raw: Raw, holders: list[Raw]) -> None:
    """Raises Problem where the name is another model's; of two at once, the newer FineTuneJob's gives way."""
    if holders and holders[-1]["metadata"]["uid"] != raw["metadata"]["uid"]:
        raise Problem(
            409,
            f"Deployment {name} is of model {view.model_of(holders[-1])}: delete it first, or take another name.",
            "properties.model.name",
            "DeploymentExists",
        )


def _seen(name: str, raw: Raw, place: str) -> Raw:
    sku = view.deployments(raw)[name]
    return {
        "id": f"{place}/{name}",
        "type": _TYPE,
        "name": name,
        "sku": {"name": sku, "capacity": 1},
        "properties": {
            "model": {"format": "OpenAI", "name": view.model_of(raw), "version": "1"},
            "provisioningState": _state(raw),
        },
    }


def _state(raw: Raw) -> str:
    told = raw.get("status", {})
    # What is told of the manifest as it was before says nothing of this one.
    if told.get("observedGeneration") != raw["metadata"].get("generation"):
        return "Creating"
    if view.model(raw):
        return "Succeeded"
    return "Failed" if told.get("phase") in view.FAILED else "Creating"
