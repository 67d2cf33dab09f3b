"""adapters: an engine has the adapters that FineTuneJobs want of it, fetched, verified and loaded while it answers.

Called by the program's `adapters` command, in a container of each pod of an Engine that has room for adapters. It
never ends by itself: it looks at what is wanted and at what there is, does what `adapter_steps` says, and looks again.
What it knows can be lost: after a restart it reads it off the engine and the volume.
"""

import json
import logging
import os
import secrets
import shutil
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType

import httpx
from pydantic import TypeAdapter, ValidationError

from finetune_trainer import signals
from finetune_trainer.contract.adapters import ALIASES, KEY, LEAVING, HeldAdapters, PublishedAdapter, WantedAdapters
from finetune_trainer.contract.outcome import DISK_FULL, Outcome, StageError
from finetune_trainer.contract.redaction import redacted
from finetune_trainer.data import published
from finetune_trainer.data.disk import write_whole
from finetune_trainer.server import Response, answering
from finetune_trainer.stages import adapter_steps as decide
from finetune_trainer.stages.adapter_engine import Refused, VllmClient
from finetune_trainer.stages.adapter_steps import Failure, Fetch, Observed, Remove, SetAliases, Step, Unload

logger = logging.getLogger(__name__)

# Between two looks where nothing is left to do.
PAUSE_SECONDS = 1.0
# One that is slow to fetch keeps no other one waiting.
AT_ONCE = 4
OWNER = "lora"
# What the names of directories begin with that are not complete.
_DRAFT = "."
_NAMES = TypeAdapter(dict[str, str])


@dataclass(frozen=True)
class KeeperSettings:
    """Where the list is read: `now` as it was told this pod, and until that is, `begin`. `root`: the volume that the
    engine shares. `signed`: the public key that artifacts have to be signed with.
    """

    now: Path
    begin: Path
    root: Path
    signed: Path | None = None


def adapters(settings: KeeperSettings, url: str, port: int, host: str = "") -> None:
    """Until the process is asked to stop. Raises StageError where its port is taken."""

    def end(number: int, frame: FrameType | None) -> None:
        # What is written is complete or absent; an exception would have to wait for a library's download.
        os._exit(0)

    keeper = Keeper(settings, VllmClient(url, key(settings.root)))
    with signals.handled(end), answering(keeper.answer, port, host):
        while True:
            keeper.look()
            time.sleep(PAUSE_SECONDS)


def key(root: Path) -> str:
    """What the engine's middleware lets through by; made once for a volume."""
    path = root / KEY
    if not path.exists():
        write_whole(path, secrets.token_urlsafe())
    return path.read_text()


