"""`finetune ui`: the web page over the runs of this directory, with the pages of the API server (`finetune_server.ui`).

It listens on this machine alone, and opens to who has the token that it prints, as Jupyter does.
"""

import hmac
import json
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit
from urllib.request import url2pathname

import httpx
import uvicorn
from anyio.to_thread import run_sync
from finetune_operator.api.complaints import complaints
from finetune_operator.api.status import Phase
from finetune_operator.api.v1alpha1 import API_VERSION, KIND, FineTuneJob
from finetune_operator.names import RUN_CONFIG
from finetune_server.errors import Problem
from finetune_server.ui import views
from finetune_server.ui.form import Draft, Field, Form, Refusal, accepted, document, refused
from finetune_server.ui.pages import Pages
from finetune_server.ui.place import Action, Data, Message, Row
from finetune_server.ui.render import ROOT as PAGES
from finetune_trainer.contract import curve
from finetune_trainer.contract.config import METRICS_FILE, Workspace, base_name
from finetune_trainer.contract.curve import Point
from pydantic import ValidationError
from rich.console import Console
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

from finetune_cli.background import Background, NotBegun
from finetune_cli.errors import UserError
from finetune_cli.job import localize
from finetune_cli.jobs import Job
from finetune_cli.laptop import NOT_SERVED, POLL_SECONDS, Laptop
from finetune_cli.processes import LOOPBACK, free_port
from finetune_cli.store import ROOT, Store

T = TypeVar("T")
# The names of a page's host: none that a site could have chosen for this machine.
_HOSTS = [LOOPBACK, "localhost"]
_BINS = 8
# `field: what is wrong with it`.
_COMPLAINT = re.compile(r"([a-zA-Z]+(?:\.[a-zA-Z]+|\[\d+\])+): (.*)", re.DOTALL)


def serve(port: int, console: Console) -> None:
    """Show the page until Ctrl-C."""
    free, token = free_port(port), secrets.token_urlsafe(24)
    console.print(f"http://{LOOPBACK}:{free}{PAGES}/?token={token}", soft_wrap=True, markup=False, highlight=False)
    console.print("The page of the runs in this directory; Ctrl-C ends it, and no run.", markup=False)
    server = uvicorn.Server(
        uvicorn.Config(
            application(Path.cwd(), token, free),
            host=LOOPBACK,
            port=free,
            log_level="warning",
            timeout_graceful_shutdown=1,
        )
    )
    server.run()


def application(directory: Path, token: str, port: int) -> Starlette:
    """The page of a directory, for whoever has the token."""
    pages = Pages(TokenDoor(Runs(directory), token, f"finetune-{port}"), POLL_SECONDS)
    return Starlette(routes=[pages.mount()], middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=_HOSTS)])


@dataclass(frozen=True)
class TokenDoor:
    """Lets in who has the token. Cookies are a machine's and no port's, so their name has the port."""

    runs: "Runs"
    token: str
    cookie: str
    prompt: str = "The token at the end of the address that `finetune ui` printed"
    by_address: bool = True
    namespaces: bool = False

    async def enter(self, app: Starlette, secret: str) -> "Runs":
        """The directory's runs."""
        if not hmac.compare_digest(secret.encode(), self.token.encode()):
            raise Problem(401, "The token is not the one of this `finetune ui`: open the address that it printed.")
        return self.runs


