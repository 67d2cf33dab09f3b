"""Where jobs are, as the page's routes know it: `api` on a cluster, `finetune_cli.ui` on a laptop.

A Place stands for one person: what it refuses that person is a Problem, whose sentence the page shows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from finetune_cli.jobs import Job
from finetune_trainer.contract.curve import Point

from finetune_server.ui.form import Draft, Form

# A text in parts, each with whether it is learned.
Parts = tuple[tuple[str, bool], ...]
Message = Mapping[str, str]


@dataclass(frozen=True)
class Action:
    """What can be done to a job: `question` is asked first; `choices` are revisions and checkpoints to choose from."""

    name: str
    label: str
    question: str
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Row:
    """A row of train as the model sees it; `rejected`: of a preference the answer to avoid."""

    place: str
    size: str
    parts: Parts
    rejected: Parts = ()


@dataclass(frozen=True)
class Data:
    """What was found in the rows, how many are how long, and some of them. `note`: what is not told here, and why."""

    findings: tuple[str, ...] = ()
    lengths: tuple[tuple[str, int], ...] = ()
    rows: tuple[Row, ...] = ()
    note: str = ""


class Place(Protocol):
    """The jobs that somebody may see, and what they may do to them."""

    @property
    def name(self) -> str:
        """In a few words."""

    @property
    def writes(self) -> bool:
        """Whether this person may change anything."""

    @property
    def asks(self) -> bool:
        """Whether this person may ask models."""

    async def jobs(self) -> Sequence[Job]:
        """All, the newest first."""

    async def job(self, name: str) -> Job:
        """The job of a name. Raises Problem where there is none."""

    def asked(self, job: Job) -> Mapping[str, object]:
        """What its manifest asks for, as far as it is known."""

    async def system(self, job: Job) -> str:
        """The system message that its model knows its task by; empty where none is known."""

    def actions(self, job: Job) -> tuple[Action, ...]:
        """What can be done to it now."""

    async def act(self, job: Job, action: str, choice: str) -> None:
        """Carry an action out; `choice` is what the person chose for it."""

    async def data(self, job: Job) -> Data:
        """What its rows are like."""

    async def curve(self, job: Job) -> Sequence[Point]:
        """The losses that are known by now, in order."""

    async def report(self, job: Job) -> str | None:
        """Its report as a page of HTML; None where that can't be had here."""

    async def ask(self, job: Job, messages: Sequence[Message], base: bool) -> str:
        """The answer of its model, or of the base model beside it."""

    async def form(self) -> Form:
        """What a new job can be asked for."""

    async def draft(self, given: Mapping[str, str]) -> Draft:
        """The manifest that a form asks for, or what is wrong with it."""

    async def create(self, given: Mapping[str, str]) -> str:
        """Make that job; its name."""
