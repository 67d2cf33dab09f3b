"""The routes: who asks, what for, and the answer in OpenAI's shape. All work is done by the modules below.

What is a cluster's, or a laptop's, is its `ground`: `on_cluster` and `finetune serve` make the server with one.
"""

import asyncio
import copy
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any

import httpx
from finetune_trainer.contract.config import Format
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from finetune_server import azure, incoming, routing, tuning, view
from finetune_server.caller import Caller
from finetune_server.document import document
from finetune_server.engines import TIMEOUT, Relay
from finetune_server.errors import Problem, missing
from finetune_server.files import PURPOSE, seen
from finetune_server.ground import Ground
from finetune_server.keys import Right
from finetune_server.limits import RateLimit, Rates
from finetune_server.not_here import why_not
from finetune_server.routing import ModelRoute
from finetune_server.settings import Raw, Settings, merged
from finetune_server.streams import Streamed, Watched, followed

# Bytes of a request for a job, and of one for a model: a long conversation.
_JOB, _QUESTION = 2**20, 2**20
# The most files that a page of their list has, as many as it has unless it is asked for more, and lists at a time.
_FILES, _FILES_PAGE, _LISTS = 10_000, 1000, 16
# Streams of events at a time, and how often each looks again, in seconds.
_STREAMS, _STREAM_SECONDS = 64, 2.0
Handler = Callable[["Server", Request, Caller], Awaitable[Response]]


