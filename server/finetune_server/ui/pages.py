"""The page's routes: who looks, what at, and the template for it. `app` mounts them, and `finetune ui` does.

Every page works without scripts; with them what changes is shown as it does.
"""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import parse_qsl

from anyio import sleep
from finetune_cli.differences import differences
from finetune_cli.jobs import Job
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from finetune_server import incoming
from finetune_server.errors import Problem
from finetune_server.streams import STILL_HERE, Watched
from finetune_server.ui import door as doors
from finetune_server.ui import views
from finetune_server.ui.door import Door
from finetune_server.ui.form import Draft, Refusal
from finetune_server.ui.place import Action, Data, Message, Place
from finetune_server.ui.render import ROOT, Around, html

# Bytes of a form: a conversation is the longest.
_FORM = 256 * 2**10
# Pages that are watched at a time, and how often each looks again, in seconds.
_WATCHED, _SECONDS = 32, 2.0
_TEXT = 32_000


class Turn(BaseModel):
    """A question, and what both models answered: the conversation is in the page, not here."""

    model_config = ConfigDict(frozen=True)

    asked: Annotated[str, Field(max_length=_TEXT)]
    tuned: Annotated[str, Field(max_length=_TEXT)]
    base: Annotated[str, Field(max_length=_TEXT)]


_TURNS = TypeAdapter(Annotated[list[Turn], Field(max_length=50)])


@dataclass(frozen=True)
class Visit:
    """A request of somebody who was let in. `given`: what a form brought."""

    request: Request
    place: Place
    secret: str
    given: Mapping[str, str]

    @property
    def around(self) -> Around:
        """What a page has around it."""
        return Around(self.place.name, self.place.writes, self.place.asks, doors.csrf(self.secret))

    async def job(self) -> Job:
        """The job that the address names."""
        return await self.place.job(self.request.path_params["name"])

    def page(self, template: str, status: int = 200, **values: object) -> Response:
        """A template as the answer."""
        return HTMLResponse(html(template, around=self.around, **values), status)


Handler = Callable[[Visit], Awaitable[Response]]


