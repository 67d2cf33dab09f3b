"""The jobs of a key's namespace, as the page has them on a cluster: what it does is done by this server's own API.

Each change and each question is a request to one of its routes, in this process, with the key of whoever looks: rights,
limits and sentences are the API's. What OpenAI's API has no word for (promotion, the status itself) asks for the
same rights.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import httpx
from anyio.to_thread import run_sync
from finetune_cli.errors import UserError
from finetune_cli.jobs import Job, before, chosen, job_of, promotable
from finetune_operator.api.values import NAME_MAX_LENGTH
from finetune_operator.conditions import Reason, Type
from finetune_operator.finetunejob.shared import engine_named_in
from finetune_operator.names import PROMOTE
from finetune_trainer.contract.config import base_name
from finetune_trainer.contract.curve import Point
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from finetune_server import tuning, view
from finetune_server.caller import PROJECT, Caller
from finetune_server.engines import Relay
from finetune_server.errors import Problem, missing, on_the_page
from finetune_server.files import Files
from finetune_server.ground import Jobs
from finetune_server.keys import Right
from finetune_server.routing import ModelRoute
from finetune_server.settings import Raw
from finetune_server.ui import views
from finetune_server.ui.form import Draft, Field, Form, Refusal, accepted, document, refused
from finetune_server.ui.place import Action, Data, Message
from finetune_server.ui.rows import uploaded

_NAME = re.compile(f"[a-z][-a-z0-9]{{0,{NAME_MAX_LENGTH - 1}}}")
_FILES = 1000
_EMPTY = "There are no rows here yet: upload a file of them first, by client.files.create of OpenAI's client."
# What the server's routes have for an address: nobody resolves it.
_HERE = "http://api"
# As long as an engine may take; what is limited is limited by the routes.
_TIMEOUT = 3600
_ROWS = (
    "Rows as the model sees them, and how long they are, lie on the job's volume, which this server has no right to "
    "read: `finetune check` of the manifest shows them."
)
_UPLOADED = "The first rows as they were uploaded; `finetune check` of the manifest shows them as the model sees them."
# Of an uploaded file, in bytes and rows.
_READ, _SAMPLE = 256 * 2**10, 3


class ServerParts(Protocol):
    """What the page asks of the server beside its routes."""

    jobs: Jobs
    relay: Relay
    files: Files

    async def manifest(self, body: bytes, caller: Caller, above: Raw) -> Raw:
        """The FineTuneJob that a request asks for."""


@dataclass(frozen=True)
class KeyDoor:
    """Lets in who has a key of finetune-api, or a token that it takes. `namespaces`: whether it takes any."""

    namespaces: bool
    cookie = "finetune-key"
    prompt = "Your key, the one that OpenAI's client has as api_key"
    by_address = False

    async def enter(self, app: Starlette, secret: str) -> "KeyPlace":
        """What the key opens."""
        key, _, namespace = secret.partition("\n")
        caller = await app.state.callers.find(Headers(_shown(key, namespace)))
        await caller.need(Right.READ)
        may = frozenset([right for right in Right if await _may(caller, right)])
        return KeyPlace(app, app.state.server.of(caller), caller, key, may)


def _shown(key: str, namespace: str) -> dict[str, str]:
    """What a request shows."""
    return {"Authorization": f"Bearer {key}", **({PROJECT: namespace} if namespace else {})}


class KeyPlace:
    """A namespace, seen with a key."""

    def __init__(self, app: Starlette, server: ServerParts, caller: Caller, key: str, may: frozenset[Right]) -> None:
        self._app, self._server, self._caller, self._key = app, server, caller, key
        self.name = f"namespace {caller.namespace}"
        self.writes, self.asks = Right.WRITE in may, Right.ASK in may

    async def jobs(self) -> Sequence[Job]:
        """All of the namespace, the newest first."""
        return [_read(raw) for raw in await self._server.jobs.all(self._caller.namespace)]

    async def job(self, name: str) -> Job:
        """The job of a name. Raises Problem where there is none."""
        raw = await self._server.jobs.get(self._caller.namespace, name) if _NAME.fullmatch(name) else None
        if raw is None:
            raise missing("job", name)
        return _read(raw)

    def asked(self, job: Job) -> Mapping[str, object]:
        """Its spec."""
        return dict(job.document["spec"])

    async def system(self, job: Job) -> str:
        """The one that every row was given."""
        return str(job.document["spec"].get("dataset", {}).get("systemPrompt", ""))

    def actions(self, job: Job) -> tuple[Action, ...]:
        """What its state allows, of what the key may do."""
        return actions(job)

    async def act(self, job: Job, action: str, choice: str) -> None:
        """By the API's route, or by the annotation that the operator looks at."""
        if action in ("cancel", "pause", "resume"):
            await self._call("POST", f"/v1/fine_tuning/jobs/{view.id_of(job.name)}/{action}")
            return
        await self._caller.need(Right.WRITE)
        annotation = {PROMOTE: _address(job, action, choice)}
        await self._server.jobs.patch(job.document, {"metadata": {"annotations": annotation}})

    async def data(self, job: Job) -> Data:
        """What the operator said of its rows, and the first of a file that was uploaded here."""
        found = job.condition(Type.DATA_READY)
        findings = (found.message,) if found and found.reason not in (Reason.WAITING, Reason.RUNNING) else ()
        asked = tuning.asked_for(job.document)
        if asked is None:
            return Data(findings, note=_ROWS)
        id = asked["training_file"]
        try:
            await self._caller.need_rows()
        except Problem as problem:
            return Data(findings, note=problem.message)
        try:
            file = await self._call("GET", f"/v1/files/{id}")
            lines = await run_sync(_first, await self._server.files.content(self._caller.namespace, id))
        except Problem as problem:
            return Data(findings, note="The file of its rows is gone." if problem.status == 404 else problem.message)
        return Data(findings, rows=uploaded(lines, file["filename"]), note=_UPLOADED)

    async def curve(self, job: Job) -> Sequence[Point]:
        """As its status tells them."""
        return views.losses(job.status)

    async def report(self, job: Job) -> str | None:
        """It lies on the job's volume."""
        return None

    async def ask(self, job: Job, messages: Sequence[Message], base: bool) -> str:
        """By the API's route; the base model is asked at the same engine, under the same limits."""
        asked: Raw = {"messages": list(messages)}
        if not base:
            return _answer(
                await self._call("POST", "/v1/chat/completions", asked | {"model": view.model_of(job.document)})
            )
        await self._caller.need(Right.ASK)
        if job.status.endpoint is None:
            raise Problem(409, f"Nothing of {job.name} serves now: promote a revision, or wait until one serves.")
        name = base_of(job)
        route = ModelRoute(name, job.status.endpoint.url, name, engine_named_in(job.document["spec"]))

        async def relay(scope: Scope, receive: Receive, send: Send) -> None:
            request, rest = Request(scope, receive), json.dumps(asked).encode()
            answer = await self._server.relay.ask(request, self._caller.namespace, route, rest)
            await answer(scope, receive, send)

        return _answer(await _sent(relay, "POST", "/v1/chat/completions"))

    async def form(self) -> Form:
        """What a request to the API can say, with the files and models that there are."""
        models = await self._call("GET", "/v1/models")
        files = await self._call("GET", f"/v1/files?limit={_FILES}")
        return form([each["id"] for each in models["data"]], [(each["id"], each["filename"]) for each in files["data"]])

    async def draft(self, given: Mapping[str, str]) -> Draft:
        """The FineTuneJob that the API would make."""
        body = await self._body(given)
        try:
            manifest = await self._server.manifest(json.dumps(body).encode(), self._caller, {})
        except Problem as problem:
            return await self._refused(problem)
        return accepted({**manifest, "metadata": {key: manifest["metadata"][key] for key in ("name", "namespace")}})

    async def create(self, given: Mapping[str, str]) -> str:
        """By the API's route."""
        body = await self._body(given)
        try:
            made = await self._call("POST", "/v1/fine_tuning/jobs", body)
        except Problem as problem:
            raise Refusal(await self._refused(problem)) from problem
        return view.name_of(made["id"]) or ""

    async def _body(self, given: Mapping[str, str]) -> Raw:
        """A request; the form has a line for each hyperparameter, which belongs to the method that is chosen."""
        found = document(await self.form(), given)
        method, hyper = found.pop("method", "supervised"), found.pop("hyperparameters", {})
        return {**found, "method": {"type": method, method: {"hyperparameters": hyper}}}

    async def _refused(self, problem: Problem) -> Draft:
        if problem.status >= 500:
            raise problem
        # method.dpo.hyperparameters.beta is beta's line, and so is beta.
        path = re.sub(r"^method\.\w+\.", "", problem.param or "")
        fields = await self.form()
        paths = {each.name: each.path for each in fields.fields}
        return refused(fields, [(paths.get(path, path), problem.message)])

    async def _call(self, method: str, path: str, body: Raw | None = None) -> Raw:
        """A request to a route of this server, as the key's owner would send it. Raises Problem with its sentence."""
        return await _sent(self._app, method, path, body, _shown(self._key, self._caller.namespace))


