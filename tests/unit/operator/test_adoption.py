"""What a backup restores names no owner. It becomes that of the FineTuneJob or Engine that it was made for."""

import copy
from typing import Any

import pytest
from finetune_operator.api.engine import KIND as ENGINE
from finetune_operator.api.v1alpha1 import KIND
from finetune_operator.finetunejob.stages import JOBS
from finetune_operator.kinds.adoption import adoptions
from finetune_operator.shell.kinds import KINDS
from finetune_operator.shell.resources import Key, NamespacedName
from finetune_operator.shell.store import Store
from rehearsal import Rehearsal

KEY = Key(KIND, "kitchen", "recipes")
Raw = dict[str, Any]


def orphaned(raw: Raw, uid: str | None = None) -> Raw:
    """An object as it is restored: nobody's, and another one than before."""
    found = copy.deepcopy(raw)
    found["metadata"].pop("ownerReferences", None)
    found["metadata"].pop("deletionTimestamp", None)
    return found | {"metadata": found["metadata"] | {"uid": uid or f"restored-{found['metadata']['name']}"}}


def restored(cluster: Rehearsal, *others: Raw, kind: str = KIND) -> Store:
    """A store with a FineTuneJob and, nobody's, all that was made for it."""
    store = Store()
    job = copy.deepcopy(cluster.job)
    job["metadata"] = {"namespace": "kitchen", "resourceVersion": "1"} | job["metadata"]
    store.put(KIND, job)
    made = (raw for (found, _), raw in cluster.objects.items() if found in KINDS[kind].owned)
    for raw in (*map(orphaned, made), *others):
        store.put(raw["kind"], placed(raw))
    return store


def placed(raw: Raw) -> Raw:
    return raw | {"metadata": {"namespace": "kitchen", "resourceVersion": "1"} | raw["metadata"]}


def adopted(store: Store, key: Key = KEY) -> list[tuple[str, str]]:
    snapshot = store.snapshot(key)
    assert snapshot
    return sorted((each.ref.kind, each.ref.name) for each in adoptions(KINDS[key.kind], snapshot))


def test_all_that_was_made_for_it_is_adopted_by_its_new_uid(serving: Rehearsal) -> None:
    store = restored(serving)
    snapshot = store.snapshot(KEY)
    assert snapshot
    assert not any(snapshot.children.values())
    made = sorted(key for key in serving.objects if key[0] in KINDS[KIND].owned)
    assert {"ConfigMap", "PersistentVolumeClaim", "Deployment", "Service", "NetworkPolicy"} <= {
        kind for kind, _ in made
    }
    assert adopted(store) == made
    for each in adoptions(KINDS[KIND], snapshot):
        assert (each.owner["uid"], each.owner["controller"]) == (serving.uid, True)


def test_one_that_is_being_deleted_adopts_nothing(serving: Rehearsal) -> None:
    serving.job["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert adopted(restored(serving)) == []


@pytest.mark.parametrize(
    "change",
    [
        {"ownerReferences": [{"kind": KIND, "name": "recipes", "uid": "of-before", "controller": True}]},
        {"name": "recipes-notes"},
        {"name": "recipes-0a1b2c3d-backup"},
        {"name": "recipes-0badc0de"},
        {"labels": {"finetune.dev/job": "recipes", "finetune.dev/revision": "0a1b2c3d"}},
        {"labels": {"finetune.dev/job": "others", "app.kubernetes.io/managed-by": "finetune-operator"}},
        {"deletionTimestamp": "2026-01-01T00:00:00Z"},
    ],
    ids=[
        "of an earlier one",
        "a name of another kind",
        "a copy",
        "another revision's name",
        "not ours",
        "another's",
        "going",
    ],
)
def test_what_only_looks_alike_is_left_alone(cluster: Rehearsal, change: Raw) -> None:
    labels = {
        "app.kubernetes.io/managed-by": "finetune-operator",
        "finetune.dev/job": "recipes",
        "finetune.dev/revision": "0a1b2c3d",
    }
    plain = {"kind": "ConfigMap", "metadata": {"name": "recipes-0a1b2c3d", "uid": "it", "labels": labels}, "data": {}}
    assert adopted(restored(cluster, plain)) == [("ConfigMap", "recipes-0a1b2c3d")]
    other = plain | {"metadata": plain["metadata"] | change}
    assert adopted(restored(cluster, other)) == []


@pytest.mark.parametrize("part", ["", *JOBS, "base", "on", "on-chat", "checkpoint-40"])
def test_whatever_a_revision_has_can_be_adopted(part: str) -> None:
    made = "-".join(filter(None, ("recipes-0a1b2c3d", part)))
    named = KINDS[KIND].named
    assert named("recipes", made, "0a1b2c3d")
    assert not named("recipes", f"{made}-copy", "0a1b2c3d") or part.startswith("on")


def test_what_has_been_adopted_or_is_gone_is_no_orphan(serving: Rehearsal) -> None:
    store = restored(serving)
    name = f"recipes-{serving.revision}"
    record = serving.get("ConfigMap")
    owned = copy.deepcopy(record) | {
        "metadata": record["metadata"] | {"uid": f"restored-{name}", "resourceVersion": "1000000"}
    }
    store.put("ConfigMap", placed(owned))
    assert ("ConfigMap", name) not in adopted(store)
    store.drop("PersistentVolumeClaim", NamespacedName("kitchen", name), f"restored-{name}")
    assert ("PersistentVolumeClaim", name) not in adopted(store)


def test_an_engines_objects_are_adopted_by_name_too() -> None:
    store = Store()
    engine = {"metadata": {"name": "chat", "namespace": "kitchen", "uid": "new", "resourceVersion": "1"}, "spec": {}}
    store.put(ENGINE, engine)
    labels = {"app.kubernetes.io/managed-by": "finetune-operator", "finetune.dev/engine": "chat"}
    for name in ("chat", "chat-engine", "chat-notes"):
        raw = {"metadata": {"name": name, "uid": name, "labels": labels}, "data": {}}
        store.put("ConfigMap", placed(raw))
    assert adopted(store, Key(ENGINE, "kitchen", "chat")) == [("ConfigMap", "chat"), ("ConfigMap", "chat-engine")]
