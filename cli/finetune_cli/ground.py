"""What the OpenAI API of a laptop (`serve`) stands on: the runs of a directory, what wakes their models, who may ask.

A FineTuneJob that is made here is NAME.yaml and a `finetune run` of it; `objects` has how it is seen.
"""

import asyncio
import hmac
import os
import shutil
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

import yaml
from anyio.to_thread import run_sync
from finetune_operator.api.v1alpha1 import FineTuneJobSpec
from finetune_operator.conditions import Type
from finetune_server.caller import PROJECT, Caller, elsewhere, key_of, no_key, unknown_key
from finetune_server.errors import Problem
from finetune_server.keys import Right
from finetune_server.limits import FINAL, Limits
from finetune_server.routing import ModelRoute
from finetune_server.settings import Raw
from finetune_server.tuning import CALLER, REQUEST
from finetune_server.waking import late
from starlette.datastructures import Headers

from finetune_cli.background import LOOK_SECONDS, Background, NotBegun
from finetune_cli.errors import UserError
from finetune_cli.job import FILE, localize, read
from finetune_cli.jobs import Job
from finetune_cli.objects import HERE, Objects
from finetune_cli.processes import LOOPBACK
from finetune_cli.store import write_whole

T = TypeVar("T")
# A machine trains one at a time, and what serves is none; how often it is asked is its owner's matter.
LIMITS = Limits(jobs=1, requests_per_minute=1_000_000)
_LAPTOP = "laptop"
# Who made it is not known, so it counts as one of this API's.
UNREAD = {CALLER: _LAPTOP}
# The names of this machine that no site could have chosen.
_HOSTS = (LOOPBACK, "localhost")
_NOT_MADE_HERE = (
    "{name} was not made by this API, and its manifest is left as it is: `finetune cancel {name}` ends its run, and "
    "`finetune run` of its manifest lets it go on."
)
_NO_MANIFEST = "nothing serves it, and its manifest is not here as {name}.yaml: `finetune run` of that does."
_ANOTHER = "{name}.yaml or its rows were changed since: `finetune run {name}.yaml` trains what it describes now."
_UNREADABLE = "{why} Mend that first; `finetune cancel {name}` ends its run as it is."


@dataclass(frozen=True)
class LaptopCallers:
    """Lets in who sits at this machine, and with `key` only who has it."""

    key: str = ""

    async def find(self, headers: Headers, namespace: str | None = None) -> Caller:
        """Who it is. A page of the web that is open in a browser here is nobody. Raises Problem."""
        if "origin" in headers or headers.get("host", "").partition(":")[0] not in _HOSTS:
            raise Problem(403, f"Only programs of this machine may ask, at {LOOPBACK}: no web page.", code="origin")
        if self.key and not key_of(headers):
            raise no_key()
        if self.key and not hmac.compare_digest(key_of(headers).encode(), self.key.encode()):
            raise unknown_key()
        asked = namespace or headers.get(PROJECT, HERE)
        if asked != HERE:
            raise Problem(403, f"There is no {asked} on a laptop: {elsewhere(namespace, HERE)}.", code="namespace")
        return Caller(_LAPTOP, HERE, LIMITS, frozenset(Right))


class NoEngines:
    """A laptop has no Engines: each run has one of its own."""

    async def all(self, namespace: str) -> list[Raw]:
        """No Engine, whatever the namespace."""
        return []

    async def get(self, namespace: str, name: str) -> Raw | None:
        """No Engine, whatever the name."""
        return None