def _address(job: Job, action: str, choice: str) -> str | None:
    """What is to serve; None: what passes the gate. Raises Problem."""
    try:
        if action == "rollback":
            return before(job)
        return None if action == "unpin" else chosen(job, choice)
    except UserError as error:
        raise Problem(400, error.message) from error


def actions(job: Job) -> tuple[Action, ...]:
    """What can be done to a FineTuneJob as it is now. Pure."""
    status = view.status_of(job.document)
    found = []
    if status not in (*view.ENDED, "paused"):
        found.append(
            Action(
                "pause",
                "Suspend",
                f"Stop the work on {job.name}? It keeps a checkpoint, gives its accelerators back, and goes on from "
                "there with Resume. What serves goes on serving.",
            )
        )
    if status == "paused":
        found.append(Action("resume", "Resume", f"Let {job.name} go on from its last checkpoint?"))
    if status not in view.ENDED:
        found.append(
            Action("cancel", "Cancel", f"Cancel {job.name} for good? What serves goes on serving; the work stops.")
        )
    return (*found, *_promotions(job))


def _promotions(job: Job) -> list[Action]:
    found = []
    if there := promotable(job):
        found.append(
            Action(
                "promote",
                "Promote",
                f"Have a revision of {job.name} serve, whatever the gate says? What is trained later does not take "
                "over until that is ended.",
                tuple(there),
            )
        )
    try:
        earlier = before(job)
    except UserError:
        pass
    else:
        found.append(
            Action(
                "rollback",
                "Roll back",
                f"Have {earlier} of {job.name} serve again, the revision before the one that serves? What is trained "
                "later does not take over until that is ended.",
            )
        )
    if job.promote:
        found.append(
            Action(
                "unpin", "End the promotion", f"Have what passes the gate serve {job.name} again, not {job.promote}?"
            )
        )
    return found


