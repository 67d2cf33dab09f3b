"""What the watches have told so far, trimmed to what `observe` reads, and found by who controls it.

`informer` fills it, `reconcile` takes Snapshots from it and puts in what its own calls were answered, so
that it knows what it did before a watch tells. Being behind by a moment is harmless: changes name the object that they
are meant for, and what deletes is looked at live first.

A hundred thousand objects have to fit: each is kept as JSON, compressed against the first one of its kind.
"""

import zlib
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from pydantic_core import from_json, to_json

from finetune_operator import names
from finetune_operator.api.engine import KIND as ENGINE
from finetune_operator.api.v1alpha1 import KIND
from finetune_operator.finetunejob.queue import made_for
from finetune_operator.kinds.actions import Id
from finetune_operator.kinds.snapshot import Snapshot
from finetune_operator.pods.metadata import controller_of
from finetune_operator.shell.kinds import KINDS
from finetune_operator.shell.resources import Key, NamespacedName
from finetune_operator.shell.trim import Raw, trim

# Of one of ours, what those wait for that follow it.
_AWAITED = (*KINDS, "ConfigMap", "PersistentVolumeClaim")
# Of what one of ours controls, directly or not.
_MADE = tuple(dict.fromkeys(owned for kind in KINDS.values() for owned in kind.owned))
_CHILDREN = (*_MADE, "Pod", "Event", "Workload")

# What a FineTuneJob makes that an Engine reads.
_LOADS = ("ConfigMap", "Service")


class Entry(NamedTuple):
    """One object: its uid, the version that was seen last, who controls it, and what `observe` reads of it."""

    uid: str
    version: int
    controller: str | None
    data: bytes


