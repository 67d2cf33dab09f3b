"""The jobs that `finetune run` has run in this directory, as `jobs.Place` has them."""

import json
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

from finetune_operator.api.v1alpha1 import API_VERSION
from finetune_operator.names import RUN_CONFIG

from finetune_cli.errors import UserError
from finetune_cli.job import read
from finetune_cli.jobs import Job, ReachableModel
from finetune_cli.kubectl import Raw
from finetune_cli.state import interrupted
from finetune_cli.store import ROOT, Store, as_json, find, known

# How often the status document is read while somebody watches it, in seconds.
POLL_SECONDS = 0.5
NOT_SERVED = "{name} is not being served; start it with `finetune run` and leave that running."

_RUN = "{name} is a run of this machine: `finetune run` of its manifest {what}. --namespace names a cluster's."


@dataclass(frozen=True)
class Laptop:
    """A directory with `.finetune/`."""

    root: Path = ROOT

    def names(self) -> list[str]:
        """The jobs that were run here."""
        return known(self.root)

    def jobs(self) -> list[Job]:
        """All of them."""
        return [self.job(name) for name in self.names()]

    def job(self, name: str) -> Job:
        """What its status document says, and whether that is still so: a run that was killed could not write it."""
        store = find(name, self.root)
        # Before the document: one that ends in between has written its last word.
        running = store.running
        status = store.read()
        if status is None:
            raise UserError(f"{store.status_file} can't be read; `finetune run` writes it anew.")
        if not running:
            status = interrupted(status, datetime.now(UTC))
        document = {
            "apiVersion": API_VERSION,
            "kind": "FineTuneJob",
            "metadata": {"name": name},
            "status": json.loads(as_json(status)),
        }
        return Job(name, status, document, idle=not running, resumes=self._resumes(name))

    def _resumes(self, name: str) -> str:
        return f"`finetune resume {name}`" if self._manifest(name).is_file() else "`finetune run` of its manifest"

    def _manifest(self, name: str) -> Path:
        """What is run again: where else a manifest may lie is not known here."""
        return self.root.parent.resolve() / f"{name}.yaml"

    def watch(self, name: str, seconds: float | None) -> Generator[Job, None, None]:
        """It now and after each change."""
        deadline = None if seconds is None else time.monotonic() + seconds
        seen = None
        while deadline is None or time.monotonic() < deadline:
            job = self.job(name)
            if job != seen:
                yield job
            seen = job
            time.sleep(POLL_SECONDS)

    def logs(self, job: Job, stage: str, follow: bool) -> Iterator[str]:
        """The log file of a stage."""
        store = self.store(job.name)
        log = store.log(job.status.revision or "", stage)
        if not log.exists():
            there = ", ".join(sorted(path.stem for path in log.parent.glob("*.log"))) or "none"
            raise UserError(f"{job.name} has no log of {stage} yet; there is {there}.")
        return self._lines(store, log, follow)

    def _lines(self, store: Store, log: Path, follow: bool) -> Iterator[str]:
        with log.open(errors="replace") as file:
            while follow and store.running:
                yield from file
                time.sleep(POLL_SECONDS)
            yield from file

    def asked(self, job: Job) -> Raw:
        """The run config of its revision, which is what a manifest comes to here."""
        path = self.store(job.name).workspace(job.status.revision or "").root / RUN_CONFIG
        return dict(json.loads(path.read_text("utf-8"))) if job.status.revision and path.exists() else {}

    def suspend(self, name: str, suspended: bool) -> None:
        """Ask the `finetune run` that is under way to end, as Ctrl-C does, or run it again in the background."""
        if suspended:
            self.store(name).stop()
        else:
            self._run_again(name, "goes on from where it stopped")

    def remove(self, name: str) -> None:
        """Its directory; base models are everybody's, and stay."""
        self.store(name).remove()

    def remove_earlier(self, job: Job) -> list[str]:
        """Their directories."""
        newest = job.status.revision
        return self.store(job.name).remove_all_but(newest) if newest else []

    def retry(self, name: str) -> None:
        """There is one way to go on."""
        self._run_again(name, "tries again what failed")

    def _run_again(self, name: str, what: str) -> None:
        """By its manifest, where that is NAME.yaml beside .finetune."""
        # What only these two verbs need.
        from anyio import run

        from finetune_cli.background import Background, NotBegun

        runs, manifest = Background(self.root.parent.resolve()), self._manifest(name)
        if not manifest.is_file() or read(manifest).metadata.name != name:
            raise UserError(_RUN.format(name=name, what=what))
        try:
            run(runs.run, name)
        except NotBegun as error:
            raise UserError(error.why) from error

    @contextmanager
    def reach(self, job: Job) -> Iterator[ReachableModel]:
        """It listens here."""
        if job.status.endpoint is None:
            raise UserError(NOT_SERVED.format(name=job.name))
        rows = self.store(job.name).workspace(job.status.revision or "").rows("train")
        yield ReachableModel(job.status.endpoint, common_system_message(rows))

    def rollback(self, job: Job) -> str:
        """Nor is there one to go back on."""
        return self.promote(job.name, None)

    def promote(self, name: str, address: str | None) -> NoReturn:
        """There is no endpoint that outlives the run."""
        raise UserError(
            _RUN.format(
                name=name, what="serves the revision that it describes once that passes evaluation.gate, and no other"
            )
        )

    def store(self, name: str | None) -> Store:
        """Its directory; without a name, that of the only one."""
        return find(name, self.root)


def common_system_message(rows: Path) -> str | None:
    """The system message that all prepared rows begin with, which the model knows its task by; else None."""
    if not rows.is_file():
        return None
    with rows.open() as lines:
        found = {_system_message(json.loads(line)) for line in lines}
    return found.pop() if len(found) == 1 else None


def _system_message(row: dict[str, Any]) -> str | None:
    messages = row.get("messages") or row.get("prompt")
    first = messages[0] if isinstance(messages, list) and messages else {}
    return first["content"] if first.get("role") == "system" else None