class Server:
    """What all requests share. Each handler is one of OpenAI's endpoints."""

    def __init__(self, settings: Settings, ground: Ground, relay: Relay) -> None:
        self.settings, self.relay = settings, relay
        self._stand_on(ground)
        self.uploads = incoming.Turns(settings.uploads, "The uploads under way")
        self.lists = incoming.Turns(_LISTS, "The lists of files under way")
        self.streams = incoming.Turns(_STREAMS, "The streams of events under way")
        # Jobs are counted and begun one after the other.
        self.begins: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    def of(self, caller: Caller) -> "Server":
        """The same, for somebody."""
        found = copy.copy(self)
        found._stand_on(self.ground.of(caller))
        return found

    def _stand_on(self, ground: Ground) -> None:
        self.ground, self.jobs, self.engines, self.files = ground, ground.jobs, ground.engines, ground.files

    async def upload(self, request: Request, caller: Caller) -> Response:
        """POST /v1/files."""
        with self.uploads.turn(caller.namespace):
            settings = self.settings
            file = await incoming.upload(request, settings.file_bytes, settings.upload_seconds, PURPOSE)
            try:
                caller.limits.room_for_a_file(*await self.files.kept(caller.namespace), file.size or 0)
                return JSONResponse(seen(await self.files.add(caller.namespace, str(file.filename), file.file)))
            finally:
                # It has no name on disk: left to the garbage collector, nobody would see what it takes.
                await file.close()

    async def list_files(self, request: Request, caller: Caller) -> Response:
        """GET /v1/files."""
        incoming.only(request, "after", "limit", "order", "purpose")
        asked, order = request.query_params, incoming.chosen(request, "order", "desc", "asc")
        with self.lists.turn(caller.namespace):
            ids = await self.files.ids(caller.namespace) if asked.get("purpose", PURPOSE) == PURPOSE else []
            if order == "asc":
                ids.reverse()
            page = incoming.page(request, [{"id": id} for id in ids], _FILES_PAGE, _FILES)
            shown = await self.files.some(caller.namespace, [each["id"] for each in page["data"]])
        return JSONResponse(page | {"data": [seen(each) for each in shown]})

    async def file(self, request: Request, caller: Caller) -> Response:
        """GET /v1/files/ID."""
        return JSONResponse(seen(await self.files.get(caller.namespace, request.path_params["id"])))

    async def content(self, request: Request, caller: Caller) -> Response:
        """GET /v1/files/ID/content."""
        await caller.need_rows()
        id = request.path_params["id"]
        found = await self.files.get(caller.namespace, id)
        length = {"Content-Length": str(found["bytes"])}
        return Streamed(await self.files.content(caller.namespace, id), 200, length, "application/jsonl")

    async def delete_file(self, request: Request, caller: Caller) -> Response:
        """DELETE /v1/files/ID."""
        id = request.path_params["id"]
        await self.files.delete(caller.namespace, id)
        return JSONResponse({"id": id, "object": "file", "deleted": True})

    async def create(self, request: Request, caller: Caller) -> Response:
        """POST /v1/fine_tuning/jobs."""
        return await self._create(request, caller, {})

    async def create_undeployed(self, request: Request, caller: Caller) -> Response:
        """POST /openai/fine_tuning/jobs: what comes of it is served once it is deployed."""
        return await self._create(request, caller, azure.UNDEPLOYED)

    async def _create(self, request: Request, caller: Caller, above: Raw) -> Response:
        manifest = await self.manifest(await incoming.body(request, _JOB), caller, above)
        async with self._room_for_a_job(caller):
            return JSONResponse(view.job(await self.jobs.create(manifest)))

    async def manifest(self, body: bytes, caller: Caller, above: Raw) -> Raw:
        """The FineTuneJob that a request asks for, with a part of the spec above the table's. Raises Problem."""
        asked = tuning.read(body)
        base = await self._base(caller.namespace, asked.model)
        base = base.model_copy(update={"spec": merged(base.spec, above)})
        named = {"training_file": asked.training_file, "validation_file": asked.validation_file}
        rows = {}
        for param, id in named.items():
            if id is not None:
                file = await self.files.get(caller.namespace, id, param)
                rows[param] = (self.files.source(caller.namespace, id), Format(file["format"]))
        found = tuning.manifest(asked, base, caller.namespace, rows, self.settings.rows_secret)
        found["metadata"]["annotations"][tuning.CALLER] = caller.name
        return found

    async def list_jobs(self, request: Request, caller: Caller) -> Response:
        """GET /v1/fine_tuning/jobs."""
        incoming.only(request, "after", "limit", "metadata[")
        found = [view.job(raw) for raw in await self.jobs.all(caller.namespace)]
        return JSONResponse(incoming.page(request, incoming.with_metadata(request, found), 20))

    async def job(self, request: Request, caller: Caller) -> Response:
        """GET /v1/fine_tuning/jobs/ID."""
        return JSONResponse(view.job(await self._job(request, caller)))

    async def events(self, request: Request, caller: Caller) -> Response:
        """GET /v1/fine_tuning/jobs/ID/events."""
        incoming.only(request, "after", "limit", "stream")
        if incoming.chosen(request, "stream", "false", "true") == "true":
            return await self._follow(request, caller)
        found = view.events(await self._job(request, caller), datetime.now(UTC))
        return JSONResponse(incoming.page(request, found, 20))

    async def _follow(self, request: Request, caller: Caller) -> Response:
        """Its events as they happen, until it has ended."""
        incoming.only(request, "after", "stream")
        now = view.events(await self._job(request, caller), datetime.now(UTC))
        after = request.query_params.get("after")
        left = now if after is None else incoming.behind(now[::-1], after)
        known = {each["id"] for each in now} - {each["id"] for each in left}

        async def look() -> tuple[list[Raw], bool]:
            # A key may have been taken back meanwhile.
            again = await request.app.state.callers.find(request.headers)
            await again.need(Right.READ)
            raw = await self.of(again)._job(request, again)
            return view.events(raw, datetime.now(UTC)), view.status_of(raw) in view.ENDED

        return Watched(followed(look, known, _STREAM_SECONDS), self.streams.turn(caller.namespace))

    async def checkpoints(self, request: Request, caller: Caller) -> Response:
        """GET /v1/fine_tuning/jobs/ID/checkpoints."""
        incoming.only(request, "after", "limit")
        return JSONResponse(incoming.page(request, view.checkpoints(await self._job(request, caller)), 10))

    async def cancel(self, request: Request, caller: Caller) -> Response:
        """POST /v1/fine_tuning/jobs/ID/cancel."""
        cancelled = {tuning.CANCELLED: datetime.now(UTC).isoformat(timespec="seconds")}
        body = {"metadata": {"annotations": cancelled}, "spec": {"suspend": True}}
        return await self._change(request, caller, "cancelled", view.ENDED, body)

    async def pause(self, request: Request, caller: Caller) -> Response:
        """POST /v1/fine_tuning/jobs/ID/pause."""
        return await self._change(request, caller, "paused", (*view.ENDED, "paused"), {"spec": {"suspend": True}})

    async def resume(self, request: Request, caller: Caller) -> Response:
        """POST /v1/fine_tuning/jobs/ID/resume."""
        async with self._room_for_a_job(caller):
            return await self._change(
                request, caller, "resumed", (*view.ENDED, *view.UNDER_WAY), {"spec": {"suspend": False}}
            )

    async def models(self, request: Request, caller: Caller) -> Response:
        """GET /v1/models."""
        jobs, engines = await self.jobs.all(caller.namespace), await self.engines.all(caller.namespace)
        served = [each for each in routing.models(engines, jobs) if each["id"] not in self.settings.models]
        found = [*map(_base_model, self.settings.models), *served, *filter(None, map(view.model, jobs))]
        return JSONResponse({"object": "list", "data": found})

    async def model(self, request: Request, caller: Caller) -> Response:
        """GET /v1/models/NAME."""
        name = request.path_params["name"]
        if name in self.settings.models:
            return JSONResponse(_base_model(name))
        if found := await self._served(caller.namespace, name):
            return JSONResponse(routing.model(*found))
        return JSONResponse(view.model(await self._tuned(caller.namespace, name)))

    async def undeploy(self, request: Request, caller: Caller) -> Response:
        """DELETE /v1/models/NAME."""
        name = request.path_params["name"]
        if name in self.settings.models:
            raise Problem(403, f"{name} is a base model, and not yours to delete.", "model", "base_model")
        if await self._served(caller.namespace, name):
            sentence = f"{name} is served by an Engine, and not deleted here: who made it deletes it by kubectl."
            raise Problem(403, sentence, "model", "engine")
        raw = await self._tuned(caller.namespace, name)
        labels = dict.fromkeys(f"{view.DEPLOYMENTS}{each}" for each in view.deployments(raw))
        await self.jobs.patch(raw, {"metadata": {"labels": labels}, "spec": azure.UNDEPLOYED})
        return JSONResponse({"id": name, "object": "model", "deleted": True})

    async def ask(self, request: Request, caller: Caller) -> Response:
        """POST /v1/chat/completions and /v1/completions."""
        name, rest = await incoming.question(request, _QUESTION)
        return await self.relay.ask(request, caller.namespace, await self._place(caller.namespace, name), rest)

    async def deployments(self, request: Request, caller: Caller) -> Response:
        """GET …/deployments."""
        found = await azure.Deployments(self.jobs).all(caller.namespace, _place(request))
        return JSONResponse({"value": found})

    async def deployment(self, request: Request, caller: Caller) -> Response:
        """GET …/deployments/NAME."""
        name = request.path_params["name"]
        return JSONResponse(await azure.Deployments(self.jobs).get(caller.namespace, name, _place(request)))

    async def deploy(self, request: Request, caller: Caller) -> Response:
        """PUT …/deployments/NAME."""
        name, body = request.path_params["name"], await incoming.body(request, _JOB)
        found, new = await azure.Deployments(self.jobs).put(caller.namespace, name, body, _place(request))
        return JSONResponse(found, 201 if new else 200)

    async def delete_deployment(self, request: Request, caller: Caller) -> Response:
        """DELETE …/deployments/NAME; Azure's answer is empty, and another one where there was none."""
        there = await azure.Deployments(self.jobs).delete(caller.namespace, request.path_params["name"])
        return Response(status_code=200 if there else 204)

    async def ask_deployment(self, request: Request, caller: Caller) -> Response:
        """POST /openai/deployments/NAME/chat/completions and so on."""
        name, body = await azure.question(request, _QUESTION)
        # A model's own name has colons, which no deployment's has.
        model = name if ":" in name else view.model_of(await azure.Deployments(self.jobs).job(caller.namespace, name))
        return await self.ask(azure.to_model(request, model, body), caller)

    @asynccontextmanager
    async def _room_for_a_job(self, caller: Caller) -> AsyncIterator[None]:
        """Where one more of theirs may begin. Raises Problem where none may."""
        async with self.begins[caller.namespace]:
            theirs = (raw for raw in await self.jobs.all(caller.namespace) if tuning.caller_of(raw) == caller.name)
            caller.limits.room_for_a_job(sum(view.status_of(raw) in view.UNDER_WAY for raw in theirs))
            yield

    async def _job(self, request: Request, caller: Caller) -> Raw:
        id = request.path_params["id"]
        name = view.name_of(id)
        raw = await self.jobs.get(caller.namespace, name) if name else None
        if raw is None:
            raise missing("fine-tuning job", id)
        return raw

    async def _change(
        self, request: Request, caller: Caller, what: str, unless: tuple[str, ...], body: Raw
    ) -> Response:
        raw = await self._job(request, caller)
        if (status := view.status_of(raw)) in unless:
            wanted = "is paused" if what == "resumed" else "is under way"
            raise Problem(
                400, f"The job is {status}, and can't be {what}: only one that {wanted} can be.", code="wrong_status"
            )
        return JSONResponse(view.job(await self.jobs.patch(raw, body)))

    async def _place(self, namespace: str, name: str) -> ModelRoute:
        """Where a model is asked. Raises Problem."""
        if found := await self._served(namespace, name):
            return found[1]
        if name in self.settings.models:
            raise Problem(404, f"{name} can be fine-tuned here, and is not served by itself.", "model", "not_served")
        place = routing.of_job(await self._tuned(namespace, name), name)
        if place is None:
            raise missing("model", name, "model")
        return place

    async def _served(self, namespace: str, name: str) -> tuple[Raw, ModelRoute] | None:
        """The Engine of that name, or the FineTuneJob of that name on one, and where it is asked."""
        if not routing.is_object(name):
            return None
        engine = await self.engines.get(namespace, name)
        if engine and (place := routing.of_engine(engine)):
            return engine, place
        job = await self.jobs.get(namespace, name)
        return (job, place) if job and (place := routing.of_job(job)) else None

    async def _tuned(self, namespace: str, name: str) -> Raw:
        """The FineTuneJob whose model has that name and can be asked. Raises Problem."""
        job = view.job_named_in(name)
        raw = await self.jobs.get(namespace, job) if job else None
        found = view.model(raw) if raw else None
        if raw is None or found is None or found["id"] != name:
            raise missing("model", name, "model")
        return raw

    async def _base(self, namespace: str, name: str) -> tuning.StartingModel:
        """What to start from: a name in the table, or a tuned model whose base is there. Raises Problem."""
        table = self.settings.models
        if name in table:
            return tuning.StartingModel(name=name, spec=table[name])
        there = f"those that can be fine-tuned here are {', '.join(table) or 'none'}, and what came of them"
        if not name.startswith("ft:"):
            said = f"{name} is no base model here" if name else "model is empty"
            raise Problem(400, f"{said}: {there}.", "model", "model_not_found")
        # It need not be served to go on from it.
        job = view.job_named_in(name)
        raw = await self.jobs.get(namespace, job) if job else None
        if raw is None or view.job(raw)["fine_tuned_model"] != name:
            raise missing("model", name, "model")
        asked = tuning.asked_for(raw)
        if asked is None or asked["base"] not in table:
            raise Problem(400, f"The base model of {name} is not known here: {there}.", "model", "model_not_found")
        return tuning.StartingModel(name=asked["base"], spec=table[asked["base"]], tuned=raw["metadata"]["name"])