class Store:
    """Objects by kind, namespace and name, and by controller.

    `wake` is called with each of ours that follows another one, when there is news of that.
    """

    def __init__(self, wake: Callable[[Key], None] = lambda key: None) -> None:
        self._wake = wake
        self._following: dict[Key, list[Key]] = defaultdict(list)
        self._objects: dict[str, dict[NamespacedName, Entry]] = defaultdict(dict)
        self._controlled: dict[str, list[tuple[str, NamespacedName]]] = defaultdict(list)
        self._pods: dict[Key, list[NamespacedName]] = defaultdict(list)
        self._loads: dict[Key, list[tuple[str, NamespacedName]]] = defaultdict(list)
        self._claims: dict[Key, list[Key]] = defaultdict(list)
        self._orphans: dict[Key, list[tuple[str, NamespacedName]]] = defaultdict(list)
        self._samples: dict[str, bytes] = {}
        # An answer to a call of ours may come after the watch has told that the object is gone.
        self._gone: deque[str] = deque(maxlen=1000)

    def put(self, kind: str, raw: Mapping[str, Any]) -> bool:
        """Keep an object as it is now; whether that is news. What is older than what is there is ignored, and so are
        the Workloads of others, which no label tells apart.
        """
        if kind == "Workload" and made_for(raw) is None:
            return False
        metadata = raw["metadata"]
        place = NamespacedName(metadata["namespace"], metadata["name"])
        uid, version = metadata["uid"], int(metadata["resourceVersion"])
        before = self._objects[kind].get(place)
        if uid in self._gone or (before and before.version >= version):
            return False
        entry = Entry(uid, version, _controller(kind, raw), self._packed(kind, trim(kind, raw)))
        if before:
            self._forget(kind, place, before)
        self._objects[kind][place] = entry
        self._remember(kind, place, entry, raw)
        news = before is None or before.uid != entry.uid or before.data != entry.data
        if news:
            if before:
                self._tell_engine(kind, self._unpacked(kind, place, before))
            self._tell(kind, raw)
        return news

    def put_orphan(self, kind: str, raw: Mapping[str, Any]) -> None:
        """Keep an object that stood in the way, if it is of those that are watched and nobody's."""
        if _orphan_of(kind, raw):
            self.put(kind, raw)

    def drop(self, kind: str, place: NamespacedName, uid: str) -> bool:
        """Forget an object that is gone, unless another one has taken its name since; whether that is news."""
        self._gone.append(uid)
        entry = self._objects[kind].get(place)
        if entry is None or entry.uid != uid:
            return False
        self._forget(kind, place, entry)
        del self._objects[kind][place]
        self._tell(kind, self._unpacked(kind, place, entry))
        return True

    def _tell(self, kind: str, raw: Mapping[str, Any]) -> None:
        """No watch repeats the answer to our own call, so whoever follows this object is told now."""
        owner = self.owner_of(kind, raw) if kind in _AWAITED else None
        for waiting in list(self._following.get(owner, ())) if owner else ():
            self._wake(waiting)
        self._tell_engine(kind, raw)

    def _tell_engine(self, kind: str, raw: Mapping[str, Any]) -> None:
        """What a FineTuneJob has made that concerns an Engine is that one's news, too."""
        if engine := _loaded_on(kind, raw):
            self._wake(engine)

    def drop_unseen(self, kind: str, namespace: str | None, seen: Iterable[NamespacedName], version: int) -> list[Raw]:
        """Forget what a complete list, of this version, did not have; what that was."""
        known = set(seen)
        gone = [
            (place, entry)
            for place, entry in self._objects[kind].items()
            if place not in known and entry.version <= version and namespace in (None, place.namespace)
        ]
        found = [self._unpacked(kind, place, entry) for place, entry in gone]
        for place, entry in gone:
            self.drop(kind, place, entry.uid)
        return found

    def owner_of(self, kind: str, raw: Mapping[str, Any]) -> Key | None:
        """The one of ours that an object says it was made for: whom to tell of a change, and no more than that."""
        metadata = raw["metadata"]
        if kind in KINDS:
            return Key(kind, metadata["namespace"], metadata["name"])
        if kind == "Event":
            place = NamespacedName(metadata["namespace"], raw["involvedObject"].get("name", ""))
            entry = self._objects["Job"].get(place)
            return _made_for(self._unpacked("Job", place, entry)) if entry else None
        if kind == "Workload":
            name = made_for(raw)
            return Key(KIND, metadata["namespace"], name) if name else None
        return _made_for(raw)

    def snapshot(self, key: Key) -> Snapshot | None:
        """Everything around one of ours; None when there is none."""
        entry = self._objects[key.kind].get(key.place)
        if entry is None:
            return None
        children = self._children(entry.uid)
        known = {pod["metadata"]["uid"] for pod in children["Pod"]}
        others = ((pod, self._objects["Pod"][pod]) for pod in self._pods.get(key, ()))
        strangers = [self._unpacked("Pod", pod, found) for pod, found in others if found.uid not in known]
        subject, seen = self._unpacked(key.kind, key.place, entry), frozenset({key})
        source, referred = self._source(key, subject, seen), key in self._following
        loads = self._loads_of(key)
        followed = self._read(_followed(key.kind, key.place, subject))
        return Snapshot(
            subject,
            children,
            strangers,
            loads=loads,
            followed=followed,
            rivals=self._rivals(key, subject),
            source=source,
            referred=referred,
            orphans=self._orphans_of(key),
        )

    def _orphans_of(self, key: Key) -> dict[str, list[Raw]]:
        found: dict[str, list[Raw]] = defaultdict(list)
        for kind, place in self._orphans.get(key, ()):
            found[kind].append(self._unpacked(kind, place, self._objects[kind][place]))
        return dict(found)

    def _rivals(self, key: Key, subject: Raw) -> list[Raw]:
        """Others that claim the same."""
        claim = _claimed(key.kind, key.place, subject)
        others = (found for found in self._claims.get(claim, ()) if found != key) if claim else ()
        return [self._unpacked(found.kind, found.place, self._objects[found.kind][found.place]) for found in others]

    def _loads_of(self, key: Key) -> dict[str, list[Raw]]:
        """What names an Engine, by kind: of what says so only that which one of ours controls."""
        found: dict[str, list[Raw]] = defaultdict(list)
        for kind, place in self._loads.get(key, ()):
            raw = self._unpacked(kind, place, self._objects[kind][place])
            if self._ours(raw):
                found[kind].append(raw)
        return dict(found)

    def _ours(self, raw: Raw) -> bool:
        """Whether the controller that an object names is there, and one of ours."""
        metadata = raw["metadata"]
        owner: Raw = next((each for each in metadata.get("ownerReferences") or [] if each.get("controller")), {})
        place = NamespacedName(metadata["namespace"], owner.get("name", ""))
        entry = self._objects[owner["kind"]].get(place) if owner.get("kind") in KINDS else None
        return entry is not None and entry.uid == owner["uid"]

    def _read(self, keys: Iterable[Key]) -> dict[Id, Raw]:
        """Those of ours that are there."""
        found = ((key, self._objects[key.kind].get(key.place)) for key in keys)
        return {(key.kind, key.name): self._unpacked(key.kind, key.place, entry) for key, entry in found if entry}

    def _source(self, key: Key, subject: Raw, seen: frozenset[Key]) -> Snapshot | None:
        """The one of its kind that another follows, and what that follows in turn; in a circle, once round."""
        alike = (found for found in _followed(key.kind, key.place, subject) if found.kind == key.kind)
        source = next(alike, None)
        entry = self._objects[source.kind].get(source.place) if source else None
        if source is None or entry is None:
            return None
        raw = self._unpacked(source.kind, source.place, entry)
        before = None if source in seen else self._source(source, raw, seen | {source})
        return Snapshot(raw, self._children(entry.uid), source=before)

    def _children(self, uid: str) -> dict[str, list[Raw]]:
        """What one of ours controls, and what is controlled by that in turn, by kind."""
        found: dict[str, list[Raw]] = {kind: [] for kind in _CHILDREN}
        pending = [uid]
        while pending:
            for kind, place in sorted(self._controlled.get(pending.pop(), ()), key=str):
                entry = self._objects[kind][place]
                if kind in found:
                    found[kind].append(self._unpacked(kind, place, entry))
                if kind in ("Job", "Deployment", "ReplicaSet"):
                    pending.append(entry.uid)
        return found

    def _packed(self, kind: str, raw: Raw) -> bytes:
        text = to_json(raw)
        packer = zlib.compressobj(zdict=self._samples.setdefault(kind, text))
        return packer.compress(text) + packer.flush()

    def _unpacked(self, kind: str, place: NamespacedName, entry: Entry) -> Raw:
        raw: Raw = from_json(zlib.decompressobj(zdict=self._samples[kind]).decompress(entry.data))
        identity = {
            "name": place.name,
            "namespace": place.namespace,
            "uid": entry.uid,
            "resourceVersion": str(entry.version),
        }
        raw["metadata"] |= identity
        return raw

    def _remember(self, kind: str, place: NamespacedName, entry: Entry, raw: Mapping[str, Any]) -> None:
        if entry.controller:
            self._controlled[entry.controller].append((kind, place))
        elif orphaned := _orphan_of(kind, raw):
            self._orphans[orphaned].append((kind, place))
        if kind == "Pod" and (owner := _made_for(raw)):
            self._pods[owner].append(place)
        for followed in _followed(kind, place, raw):
            self._following[followed].append(_key(kind, place))
        if claim := _claimed(kind, place, raw):
            self._claims[claim].append(_key(kind, place))
        if engine := _loaded_on(kind, raw):
            self._loads[engine].append((kind, place))

    def _forget(self, kind: str, place: NamespacedName, entry: Entry) -> None:
        if entry.controller:
            _discard(self._controlled, entry.controller, (kind, place))
        elif (orphaned := self._orphaned(kind, place, entry)) and (kind, place) in self._orphans.get(orphaned, ()):
            _discard(self._orphans, orphaned, (kind, place))
        if kind == "Pod" and (owner := _made_for(self._unpacked(kind, place, entry))):
            _discard(self._pods, owner, place)
        if kind in _LOADS and (engine := _loaded_on(kind, self._unpacked(kind, place, entry))):
            _discard(self._loads, engine, (kind, place))
        if kind in KINDS:
            raw = self._unpacked(kind, place, entry)
            for followed in _followed(kind, place, raw):
                _discard(self._following, followed, _key(kind, place))
            if claim := _claimed(kind, place, raw):
                _discard(self._claims, claim, _key(kind, place))

    def _orphaned(self, kind: str, place: NamespacedName, entry: Entry) -> Key | None:
        """Whose an object without a controller was, as far as what is kept of it tells."""
        return _made_for(self._unpacked(kind, place, entry)) if kind in _MADE else None


