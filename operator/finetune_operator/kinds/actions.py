"""What a plan may ask for, and which of it is worth sending. Every kind's plan is made of these; `reconcile` acts."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from finetune_operator import names
from finetune_operator.pods.applied import as_applied, stamped
from finetune_operator.pods.metadata import Manifest, Raw

# An object by kind and name.
Id = tuple[str, str]


@dataclass(frozen=True)
class Ref:
    """One object that was made for one of ours. `revision` is None for what belongs to no single one."""

    kind: str
    name: str
    uid: str
    revision: str | None
    deleting: bool = False


def ref_of(kind: str, raw: Raw) -> Ref:
    """Read an object's identity."""
    metadata = raw["metadata"]
    revision = (metadata.get("labels") or {}).get(names.REVISION)
    return Ref(kind, metadata["name"], metadata["uid"], revision, "deletionTimestamp" in metadata)


@dataclass(frozen=True)
class Create:
    """Make an object that is not touched afterwards, or only by Patch."""

    manifest: Manifest


@dataclass(frozen=True)
class Apply:
    """Server-side apply of an object that is kept as the manifest says. `uid`: of the one that was observed."""

    manifest: Manifest
    uid: str | None = None


@dataclass(frozen=True)
class Patch:
    """Change fields of an object, if it still is the one that was observed. `advice`: what to do if that is refused."""

    ref: Ref
    body: Mapping[str, Any]
    advice: str = ""


@dataclass(frozen=True)
class Delete:
    """Delete an object, if it still is the one that was observed, and what it owns before it."""

    ref: Ref


@dataclass(frozen=True)
class Scale:
    """Ask for so many pods of one of ours, by its scale subresource, unless it has changed since it was observed: an
    autoscaler's word, or a person's, that came in between counts.
    """

    ref: Ref
    version: str
    replicas: int


@dataclass(frozen=True)
class Adopt:
    """Make `owner`, an owner reference, the controller of an object that has none, if it still is the one that was
    observed.
    """

    ref: Ref
    owner: Mapping[str, Any]


Action = Create | Apply | Patch | Delete | Scale | Adopt


def applied(manifest: Manifest) -> Apply:
    """Apply a manifest, with the digest that tells later whether there is anything to apply."""
    return Apply(stamped(manifest))


def needed(objects: Mapping[Id, Raw], actions: Iterable[Action]) -> tuple[Action, ...]:
    """The actions without applies that would change nothing, or that have to wait until an object is gone."""
    found = (_apply(objects, action) if isinstance(action, Apply) else action for action in actions)
    return tuple(action for action in found if action is not None)


def once(taken: set[Id], actions: Iterable[Action]) -> tuple[Action, ...]:
    """The actions on objects that no earlier action of this plan touches; the others wait for the next look. `taken`
    has those objects, and grows.
    """
    found = []
    for action in actions:
        if (of := _object(action)) not in taken:
            taken.add(of)
            found.append(action)
    return tuple(found)


def _object(action: Action) -> Id:
    if isinstance(action, Patch | Delete | Scale | Adopt):
        return action.ref.kind, action.ref.name
    return action.manifest["kind"], action.manifest["metadata"]["name"]


def _apply(objects: Mapping[Id, Raw], action: Apply) -> Apply | None:
    manifest = action.manifest
    found = objects.get(_object(action))
    if found is None:
        return action
    if "deletionTimestamp" in found["metadata"] or as_applied(found, manifest):
        return None
    return replace(action, uid=found["metadata"]["uid"])