def base_of(job: Job) -> str:
    """The base model's name on a job's engine: of its own one beside the tuned model, of a shared one the Engine's."""
    return engine_named_in(job.document["spec"]) or base_name(job.name)


def form(models: Sequence[str], files: Sequence[tuple[str, str]]) -> Form:
    """The fields of a request to the API. Pure."""
    there = tuple((id, f"{name} ({id})") for id, name in files)
    auto = "Left empty, it is chosen, and the job tells what and why."
    note = "" if there else _EMPTY
    return Form(
        (
            Field("model", "Base model", "model", options=tuple((each, each) for each in models), required=True),
            Field("training_file", "Rows to learn from", "training_file", options=there, required=True),
            Field(
                "validation_file",
                "Rows to watch the loss on",
                "validation_file",
                "Left empty, a tenth of the others.",
                (("", "a tenth of the others"), *there),
            ),
            Field("suffix", "What it is for", "suffix", "Part of its name."),
            Field(
                "method", "Method", "method", options=(("supervised", "supervised"), ("dpo", "dpo, from preferences"))
            ),
            Field("n_epochs", "Epochs", "hyperparameters.n_epochs", auto, number=True),
            Field("batch_size", "Batch size", "hyperparameters.batch_size", auto, number=True),
            Field(
                "learning_rate_multiplier",
                "Learning rate multiplier",
                "hyperparameters.learning_rate_multiplier",
                "Times the base model's usual rate.",
                number=True,
            ),
            Field("beta", "Beta", "hyperparameters.beta", "Of dpo alone.", number=True),
            Field("seed", "Seed", "seed", number=True),
        ),
        note,
    )


async def _may(caller: Caller, right: Right) -> bool:
    try:
        await caller.need(right)
    except Problem as problem:
        if problem.status != 403:
            raise
        return False
    return True


def _read(raw: Raw) -> Job:
    try:
        return job_of(raw)
    except UserError as error:
        raise Problem(500, error.message) from error


def _first(pieces: Iterable[bytes]) -> list[bytes]:
    """The first rows of a file, those that are whole within what is read. Raises Problem."""
    text = b""
    for piece in pieces:
        text += piece
        if len(text) >= _READ:
            break
    else:
        text += b"\n"
    return [line for line in text.split(b"\n")[:-1] if line.strip()][:_SAMPLE]


async def _sent(
    app: Any, method: str, path: str, body: Raw | None = None, headers: Mapping[str, str] | None = None
) -> Raw:
    """What an application of this process answers. Raises Problem with the sentence of what it refuses."""
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url=_HERE, trust_env=False, timeout=_TIMEOUT) as client:
        answer = await client.request(method, path, json=body, headers=headers)
    try:
        found = answer.json()
    except ValueError as error:
        raise Problem(503, "The model answers with no JSON: its engine's log has more.") from error
    if answer.is_error:
        said = found.get("error", {})
        raise Problem(
            answer.status_code, on_the_page(str(said.get("message", said))), said.get("param"), said.get("code")
        )
    return dict(found)


def _answer(found: Raw) -> str:
    return str(found["choices"][0]["message"]["content"] or "")