class Keeper:
    """What one pod has, and what is done about it."""

    def __init__(self, settings: KeeperSettings, engine: VllmClient) -> None:
        self._held = HeldAdapters()
        self._settings = settings
        self._engine = engine
        self._wanted = WantedAdapters()
        self._seen = Observed(aliases=_aliases(settings.root))
        for draft in settings.root.glob(f"{_DRAFT}*@*"):
            shutil.rmtree(draft)
        self._fetches: dict[str, tuple[PublishedAdapter, Future[None]]] = {}
        self._pool = ThreadPoolExecutor(AT_ONCE)

    def answer(self, path: str) -> Response | None:
        """What the operator asks for."""
        return Response(self._held.model_dump_json(by_alias=True).encode()) if path == "/status" else None

    def look(self) -> None:
        """Once: see how it stands, do what can be done, until nothing is left to do."""
        try:
            while todo := self._observe():
                for step in todo:
                    self._do(step)
            if decide.settled(self._wanted, self._seen, time.monotonic()):
                self._engine.ready()
        except httpx.ConnectError:
            # It starts again, with nothing loaded.
            self._seen = replace(self._seen, engine={})
            self._tell()
        except (httpx.TransportError, Refused) as error:
            logger.info("The engine gives no answer now: %s", error)

    def _observe(self) -> list[Step]:
        now = time.monotonic()
        self._wanted = wanted(self._settings, self._wanted)
        self._collect()
        before, engine, busy = self._seen, self._engine.adapters(), self._engine.busy()
        there = (path for path in self._settings.root.glob("*@*") if not path.name.startswith(_DRAFT))
        seen = replace(
            before,
            engine=engine,
            there=frozenset(path.name for path in there),
            fetching=frozenset(self._fetches),
            failures={adapter: found for adapter, found in before.failures.items() if adapter in self._wanted.adapters},
            busy=busy,
        )
        self._seen = replace(
            seen,
            leaving={name: before.leaving.get(name, now) for name in decide.leaving(self._wanted, seen)},
            resting={name: before.resting.get(name, now) for name in decide.resting(self._wanted, seen)},
            left={name: before.left.get(name, now) for name in decide.left(self._wanted, seen)},
        )
        self._tell()
        return decide.steps(self._wanted, self._seen, now)

    def _tell(self) -> None:
        self._held = decide.held(self._wanted, self._seen)

    def _do(self, step: Step) -> None:
        logger.info("%s", step)
        root = self._settings.root
        match step:
            case Fetch(adapter):
                place = decide.directory(adapter)
                self._fetches[place] = adapter, self._pool.submit(fetch, adapter, root / place, self._settings.signed)
            case decide.Load(adapter, instead):
                self._load(adapter, instead)
            case SetAliases(aliases, closing):
                write_whole(root / LEAVING, json.dumps(sorted(closing)))
                write_whole(root / ALIASES, _NAMES.dump_json(dict(aliases)).decode())
                self._seen = replace(self._seen, aliases=aliases, closing=closing)
            case Unload(name):
                self._engine.unload(name)
            case Remove(directory):
                shutil.rmtree(root / directory)

    def _load(self, adapter: PublishedAdapter, instead: bool) -> None:
        try:
            self._engine.load(adapter.name, self._settings.root / decide.directory(adapter), instead)
        except Refused as error:
            message = f"The engine can't load adapter {adapter.name}: {error}{_advice(str(error))}"
            self._note(adapter, message, lasting=True)
        else:
            self._seen = replace(self._seen, failures=_without(self._seen.failures, adapter))

    def _collect(self) -> None:
        """What has come of the fetches that have ended."""
        ended = [(place, *found) for place, found in self._fetches.items() if found[1].done()]
        for place, adapter, future in ended:
            del self._fetches[place]
            error = future.exception()
            if isinstance(error, StageError):
                self._note(adapter, error.message, lasting=not error.outcome.exit.retry)
            elif error is not None:
                logger.error("Adapter %s could not be fetched", adapter.name, exc_info=error)
                self._note(adapter, f"{adapter.uri} could not be fetched: {type(error).__name__}: {error}", False)

    def _note(self, adapter: PublishedAdapter, said: str, lasting: bool) -> None:
        # From here it goes into the Engine's status.
        message = redacted(said)
        logger.warning("%s", message)
        found = decide.failure(self._seen.failures.get(adapter), message, lasting, time.monotonic())
        self._seen = replace(self._seen, failures={**self._seen.failures, adapter: found})


def wanted(settings: KeeperSettings, before: WantedAdapters) -> WantedAdapters:
    """The list as it was told last. What can't be read changes nothing: the kubelet may be writing it."""
    for path in (settings.now, settings.begin):
        try:
            text = path.read_text()
            if text:
                # A pod outlives operators, and a later one may have more to say.
                return WantedAdapters.model_validate_json(text, extra="ignore")
        except FileNotFoundError:
            continue
        except ValidationError as error:
            logger.error("%s is no list of adapters: %s", path, error)
            return before
    return before


def fetch(adapter: PublishedAdapter, target: Path, signed: Path | None = None) -> None:
    """Bring it, if it is what is wanted, and signed with that key. Raises StageError."""
    draft = target.with_name(f"{_DRAFT}{target.name}")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        published.bring(adapter.uri, draft, lambda name: None, signed, OWNER, adapter.digest)
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        message = f"The node's disk is too small for {adapter.uri}: remove what else is on it, or load fewer adapters."
        raise StageError(Outcome.WORKSPACE_FULL, message) from error
    draft.rename(target)


def _advice(words: str) -> str:
    return " Raise spec.lora.maxRank of the Engine." if "max_lora_rank" in words or "LoRA rank" in words else ""


def _without(
    failures: Mapping[PublishedAdapter, Failure], adapter: PublishedAdapter
) -> dict[PublishedAdapter, Failure]:
    return {found: each for found, each in failures.items() if found != adapter}


def _aliases(root: Path) -> dict[str, str]:
    """Those that are in force since before this process began."""
    try:
        return _NAMES.validate_json((root / ALIASES).read_bytes())
    except FileNotFoundError:
        return {}