@dataclass(frozen=True)
class Runs:
    """The runs of a directory, as the page has them."""

    directory: Path
    writes: bool = True
    asks: bool = True

    @property
    def name(self) -> str:
        """The directory."""
        return self.directory.name

    async def jobs(self) -> Sequence[Job]:
        """All, by name."""
        return await _done(self._laptop.jobs)

    async def job(self, name: str) -> Job:
        """The run of a name. Raises Problem where there is none."""
        try:
            return await _done(lambda: self._laptop.job(name))
        except Problem as problem:
            raise Problem(404, problem.message) from problem

    def asked(self, job: Job) -> Mapping[str, object]:
        """The run config of its revision, which is what a manifest comes to here."""
        return self._laptop.asked(job)

    async def system(self, job: Job) -> str:
        """The system message that all rows have."""
        if job.status.endpoint is None:
            return ""

        def known() -> str:
            with self._laptop.reach(job) as reached:
                return reached.system or ""

        return await _done(known)

    def actions(self, job: Job) -> tuple[Action, ...]:
        """A run can be ended, and one that this directory has the manifest of goes on."""
        if not job.idle:
            return (
                Action("cancel", "Cancel", f"End the run of {job.name}, and what it serves? It keeps a checkpoint."),
            )
        ended = job.status.phase in (Phase.SUSPENDED, Phase.FAILED)
        if ended and self.background.manifest(job.name).is_file():
            file = self.background.manifest(job.name).name
            return (Action("resume", "Resume", f"Let {job.name} go on, with `finetune run {file}`?"),)
        return ()

    async def act(self, job: Job, action: str, choice: str) -> None:
        """Do it."""
        if action == "cancel":
            await _done(lambda: self._laptop.suspend(job.name, True))
        else:
            try:
                await self.background.run(job.name)
            except NotBegun as error:
                raise Problem(409, error.said) from error

    async def data(self, job: Job) -> Data:
        """From what prepare left."""
        root = self._root(job)
        if not (job.status.revision and Workspace(root).data_report.exists()):
            return Data(note="The rows are not prepared yet.")
        try:
            return await _done(lambda: _look(self._store(job), job.status.revision or ""))
        except ModuleNotFoundError as error:
            sentence = f"To show rows needs {error.name}: pip install 'finetune-operator[cli,ui,data]'."
            raise Problem(501, sentence) from error

    async def curve(self, job: Job) -> Sequence[Point]:
        """Each that was logged, once the artifact is there; until then as its status tells them."""
        metrics = Workspace(self._root(job)).artifact / METRICS_FILE
        if job.status.revision and metrics.exists():
            return curve.of(await run_sync(_rows, metrics))
        return views.losses(job.status)

    async def report(self, job: Job) -> str | None:
        """The page that evaluate wrote."""
        if job.status.evaluation is None:
            return None
        return await run_sync(_text, Path(url2pathname(urlsplit(job.status.evaluation.report).path)))

    async def ask(self, job: Job, messages: Sequence[Message], base: bool) -> str:
        """Its engine, which is on this machine."""
        endpoint = job.status.endpoint
        if endpoint is None:
            raise Problem(409, NOT_SERVED.format(name=job.name))
        body = {"model": base_name(endpoint.model) if base else endpoint.model, "messages": list(messages)}
        try:
            async with httpx.AsyncClient(trust_env=False, timeout=httpx.Timeout(10, read=600)) as client:
                answer = await client.post(f"{endpoint.url}/chat/completions", json=body)
            found = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            raise Problem(503, f"{endpoint.url} does not answer: is the model still being served?") from error
        if answer.is_error:
            raise Problem(answer.status_code, f"{body['model']} refused: {found.get('error', found)}")
        return str(found["choices"][0]["message"]["content"] or "")

    async def form(self) -> Form:
        """What is asked for most; a manifest that was downloaded takes all else."""
        return FORM

    async def draft(self, given: Mapping[str, str]) -> Draft:
        """The manifest, as `finetune run` would check it."""
        manifest = asked_for(given)
        try:
            found = FineTuneJob.model_validate_json(json.dumps(manifest), strict=True)
            await run_sync(localize, found.metadata.name, found.spec, self.directory)
        except ValidationError as error:
            return refused(FORM, map(_parted, complaints(error)))
        except UserError as error:
            return refused(FORM, [_parted(error.message)])
        return accepted(manifest)

    async def create(self, given: Mapping[str, str]) -> str:
        """Write it here as NAME.yaml and run it; it goes on when the page is closed."""
        draft = await self.draft(given)
        if not draft.manifest:
            raise Refusal(draft)
        path = self.background.manifest(draft.name)
        try:
            await self.background.create(draft.name, draft.manifest)
        except FileExistsError as error:
            raise Refusal(Draft(errors={"name": f"{path.name} is there already: choose another name."})) from error
        except NotBegun as error:
            raise Refusal(Draft(others=(error.said,))) from error
        return draft.name

    @property
    def _laptop(self) -> Laptop:
        return Laptop(self.directory / ROOT)

    @cached_property
    def background(self) -> Background:
        """What runs here beside the page."""
        return Background(self.directory)

    def _store(self, job: Job) -> Store:
        return self._laptop.store(job.name)

    def _root(self, job: Job) -> Path:
        return self._store(job).workspace(job.status.revision or "").root


