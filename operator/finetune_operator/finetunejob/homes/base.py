"""What a home is: where a revision answers, what it takes to have it there, and how it is found there.

`hosting` makes and removes what `wants` says, the stage host tells how it stands, evaluate asks at its `asked`, and
promote moves the stable Service to it. None of them knows which homes there are.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from finetune_operator.api.model import ApiKey
from finetune_operator.conditions import Objection
from finetune_operator.finetunejob.desired.hosting import HOST
from finetune_operator.finetunejob.observe import World
from finetune_operator.finetunejob.target import Target
from finetune_operator.kinds.actions import Action, Id
from finetune_operator.pods.metadata import Manifest
from finetune_operator.serving.rollout import Look, Readiness


@dataclass(frozen=True)
class Tenant:
    """What is to be at `home`: a revision, its base model, or one of its checkpoints, as `stage` says, which the pods
    of an engine are labelled with.

    `replicas`: None to leave it as it is.
    """

    home: "Home"
    revision: str
    replicas: int | None
    stage: str = HOST


@dataclass(frozen=True)
class EvaluationEndpoint:
    """Whom an evaluation asks: the URL, and the key that it takes. `models`: the names of what was trained and of its
    base model, where the trainer doesn't know them by itself.
    """

    url: str
    key: ApiKey | None
    models: tuple[str, str] | None = None


class Home(ABC):
    """Where revisions answer.

    `on`: the name of a shared Engine. `mounts`: whether it reads the revision's volume, so that this has to stay.
    `takes`: why there is no such revision here, as the end of a sentence.
    """

    on: str
    mounts: bool
    takes: str

    @abstractmethod
    def unfit(self, target: Target, world: World) -> Objection | None:
        """Why it can't have the revision, as far as the manifest and what prepare has found tell; None where it can."""

    @abstractmethod
    def can(self, target: Target, world: World, address: str) -> bool:
        """Whether it could have what is at an address."""

    @abstractmethod
    def holds(self, target: Target, tenant: Tenant) -> Id:
        """The object that a tenant is there by."""

    @abstractmethod
    def make(self, target: Target, world: World, tenant: Tenant, replicas: int) -> tuple[Action, ...]:
        """Have a tenant there. `target` is of its revision."""

    @abstractmethod
    def beside(self, target: Target, world: World) -> tuple[Action, ...]:
        """What the revision has there beside that, once it is on its way."""

    @abstractmethod
    def readiness(self, target: Target, world: World, serves: bool, look: Look) -> Readiness:
        """How the revision stands there. `serves`: it is what users get."""

    @abstractmethod
    def answers(self, target: Target, world: World, address: str) -> bool:
        """Whether the revision, or the checkpoint, at an address could be promoted now."""

    @abstractmethod
    def lead(self, target: Target, world: World, address: str) -> Manifest:
        """A Service on the way to what is at an address: the stable one, or what has to be there before that."""

    @abstractmethod
    def woken(self) -> tuple[Action, ...]:
        """What wakes it, where it sleeps until it is needed."""

    @abstractmethod
    def asked(self, target: Target) -> EvaluationEndpoint:
        """Whom an evaluation of the revision asks."""