def _discard(index: dict[Any, list[Any]], at: Any, what: Any) -> None:
    index[at].remove(what)
    if not index[at]:
        del index[at]


def _controller(kind: str, raw: Mapping[str, Any]) -> str | None:
    return raw["involvedObject"].get("uid") if kind == "Event" else controller_of(raw)


def _key(kind: str, place: NamespacedName) -> Key:
    return Key(kind, place.namespace, place.name)


def _made_for(raw: Mapping[str, Any]) -> Key | None:
    """The one of ours whose name an object carries as its kind's label, or else its owner: labels can be removed."""
    metadata = raw["metadata"]
    labels = metadata.get("labels") or {}
    named = [(kind.name, labels[kind.label]) for kind in KINDS.values() if labels.get(kind.label)]
    owners = (each for each in metadata.get("ownerReferences") or [] if each.get("controller"))
    named += [(each["kind"], each["name"]) for each in owners if each.get("kind") in KINDS]
    return next((Key(kind, metadata["namespace"], name) for kind, name in named), None)


def _orphan_of(kind: str, raw: Mapping[str, Any]) -> Key | None:
    """The one of ours that an object was made for which has no controller; None where it has one."""
    ours = (raw["metadata"].get("labels") or {}).get(names.MANAGED_BY) == names.FIELD_MANAGER
    owner = _made_for(raw) if ours and kind in _MADE and controller_of(raw) is None else None
    return owner if owner and kind in KINDS[owner.kind].owned else None


def _loaded_on(kind: str, raw: Mapping[str, Any]) -> Key | None:
    """The Engine that an object says it concerns, which is not its owner."""
    metadata = raw["metadata"]
    name = (metadata.get("labels") or {}).get(names.LOADED_ON) if kind in _LOADS else None
    return Key(ENGINE, metadata["namespace"], name) if name else None


def _followed(kind: str, place: NamespacedName, raw: Mapping[str, Any]) -> tuple[Key, ...]:
    """Those of ours that another one follows."""
    found = KINDS[kind].follows(raw.get("spec") or {}) if kind in KINDS else ()
    return tuple(Key(followed, place.namespace, name) for followed, name in found)


def _claimed(kind: str, place: NamespacedName, raw: Mapping[str, Any]) -> Key | None:
    """What one of ours claims for itself, under which the others that do are found."""
    found = KINDS[kind].claims(raw.get("spec") or {}) if kind in KINDS else None
    return Key(kind, place.namespace, found) if found else None