@dataclass(frozen=True)
class LaptopJobs:
    """The runs of a directory as FineTuneJobs, and what wakes their models, in `seconds` at most. Raises Problem."""

    runs: Background
    objects: Objects
    seconds: float
    _changing: defaultdict[str, asyncio.Lock] = field(default_factory=lambda: defaultdict(asyncio.Lock))
    _waking: dict[str, "asyncio.Task[str]"] = field(default_factory=dict)

    async def all(self, namespace: str, selector: str = "") -> list[Raw]:
        """All, or those that have a label, the newest first."""
        return [
            raw for raw in await run_sync(self.objects.all) if not selector or selector in raw["metadata"]["labels"]
        ]

    async def get(self, namespace: str, name: str) -> Raw | None:
        """The run of a name; None where there is none."""
        return await _done(lambda: self.objects.get(name))

    async def create(self, manifest: Raw) -> Raw:
        """Write it as NAME.yaml and run it; its rows are its own, and stay where the files are deleted."""
        name = manifest["metadata"]["name"]
        directory = self._directory(name)
        await run_sync(partial(directory.mkdir, parents=True))
        try:
            made = await _done(lambda: self._with_rows(manifest, directory))
            await _done(lambda: localize(name, FineTuneJobSpec.model_validate(made["spec"]), self.runs.directory))
            await self.runs.create(name, _text(made))
        except (Problem, NotBegun, OSError) as error:
            await run_sync(shutil.rmtree, directory)
            raise _not_made(error) from error
        return await self._there(name)

    async def patch(self, raw: Raw, body: Raw) -> Raw:
        """Write what is changed into its manifest, and end its run or let it go on, whichever the change asks for."""
        name = raw["metadata"]["name"]
        spec = dict(body.get("spec", {}))
        suspend, kept = spec.pop("suspend", None), {**body, "spec": spec}
        undeployed = spec.get("hosting", {}).get("enabled") is False
        async with self._changing[name]:
            try:
                manifest = await run_sync(self.objects.manifest, name)
            except UserError as error:
                raise Problem(409, _UNREADABLE.format(name=name, why=error.message), code="unreadable") from error
            if REQUEST not in manifest.get("metadata", {}).get("annotations", {}):
                raise Problem(409, _NOT_MADE_HERE.format(name=name), code="not_made_here")
            try:
                # Before it is written: what says that it has ended has.
                if suspend or undeployed:
                    await self.runs.stop(name)
                await run_sync(write_whole, self.runs.manifest(name), _text(patched(manifest, kept)))
                if suspend is False:
                    await self.runs.run(name)
            except UserError as error:
                raise Problem(409, error.message, code="not_stopped", headers=FINAL) from error
            except NotBegun as error:
                raise Problem(400, error.why, code="not_begun") from error
        return await self._there(name)

    async def asked(self, namespace: str, route: ModelRoute, ask: Callable[[str], Awaitable[T]]) -> T:
        """Ask what serves, or have it served first: all that wait for one wait for the same run."""
        if route.url:
            return await ask(route.url)
        name = route.model
        if name not in self._waking:
            self._waking[name] = asyncio.create_task(self._woken(name))
            self._waking[name].add_done_callback(lambda task: self._awake(name, task))
        try:
            async with asyncio.timeout(self.seconds):
                url = await asyncio.shield(self._waking[name])
        except TimeoutError as error:
            raise late(route.name, self.seconds) from error
        return await ask(url)

    async def _woken(self, name: str) -> str:
        """Where it answers, once a run serves it; one that was under way already may end without."""
        begun = False
        while (job := await self._job(name)).idle or job.status.endpoint is None:
            if job.idle and begun:
                raise _unwilling(name, _why(job))
            if job.idle:
                begun = await self._begin(name)
            else:
                await asyncio.sleep(LOOK_SECONDS)
        return job.status.endpoint.url

    async def _begin(self, name: str) -> bool:
        """Run it, and say so; not where somebody else does by now."""
        async with self._changing[name]:
            if not (job := await self._job(name)).idle:
                return False
            try:
                await run_sync(self._check, job)
                await self.runs.run(name)
            except UserError as error:
                raise _unwilling(name, error.message) from error
            except NotBegun as error:
                raise _unwilling(name, error.why) from error
        return True

    def _check(self, job: Job) -> None:
        """A question serves what was trained, and trains nothing. UserError."""
        path = self.runs.manifest(job.name)
        found = read(path) if path.is_file() else None
        if found is None or found.metadata.name != job.name:
            raise UserError(_NO_MANIFEST.format(name=job.name))
        if localize(job.name, found.spec, self.runs.directory).revision != job.status.revision:
            raise UserError(_ANOTHER.format(name=job.name))

    def _awake(self, name: str, task: "asyncio.Task[str]") -> None:
        del self._waking[name]
        # Who waited has been told; where nobody waits any more, nobody need be.
        task.cancelled() or task.exception()

    async def _job(self, name: str) -> Job:
        return await _done(lambda: self.objects.laptop.job(name))

    def _directory(self, name: str) -> Path:
        return self.objects.laptop.root / name

    async def _there(self, name: str) -> Raw:
        found = await self.get(HERE, name)
        if found is None:
            raise Problem(409, f"{name} was removed meanwhile.", code="conflict")
        return found

    def _with_rows(self, manifest: Raw, directory: Path) -> Raw:
        """The manifest as it is written: of no namespace, and with files of rows that are the job's own."""
        dataset = dict(manifest["spec"]["dataset"])
        for split in ("train", "validation"):
            source = dataset.get(split, {}).get("source", "")
            if source.startswith(FILE):
                own = directory / f"{split}.jsonl"
                _link(Path(source.removeprefix(FILE)), own)
                dataset[split] = {"source": f"{FILE}{own.relative_to(self.runs.directory)}"}
        metadata = {key: value for key, value in manifest["metadata"].items() if key != "namespace"}
        return {**manifest, "metadata": metadata, "spec": {**manifest["spec"], "dataset": dataset}}


def patched(document: Raw, body: Raw) -> Raw:
    """What a merge patch (RFC 7386) makes of a document. Pure."""
    found = dict(document)
    for key, value in body.items():
        if value is None:
            found.pop(key, None)
        else:
            found[key] = patched(found.get(key, {}), value) if isinstance(value, dict) else value
    return found


def _why(job: Job) -> str:
    ready = job.condition(Type.READY)
    return ready.message if ready else "its run has ended."


def _unwilling(name: str, why: str) -> Problem:
    """To try again costs as long as it did."""
    sentence = f"Model {name} can't be woken now: {why}"
    return Problem(503, sentence, "model", "model_unavailable", FINAL)


def _not_made(error: Problem | NotBegun | OSError) -> Problem:
    if isinstance(error, OSError):
        return Problem(503, f"The job can't be written here: {error}.", code="not_written")
    return Problem(400, error.why if isinstance(error, NotBegun) else error.message, code="not_begun")


def _link(path: Path, own: Path) -> None:
    try:
        os.link(path, own)
    except OSError:
        # Not every file system has links.
        shutil.copyfile(path, own)


def _text(manifest: Raw) -> str:
    return yaml.safe_dump(manifest, sort_keys=False, allow_unicode=True)


async def _done(work: Callable[[], T]) -> T:
    """Something with files, in a thread. Raises Problem with the sentence of what can't be done."""
    try:
        return await run_sync(work)
    except UserError as error:
        raise Problem(409, error.message) from error
