"""What the shell hands to a plan: the raw objects around one of ours. `store` makes it, a kind's `observe` reads it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import ValidationError

from finetune_operator.api.rules import ApiModel
from finetune_operator.kinds.actions import Id, Ref, ref_of
from finetune_operator.pods.metadata import Raw
from finetune_operator.pods.state import conditions, holds, main_container

S = TypeVar("S", bound=ApiModel)


@dataclass(frozen=True)
class Snapshot:
    """The raw objects around one `subject`, a FineTuneJob or an Engine."""

    subject: Raw
    # By kind: what it controls, and what its Jobs and Deployments control.
    children: Mapping[str, Sequence[Raw]] = field(default_factory=dict)
    # Pods that carry its label and that nothing of it controls.
    strangers: Sequence[Raw] = ()
    # What it depends on and does not own, read when it was asked for; None for what is not there.
    named: Mapping[Id, Raw | None] = field(default_factory=dict)
    # What its pods told last, by the plan's names of questions; None of a pod that gives none.
    answers: Mapping[str, Any] = field(default_factory=dict)
    # By kind: what FineTuneJobs have made that concerns this Engine.
    loads: Mapping[str, Sequence[Raw]] = field(default_factory=dict)
    # Those of ours that it follows and that are there.
    followed: Mapping[Id, Raw] = field(default_factory=dict)
    # Others of its kind that claim the same.
    rivals: Sequence[Raw] = ()
    # The snapshot of the one whose artifact it starts from, where that is there.
    source: "Snapshot | None" = None
    # Another one starts from this one's.
    referred: bool = False
    # By kind: what carries its labels and has no controller at all.
    orphans: Mapping[str, Sequence[Raw]] = field(default_factory=dict)
    # Why what is to be in `named` could not be looked up, in a sentence.
    unread: str = ""


def status_as(model: type[S], subject: Raw) -> S:
    """The last status as far as it can be read: it may be of a version to come, or written by hand."""
    raw = subject.get("status") or {}
    try:
        return model.model_validate(raw, extra="ignore")
    except ValidationError as error:
        unreadable = {problem["loc"][0] for problem in error.errors() if problem["loc"]}
        readable = {key: value for key, value in raw.items() if key not in unreadable}
        return model.model_validate(readable, extra="ignore")


def is_going(raw: Raw, kind: str, name: str) -> bool:
    """Whether somebody else's object is on its way out: deleted, or left by an earlier one of that kind and name."""
    metadata = raw["metadata"]
    owners = [(owner["kind"], owner["name"]) for owner in metadata.get("ownerReferences") or []]
    return "deletionTimestamp" in metadata or (kind, name) in owners


@dataclass(frozen=True)
class DeploymentState:
    """A Deployment of engines: `replicas` are wanted, `pods` are there, `available` of them answer.

    `rolled_out`: every replica is of the newest template and available, and stays. `limits`: those of one engine.
    """

    ref: Ref
    replicas: int
    pods: int
    rolled_out: bool
    available: int
    limits: Mapping[str, str]
    failure_message: str | None


def deployment_state(raw: Raw) -> DeploymentState:
    """Read a Deployment."""
    metadata, wanted, status = raw["metadata"], raw["spec"].get("replicas", 1), raw.get("status") or {}
    current = status.get("observedGeneration", 0) >= metadata.get("generation", 0)
    counts = (status.get(field, 0) for field in ("replicas", "updatedReplicas", "availableReplicas"))
    failure = conditions(raw).get("ReplicaFailure")
    pod = raw["spec"]["template"]
    limits = (main_container(pod["metadata"], pod["spec"]).get("resources") or {}).get("limits") or {}
    return DeploymentState(
        ref=ref_of("Deployment", raw),
        replicas=wanted,
        pods=status.get("replicas", 0),
        rolled_out=current and wanted > 0 and all(count == wanted for count in counts),
        available=status.get("availableReplicas", 0),
        limits=limits,
        failure_message=failure.get("message", "") if failure and holds(failure) else None,
    )