class Pages:
    """All pages behind a door."""

    def __init__(self, door: Door, seconds: float = _SECONDS) -> None:
        self._door, self._seconds = door, seconds
        self._watched = incoming.Turns(_WATCHED, "The pages that are watched")

    def mount(self) -> Mount:
        """The routes."""
        job = "/jobs/{name}"
        shown: dict[str, Handler] = {
            "/": self.jobs,
            "/events": self.watch_jobs,
            "/compare": self.compare,
            "/new": self.new,
            job: self.job,
            f"{job}/events": self.watch_job,
            f"{job}/data": self.data,
            f"{job}/report": self.report,
            f"{job}/chat": self.chat,
            f"{job}/do/{{action}}": self.confirm,
        }
        done: dict[str, Handler] = {
            "/new": self.create,
            f"{job}/chat": self.ask,
            f"{job}/do/{{action}}": self.act,
        }
        routes: list[BaseRoute] = [
            Mount("/static", StaticFiles(directory=Path(__file__).with_name("static"))),
            Route("/login", self.login, methods=["GET", "POST"]),
            Route("/logout", self.logout, methods=["POST"]),
            *(Route(path, self._inside(handler, False), methods=["GET"]) for path, handler in shown.items()),
            *(Route(path, self._inside(handler, True), methods=["POST"]) for path, handler in done.items()),
        ]
        return Mount(ROOT, routes=routes)

    def _inside(self, handler: Handler, changes: bool) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            secret = doors.secret_of(self._door, request)
            if self._door.by_address and (told := request.query_params.get("token")):
                return self._let_in(request, told)
            if not secret:
                return doors.guarded(RedirectResponse(f"{ROOT}/login", HTTPStatus.SEE_OTHER))
            try:
                given = await _brought(request) if changes else {}
                if changes:
                    doors.meant(request, secret, given.get("csrf"))
                place = await self._door.enter(request.app, secret)
                found = await handler(Visit(request, place, secret, given))
            except Problem as problem:
                found = self._refused(request, problem)
            return found if "content-security-policy" in found.headers else doors.guarded(found)

        return answer

    def _refused(self, request: Request, problem: Problem) -> Response:
        if problem.status == HTTPStatus.UNAUTHORIZED:
            found = self._login(problem)
            # What a page asks for by itself, its news and its rows, shows the sentence to nobody.
            if request.headers.get("sec-fetch-dest", "document") == "document":
                doors.forget(self._door, found)
            return found
        return HTMLResponse(html("problem", message=problem.message, around=None), problem.status)

    async def login(self, request: Request) -> Response:
        """Ask for the key, and keep it where it opens something."""
        if request.method == "GET":
            return doors.guarded(self._login(None))
        namespace = ""
        try:
            doors.own(request)
            given = await _brought(request)
            secret, namespace = given.get("secret", "").strip(), given.get("namespace", "").strip()
            if self._door.namespaces and namespace:
                secret = f"{secret}\n{namespace}"
            await self._door.enter(request.app, secret)
        except Problem as problem:
            return doors.guarded(self._login(problem, namespace))
        return self._let_in(request, secret)

    def _let_in(self, request: Request, secret: str) -> Response:
        found = RedirectResponse(f"{ROOT}/", HTTPStatus.SEE_OTHER)
        doors.keep(self._door, request, found, secret)
        return doors.guarded(found)

    def _login(self, problem: Problem | None, namespace: str = "") -> Response:
        said = problem.message if problem else ""
        told = html("login", door=self._door, said=said, namespace=namespace, around=None)
        return HTMLResponse(told, problem.status if problem else 200)

    async def logout(self, request: Request) -> Response:
        """Forget the key."""
        found = RedirectResponse(f"{ROOT}/login", HTTPStatus.SEE_OTHER)
        doors.forget(self._door, found)
        return doors.guarded(found)

    async def jobs(self, visit: Visit) -> Response:
        """All jobs."""
        return visit.page("jobs", regions=await self._jobs(visit))

    async def watch_jobs(self, visit: Visit) -> Response:
        """All jobs, whenever something changes."""
        return await self._watch(visit, lambda: self._jobs(visit))

    async def _jobs(self, visit: Visit) -> dict[str, str]:
        lines = [views.line(job, datetime.now(UTC)) for job in await visit.place.jobs()]
        return {"jobs": html("regions/jobs", lines=lines)}

    async def job(self, visit: Visit) -> Response:
        """One job."""
        job = await visit.job()
        asked = views.manifest(visit.place.asked(job))
        return visit.page("job", name=job.name, asked=asked, regions=await self._regions(visit, job))

    async def watch_job(self, visit: Visit) -> Response:
        """One job, whenever something changes."""

        async def regions() -> dict[str, str]:
            return await self._regions(visit, await visit.job())

        return await self._watch(visit, regions)

    async def _regions(self, visit: Visit, job: Job) -> dict[str, str]:
        """The parts of its page that change, each by itself: what somebody reads or has opened elsewhere stays."""
        view = views.job_view(job, datetime.now(UTC))
        actions = visit.place.actions(job) if visit.place.writes else ()
        reports = view.evaluation is not None
        return {
            "phase": html("regions/phase", view=view),
            "state": html("regions/state", view=view),
            "actions": html("regions/actions", name=job.name, actions=actions, chat=visit.place.asks and view.answers),
            "curve": await _curve(visit, job),
            "steps": html("regions/steps", view=view),
            "result": html("regions/result", view=view, reports=reports),
        }

    async def _watch(self, visit: Visit, regions: Callable[[], Awaitable[dict[str, str]]]) -> Response:
        first = await regions()

        async def events() -> AsyncIterator[str]:
            seen: dict[str, str] = {}
            now = first
            # Too late to tell: the browser asks again, and is refused then.
            with suppress(Problem):
                while True:
                    for name, text in now.items():
                        if seen.get(name) != text:
                            yield f"event: {name}\n" + "".join(f"data: {line}\n" for line in text.split("\n")) + "\n"
                    seen = now
                    yield STILL_HERE
                    await sleep(self._seconds)
                    # A key may have been taken back meanwhile.
                    await self._door.enter(visit.request.app, visit.secret)
                    now = await regions()

        return Watched(events(), self._watched.turn(visit.place.name))

    async def data(self, visit: Visit) -> Response:
        """What its rows are like, a part of its page."""
        job = await visit.job()
        try:
            found = await visit.place.data(job)
        except Problem as problem:
            found = Data(note=problem.message)
        return HTMLResponse(html("regions/data", data=found, most=max((n for _, n in found.lengths), default=1)))

    async def report(self, visit: Visit) -> Response:
        """Its report, as evaluate wrote it."""
        job = await visit.job()
        page = await visit.place.report(job)
        if page is None:
            raise Problem(404, f"The report of {job.name} can't be had here; `finetune report {job.name}` shows it.")
        return doors.guarded(HTMLResponse(page), doors.REPORT_POLICY)

    async def confirm(self, visit: Visit) -> Response:
        """Ask whether that is meant."""
        job = await visit.job()
        action = _action(visit, job)
        return visit.page("confirm", name=job.name, action=action)

    async def act(self, visit: Visit) -> Response:
        """Do it."""
        job = await visit.job()
        action = _action(visit, job)
        await visit.place.act(job, action.name, visit.given.get("choice", ""))
        return RedirectResponse(f"{ROOT}/jobs/{job.name}", HTTPStatus.SEE_OTHER)

    async def compare(self, visit: Visit) -> Response:
        """Two jobs side by side."""
        names = [job.name for job in await visit.place.jobs()]
        asked = [visit.request.query_params.get(each, "") for each in ("first", "second")]
        if not all(asked):
            return visit.page("compare", names=names, asked=asked, both=(), changed=())
        jobs = [await visit.place.job(name) for name in asked]
        now = datetime.now(UTC)
        both = []
        for job in jobs:
            view = views.job_view(job, now)
            state, result = html("regions/state", view=view), html("regions/result", view=view, reports=False)
            both.append((view, state, await _curve(visit, job), result))
        changed = differences(*(visit.place.asked(job) for job in jobs))
        return visit.page("compare", names=names, asked=asked, both=both, changed=changed)

    async def new(self, visit: Visit) -> Response:
        """The form for a job, which may be filled in by the address."""
        return await self._form(visit, dict(visit.request.query_params), Draft())

    async def create(self, visit: Visit) -> Response:
        """Show, hand over or apply the manifest that a form asks for."""
        given = dict(visit.given)
        try:
            if given.get("do") == "apply":
                return RedirectResponse(f"{ROOT}/jobs/{await visit.place.create(given)}", HTTPStatus.SEE_OTHER)
            draft = await visit.place.draft(given)
        except Refusal as refusal:
            draft = refusal.draft
        if given.get("do") == "download" and draft.manifest:
            named = {"Content-Disposition": f'attachment; filename="{draft.name}.yaml"'}
            return Response(draft.manifest, 200, named, "application/yaml")
        return await self._form(visit, given, draft)

    async def _form(self, visit: Visit, given: Mapping[str, str], draft: Draft) -> Response:
        status = 422 if draft.errors or draft.others else 200
        return visit.page("new", status, form=await visit.place.form(), given=given, draft=draft)

    async def chat(self, visit: Visit) -> Response:
        """Ask both models."""
        job = await visit.job()
        return self._chat(visit, job, await visit.place.system(job), [], "")

    async def ask(self, visit: Visit) -> Response:
        """The answers of both, in the page that asks."""
        job = await visit.job()
        question, system = visit.given.get("question", "").strip(), visit.given.get("system", "").strip()
        try:
            turns = _TURNS.validate_json(visit.given.get("turns", "[]"))
            if not question:
                return self._chat(visit, job, system, turns, "Ask something.")
            asked = [_messages(system, turns, question, side) for side in ("tuned", "base")]
            tuned = await visit.place.ask(job, asked[0], base=False)
            base = await _or_why(visit.place.ask(job, asked[1], base=True))
            turns = [*turns, Turn(asked=question, tuned=tuned, base=base)]
        except ValidationError:
            return self._chat(
                visit, job, system, [], "The conversation is longer than this page keeps: it begins anew."
            )
        except Problem as problem:
            return self._chat(visit, job, system, turns, problem.message, question)
        return self._chat(visit, job, system, turns, "")

    def _chat(
        self, visit: Visit, job: Job, system: str, turns: list[Turn], problem: str, question: str = ""
    ) -> Response:
        values: dict[str, Any] = {
            "name": job.name,
            "system": system,
            "turns": turns,
            "kept": _TURNS.dump_json(turns).decode(),
            "problem": problem,
            "question": question,
        }
        if "hx-request" in visit.request.headers:
            return HTMLResponse(html("regions/conversation", around=visit.around, **values))
        return visit.page("chat", 200, **values)