def _base_model(name: str) -> Raw:
    return {"id": name, "object": "model", "created": 0, "owned_by": "system"}


def _place(request: Request) -> str:
    """The path of the deployments of an account, as Azure's objects tell it."""
    return f"{_ACCOUNT.format(**request.path_params)}/deployments"


_JOB_PATH = "/v1/fine_tuning/jobs/{id}"
ROUTES: tuple[tuple[str, str, Right, Handler], ...] = (
    ("POST", "/v1/files", Right.WRITE, Server.upload),
    ("GET", "/v1/files", Right.READ, Server.list_files),
    ("GET", "/v1/files/{id}", Right.READ, Server.file),
    ("DELETE", "/v1/files/{id}", Right.WRITE, Server.delete_file),
    ("GET", "/v1/files/{id}/content", Right.READ, Server.content),
    ("POST", "/v1/fine_tuning/jobs", Right.WRITE, Server.create),
    ("GET", "/v1/fine_tuning/jobs", Right.READ, Server.list_jobs),
    ("GET", _JOB_PATH, Right.READ, Server.job),
    ("GET", f"{_JOB_PATH}/events", Right.READ, Server.events),
    ("GET", f"{_JOB_PATH}/checkpoints", Right.READ, Server.checkpoints),
    ("POST", f"{_JOB_PATH}/cancel", Right.WRITE, Server.cancel),
    ("POST", f"{_JOB_PATH}/pause", Right.WRITE, Server.pause),
    ("POST", f"{_JOB_PATH}/resume", Right.WRITE, Server.resume),
    ("GET", "/v1/models", Right.READ, Server.models),
    ("GET", "/v1/models/{name:path}", Right.READ, Server.model),
    ("DELETE", "/v1/models/{name:path}", Right.WRITE, Server.undeploy),
    ("POST", "/v1/chat/completions", Right.ASK, Server.ask),
    ("POST", "/v1/completions", Right.ASK, Server.ask),
)


