"""FineTuneJobs, wherever they are: one view of a job, and the one interface that every verb about jobs works through.

`cluster` and `laptop` carry it out; `places` chooses between them, so that no verb has to.
"""

from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from itertools import dropwhile
from typing import Protocol

from finetune_operator.api.status import Condition, Endpoint, FineTuneJobStatus, Phase
from finetune_operator.conditions import Reason, Type
from finetune_operator.finetunejob.stages import STAGES
from finetune_operator.names import PROMOTE, revision_and_step
from pydantic import ValidationError

from finetune_cli.errors import ExitCode, UserError, code_of
from finetune_cli.kubectl import Raw

NO_JOB = "There is no FineTuneJob in this namespace; --namespace names another."


class Logged(StrEnum):
    """The stages that write a log: promote is no process."""

    PREPARE = "prepare"
    TRAIN = "train"
    PUBLISH = "publish"
    MERGE = "merge"
    HOST = "host"
    EVALUATE = "evaluate"


@dataclass(frozen=True)
class Job:
    """A FineTuneJob as it was last seen.

    `document` is the whole object for programs; `promote` is the revision or checkpoint that a person named. `idle`:
    nobody works on it or serves it now. `resumes`: what makes its work go on.
    """

    name: str
    status: FineTuneJobStatus
    document: Raw
    namespace: str = ""
    generation: int = 0
    created: datetime | None = None
    promote: str = ""
    idle: bool = False
    resumes: str = ""

    def condition(self, kind: str) -> Condition | None:
        """The condition of a type, if it is there yet."""
        return next((found for found in self.status.conditions if found.type == kind), None)

    @property
    def current(self) -> str:
        """The stage that is under way or stands in the way; the last one that was when all are done."""
        asked = [
            stage for stage in STAGES if (found := self.condition(stage.condition)) and found.reason != Reason.DISABLED
        ]
        under_way = (stage.name for stage in asked if self._stands(stage.condition))
        return next(under_way, asked[-1].name if asked else STAGES[0].name)

    def _stands(self, kind: str) -> bool:
        found = self.condition(kind)
        return found is None or (
            found.status != "True" and found.reason not in (Reason.RELEASED, Reason.ANSWERS_DIFFER)
        )


def job_of(raw: Raw) -> Job:
    """A FineTuneJob as the API server has it. UserError where its status is another version's."""
    metadata = raw["metadata"]
    try:
        status = FineTuneJobStatus.model_validate(raw.get("status", {}))
    except ValidationError as error:
        raise UserError(
            f"The status of {metadata['name']} was written by another version of the operator; install that version of "
            "finetune-operator here."
        ) from error
    # What server-side apply keeps about fields is of use to nobody here.
    shown = {key: value for key, value in metadata.items() if key != "managedFields"}
    created = metadata.get("creationTimestamp")
    return Job(
        name=metadata["name"],
        status=status,
        document={**raw, "metadata": shown},
        namespace=metadata.get("namespace", ""),
        generation=metadata.get("generation", 0),
        created=datetime.fromisoformat(created) if created else None,
        promote=metadata.get("annotations", {}).get(PROMOTE, ""),
        resumes=f"`finetune resume {metadata['name']}`",
    )


@dataclass(frozen=True)
class ReachableModel:
    """What serves a job, from here. `system`: the system message that it knows its task by, where that is known."""

    endpoint: Endpoint
    system: str | None = None


class Place(Protocol):
    """Where FineTuneJobs are. Each method raises UserError with a sentence where it can't be done."""

    def names(self) -> list[str]:
        """Which there are."""

    def jobs(self) -> list[Job]:
        """All of them, by name."""

    def job(self, name: str) -> Job:
        """One of them as it is now."""

    def watch(self, name: str, seconds: float | None) -> Generator[Job, None, None]:
        """It as it is now and after each change, for ever or for so long."""

    def logs(self, job: Job, stage: str, follow: bool) -> Iterator[str]:
        """The lines that a stage of its revision has written; with `follow` also those that it will write."""

    def asked(self, job: Job) -> Raw:
        """What its manifest asks for, as far as it is known here; empty before that."""

    def suspend(self, name: str, suspended: bool) -> None:
        """Stop its work, which keeps a checkpoint, or let it go on."""

    def retry(self, name: str) -> None:
        """Try again what failed."""

    def remove(self, name: str) -> None:
        """Remove the job and what was made for it."""

    def remove_earlier(self, job: Job) -> list[str]:
        """Remove what was made for revisions before the newest; which these were."""

    def reach(self, job: Job) -> AbstractContextManager[ReachableModel]:
        """Make what serves it answer on this machine, as long as the context lasts."""

    def promote(self, name: str, address: str | None) -> None:
        """Have a revision or a checkpoint serve, whatever the gate says; None: what passes the gate."""

    def rollback(self, job: Job) -> str:
        """Have the revision serve that served before the one that serves; which that is."""


@dataclass(frozen=True)
class Conclusion:
    """That nothing more happens by itself: the exit code that goes with it, and what to tell."""

    code: int
    message: str


def conclusion(job: Job) -> Conclusion | None:
    """What a job has come to; None while it goes on, or would by itself once somebody mends what its message says."""
    ready = job.condition(Type.READY)
    if ready is None or job.status.observed_generation < job.generation:
        return None
    if ready.status == "True":
        return Conclusion(ExitCode.DONE, ready.message)
    codes = {
        Phase.REJECTED: ExitCode.GATE_NOT_MET,
        Phase.INVALID: ExitCode.USAGE,
        Phase.SUSPENDED: ExitCode.FAILED,
        Phase.FAILED: code_of(ready.reason),
    }
    code = codes.get(job.status.phase)
    return (
        None if code is None else Conclusion(code, f"{job.name} {job.status.phase} ({ready.reason}): {ready.message}")
    )


def promotable(job: Job) -> list[str]:
    """What could be served: the revisions that have an artifact, newest first, and the checkpoints that are kept."""
    trained = [entry.revision for entry in job.status.history if entry.artifact]
    return [*trained, *(kept.name for kept in (job.status.checkpoints or [])[1:])]


def chosen(job: Job, address: str | None) -> str:
    """What is to be promoted: what was named, else the current revision. UserError where there is no such thing."""
    wanted = address or job.status.revision or ""
    there = promotable(job)
    if wanted in there:
        return wanted
    known = ", ".join(there) or "none"
    raise UserError(f"{job.name} has no revision {wanted} that was trained; there is {known}.", ExitCode.USAGE)


def before(job: Job) -> str:
    """The revision that served before the one that serves: what a rollback goes back to. UserError without any."""
    served, _ = revision_and_step(job.status.served_revision or "")
    if not served:
        raise UserError(f"Nothing of {job.name} serves; `finetune promote {job.name} REVISION` names what is to.")
    # The history has the last ten: what serves may be older than all of them.
    behind = list(dropwhile(lambda entry: entry.revision != served, job.status.history))[1:]
    good = [
        entry.revision for entry in behind if entry.artifact and entry.outcome not in (Phase.FAILED, Phase.REJECTED)
    ]
    if not good:
        raise UserError(
            f"{job.name} has no earlier revision that served; `finetune describe {job.name}` has its history."
        )
    return good[0]


def only(there: list[str]) -> str:
    """The only job there is; UserError where there are none or several."""
    if len(there) == 1:
        return there[0]
    if there:
        raise UserError(f"Which FineTuneJob? There are {', '.join(there)}.", ExitCode.USAGE)
    raise UserError(NO_JOB, ExitCode.USAGE)