async def _curve(visit: Visit, job: Job) -> str:
    points = await visit.place.curve(job)
    return html("regions/curve", points=json.dumps(points), told=views.told(points))


async def _brought(request: Request) -> dict[str, str]:
    """What a form brings: text, and no files."""
    text = await incoming.body(request, _FORM)
    try:
        return dict(parse_qsl(text.decode(), keep_blank_values=True, max_num_fields=100))
    except ValueError as error:
        raise Problem(400, "The form can't be read: send it from the page.") from error


def _action(visit: Visit, job: Job) -> Action:
    """What the address names, where it can be done now. Raises Problem."""
    name = visit.request.path_params["action"]
    if not visit.place.writes:
        raise Problem(403, "You may look, and change nothing: a key whose rights include write can.")
    found = next((each for each in visit.place.actions(job) if each.name == name), None)
    if found is None:
        raise Problem(409, f"{job.name} is {job.status.phase}, and this can't be done now: its page has what can.")
    return found


def _messages(system: str, turns: list[Turn], question: str, side: str) -> list[Message]:
    found: list[Message] = [{"role": "system", "content": system}] if system else []
    for turn in turns:
        found += [
            {"role": "user", "content": turn.asked},
            {"role": "assistant", "content": getattr(turn, side)},
        ]
    return [*found, {"role": "user", "content": question}]


async def _or_why(answer: Awaitable[str]) -> str:
    """The base model's answer, or why there is none: the tuned one's counts all the same."""
    try:
        return await answer
    except Problem as problem:
        return f"({problem.message})"