# Azure's: the same calls under its paths, which want an api-version, and deployments as its management plane has them.
_ACCOUNT = (
    "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.CognitiveServices/accounts/{account}"
)
AZURE_ROUTES: tuple[tuple[str, str, Right, Handler], ...] = (
    *(
        (method, path.replace("/v1/", prefix), right, Server.create_undeployed if handler == Server.create else handler)
        for prefix in ("/openai/", "/openai/v1/")
        for method, path, right, handler in ROUTES
        if path.startswith(("/v1/files", "/v1/fine_tuning/"))
    ),
    *(
        ("POST", f"/openai/{prefix}{kind}", Right.ASK, Server.ask_deployment)
        for prefix in ("deployments/{name}/", "v1/")
        for kind in ("chat/completions", "completions")
    ),
    ("GET", f"{_ACCOUNT}/deployments", Right.READ, Server.deployments),
    ("GET", f"{_ACCOUNT}/deployments/{{name}}", Right.READ, Server.deployment),
    ("PUT", f"{_ACCOUNT}/deployments/{{name}}", Right.WRITE, Server.deploy),
    ("DELETE", f"{_ACCOUNT}/deployments/{{name}}", Right.WRITE, Server.delete_deployment),
)


def application(
    settings: Settings, ground: Callable[[], AbstractAsyncContextManager[Ground]], beside: Sequence[BaseRoute] = ()
) -> Starlette:
    """The server on a ground, which is there as long as the server is. `beside`: routes that are no API's."""
    rates = Rates()

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        limits = httpx.Limits(max_connections=None)
        # Those of engines are nobody's: the client is everybody's.
        cookies = CookieJar(DefaultCookiePolicy(allowed_domains=()))
        async with (
            ground() as found,
            httpx.AsyncClient(trust_env=False, timeout=TIMEOUT, limits=limits, cookies=cookies) as engines,
        ):
            app.state.callers = found.callers
            app.state.server = Server(settings, found, Relay(engines, settings.requests, found.waking))
            yield

    async def healthy(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    told = document((*ROUTES, *AZURE_ROUTES))

    async def openapi(_: Request) -> Response:
        return JSONResponse(told)

    routes = [_route(rates, *each) for each in (*ROUTES, *AZURE_ROUTES)]
    handlers: dict[Any, Any] = {
        Problem: _refused,
        HTTPException: _unknown,
        ClientDisconnect: _left,
        Exception: _broken,
    }
    return Starlette(
        routes=[*routes, *beside, Route("/healthz", healthy), Route("/openapi.json", openapi)],
        lifespan=lifespan,
        exception_handlers=handlers,
    )


def _route(rates: Rates, method: str, path: str, right: Right, handler: Handler) -> Route:
    azures, versioned = not path.startswith("/v1/"), not path.startswith("/openai/v1/")

    async def answer(request: Request) -> Response:
        caller = await request.app.state.callers.find(request.headers, request.path_params.get("account"))
        rate_limit = rates.take(f"{caller.namespace}/{caller.name}", caller.limits.requests_per_minute)
        request.state.rate_limit = rate_limit
        await caller.need(right)
        asked = azure.no_version(request, versioned) if azures else request
        found = await handler(request.app.state.server.of(caller), asked, caller)
        found.headers.update(rate_limit.headers)
        return found

    return Route(path, answer, methods=[method])


async def _refused(request: Request, problem: Problem) -> Response:
    rate_limit: RateLimit | None = getattr(request.state, "rate_limit", None)
    headers: Mapping[str, str] = rate_limit.headers if rate_limit else {}
    return JSONResponse(problem.document(), problem.status, {**headers, **problem.headers})


async def _unknown(request: Request, error: HTTPException) -> Response:
    where = f"{request.method} {request.url.path}"
    why = why_not(request.url.path) if error.status_code in (404, 405) else None
    message = f"{where} is not known here." if error.status_code in (404, 405) else f"{where}: {error.detail}"
    problem = (
        Problem(error.status_code, f"{where} is not here: {why}.", code="not_here")
        if why
        else Problem(error.status_code, message)
    )
    return JSONResponse(problem.document(), error.status_code, error.headers)


async def _left(_: Request, error: ClientDisconnect) -> Response:
    """Nobody reads it."""
    return Response(status_code=499)


async def _broken(_: Request, error: Exception) -> Response:
    """A fault of ours: the log has it."""
    return JSONResponse(Problem(500, "The server has a fault; its log says which.", code="fault").document(), 500)