_AUTO = "Left empty, it is chosen, and the job tells what and why."
_FILE = "file://train.jsonl beside this directory's manifests, or hf://, s3://, https://."
FORM = Form(
    (
        Field("name", "Name", "metadata.name", required=True),
        Field("model", "Base model", "spec.model.source", "hf://ORG/NAME, or file://DIRECTORY.", required=True),
        Field("train", "Rows to learn from", "spec.dataset.train.source", _FILE, required=True),
        Field("validation", "Rows to watch the loss on", "spec.dataset.validation.source"),
        Field("test", "Rows to measure with", "spec.dataset.test.source", "Left empty, a part of the others."),
        Field("system", "System message", "spec.dataset.systemPrompt"),
        Field(
            "method",
            "Method",
            "spec.training.method",
            options=(("", "sft, from answers"), ("dpo", "dpo, from preferences"), ("kto", "kto, from judgements")),
        ),
        Field(
            "adapter",
            "Adapter",
            "spec.training.adapter.type",
            options=(("", "lora"), ("dora", "dora"), ("none", "none: the whole model")),
        ),
        Field("epochs", "Epochs", "spec.training.epochs", number=True),
        Field("learning_rate", "Learning rate", "spec.training.learningRate", _AUTO, number=True),
        Field("batch_size", "Batch size", "spec.training.batchSize", _AUTO, number=True),
        Field("max_length", "Longest row in tokens", "spec.training.maxLength", _AUTO, number=True),
        Field("minimum", "Least score", "spec.evaluation.gate.minimum", "What is below is not served.", number=True),
        Field("margin", "Least gain", "spec.evaluation.gate.margin", "Above the best baseline.", number=True),
    ),
    "The usual fields. A manifest has more: download it, write them into it, and `finetune run` takes it.",
)


def asked_for(given: Mapping[str, str]) -> dict[str, Any]:
    """The manifest that was filled in. Pure."""
    found = document(FORM, given)
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": found.get("metadata", {}),
        "spec": found.get("spec", {}),
    }


def _text(path: Path) -> str | None:
    return path.read_text("utf-8", errors="replace").strip() if path.is_file() else None


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def _look(store: Store, revision: str) -> Data:
    """What prepare left of a revision, and some rows by its base model's tokenizer."""
    from finetune_trainer.contract.config import RunConfig
    from finetune_trainer.data import base, seen
    from finetune_trainer.data.findings import DataReport

    workspace = store.workspace(revision)
    found = DataReport.model_validate_json(workspace.data_report.read_bytes())
    config = RunConfig.model_validate_json((workspace.root / RUN_CONFIG).read_bytes())
    train = seen.read(workspace.learned("train"))
    model = base.read(workspace.base_model(config), config.model)
    rows = train.rows(seen.examples(train.lengths), model)
    return Data(
        findings=tuple(each.sentence for each in found.findings) or ("Nothing odd was found.",),
        lengths=tuple((f"{low} to {high}", count) for low, high, count in seen.histogram(train.lengths, _BINS)),
        rows=tuple(Row(row.place, f"{row.tokens} tokens", row.parts, row.rejected) for row in rows),
    )


def _parted(complaint: str) -> tuple[str, str]:
    """A complaint with the field that it is about."""
    found = _COMPLAINT.match(complaint)
    if not found:
        return "", complaint
    path = found[1] if found[1].startswith(("metadata.", "spec.")) else f"spec.{found[1]}"
    return path, complaint


async def _done(work: Callable[[], T]) -> T:
    """Something with files, in a thread. Raises Problem with the sentence of what can't be done."""
    try:
        return await run_sync(work)
    except UserError as error:
        raise Problem(409, error.message) from error
