"""The store: what it keeps of an object is all that a decision reads, and it is never behind what it was told last."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from engines import Cluster as EngineCluster
from finetune_operator.api.engine import KIND as ENGINE
from finetune_operator.api.v1alpha1 import KIND
from finetune_operator.engine.observe import observe as observe_engine
from finetune_operator.finetunejob.observe import observe
from finetune_operator.finetunejob.queue import workload_state
from finetune_operator.shell.resources import Key, NamespacedName
from finetune_operator.shell.store import Store
from rehearsal import Rehearsal

KEY = Key(KIND, "kitchen", "recipes")


@pytest.fixture
def cluster() -> Rehearsal:
    """Everything that a FineTuneJob can own, with pods."""
    found = Rehearsal()
    found.train()
    found.running("host")
    found.roll_out()
    found.reconcile()
    return found


def objects(cluster: Rehearsal) -> Iterator[tuple[str, dict[str, Any]]]:
    """Everything, as a watch tells of it: with namespaces, and with what observe does not read."""
    for kind, raw in [(KIND, cluster.job), *((kind, raw) for (kind, _), raw in cluster.objects.items())]:
        told = json.loads(json.dumps(raw))
        told["metadata"] = {"namespace": "kitchen", "resourceVersion": "5"} | told["metadata"]
        told["metadata"]["labels"] = {"app": "x", **told["metadata"].get("labels", {})}
        yield kind, told


@pytest.fixture
def store(cluster: Rehearsal) -> Store:
    found = Store()
    for kind, raw in objects(cluster):
        found.put(kind, raw)
    return found


def test_a_decision_from_it_is_a_decision_from_the_objects(cluster: Rehearsal, store: Store) -> None:
    snapshot = store.snapshot(KEY)
    assert snapshot
    kept, whole = observe(snapshot), observe(cluster.snapshot())
    assert sorted(kept.pods, key=lambda pod: pod.name) == sorted(whole.pods, key=lambda pod: pod.name)
    for field in ("jobs", "deployments", "claims", "served_revision", "status", "spec", "mounted", "refusals"):
        assert getattr(kept, field) == getattr(whole, field), field
    assert {ref.uid for ref in kept.refs} == {ref.uid for ref in whole.refs}
    record, original = kept.record(cluster.revision), whole.record(cluster.revision)
    assert record.entries == original.entries


def test_what_kueue_says_of_a_job_is_kept_and_what_it_says_of_others_is_not(cluster: Rehearsal, store: Store) -> None:
    job = cluster.get("Job", "-train")
    owner = {"kind": "Job", "name": job["metadata"]["name"], "uid": job["metadata"]["uid"], "controller": True}

    def workload(name: str, labels: dict[str, str]) -> dict[str, Any]:
        metadata = {
            "name": name,
            "namespace": "kitchen",
            "uid": name,
            "resourceVersion": "9",
            "ownerReferences": [owner],
        }
        template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "train"}]}}
        pending = {"type": "QuotaReserved", "status": "False", "reason": "Pending", "message": "no quota"}
        check = {"name": "capacity", "state": "Pending", "message": "nodes are being made", "podSetUpdates": []}
        status = {"conditions": [pending, {"type": "PodsReady", "status": "False"}], "admissionChecks": [check]}
        spec = {"queueName": "team-a", "active": True, "podSets": [{"name": "main", "template": template}]}
        return {"metadata": metadata, "spec": spec, "status": status}

    ours = workload("ours", job["spec"]["template"]["metadata"]["labels"])
    assert store.put("Workload", ours)
    assert store.owner_of("Workload", ours) == KEY
    assert not store.put("Workload", workload("others", {"app": "x"}))
    snapshot = store.snapshot(KEY)
    assert snapshot
    assert observe(snapshot).workloads == {job["metadata"]["name"]: workload_state(ours)}


def test_only_what_a_decision_reads_is_news(cluster: Rehearsal, store: Store) -> None:
    for kind, raw in objects(cluster):
        raw["metadata"]["resourceVersion"] = "100"
        raw["metadata"]["annotations"] = {**raw["metadata"].get("annotations", {}), "example.com/seen": "yes"}
        assert not store.put(kind, raw), kind


def load(name: str = "recipes-0a1b2c3d-on-chat", engine: str = "chat", uid: str = "") -> dict[str, Any]:
    """What a FineTuneJob makes for an Engine to load."""
    owner = {"kind": KIND, "name": "recipes", "uid": uid or Rehearsal().job["metadata"]["uid"], "controller": True}
    labels = {"finetune.dev/job": "recipes", "finetune.dev/loaded-on": engine}
    identity = {"name": name, "namespace": "kitchen", "uid": name, "resourceVersion": "9"}
    return {"metadata": identity | {"labels": labels, "ownerReferences": [owner]}, "data": {"adapter.json": "{}"}}


def of_engine(name: str = "chat") -> dict[str, Any]:
    identity = {"name": name, "namespace": "kitchen", "uid": name, "resourceVersion": "9"}
    return {"metadata": identity, "spec": {"model": {"source": "hf://org/model"}}}


def test_what_a_finetunejob_wants_loaded_is_its_engines_news(cluster: Rehearsal) -> None:
    woken: list[Key] = []
    store, chat, other = Store(woken.append), Key(ENGINE, "kitchen", "chat"), Key(ENGINE, "kitchen", "other")
    for kind, raw in objects(cluster):
        store.put(kind, raw)
    for name in ("chat", "other"):
        store.put(ENGINE, of_engine(name))
    assert woken == []
    store.put("ConfigMap", load())
    assert woken == [chat]
    snapshot = store.snapshot(chat)
    assert snapshot
    assert [raw["data"] for raw in snapshot.loads["ConfigMap"]] == [{"adapter.json": "{}"}]
    # Moved to another one it is both's.
    moved = load(engine="other")
    moved["metadata"]["resourceVersion"] = "10"
    store.put("ConfigMap", moved)
    assert woken == [chat, chat, other]
    assert store.snapshot(chat).loads == {}
    assert len(store.snapshot(other).loads["ConfigMap"]) == 1
    store.drop("ConfigMap", NamespacedName("kitchen", moved["metadata"]["name"]), moved["metadata"]["uid"])
    assert woken == [chat, chat, other, other]
    assert store.snapshot(other).loads == {}


def test_an_engines_news_are_those_of_whom_it_is_to_serve() -> None:
    woken: list[Key] = []
    store, lodger = Store(woken.append), Key(KIND, "kitchen", "recipes")
    for name, spec in (("recipes", {"hosting": {"engine": {"name": "chat"}}}), ("support", {})):
        identity = {"name": name, "namespace": "kitchen", "uid": name, "resourceVersion": "9"}
        store.put(KIND, {"metadata": identity, "spec": spec})
    store.put(ENGINE, of_engine("other"))
    assert woken == []
    store.put(ENGINE, of_engine())
    assert woken == [lodger]
    snapshot = store.snapshot(lodger)
    assert snapshot
    assert {found: raw["metadata"]["uid"] for found, raw in snapshot.followed.items()} == {(ENGINE, "chat"): "chat"}
    told = of_engine() | {"status": {"replicas": 1}}
    told["metadata"]["resourceVersion"] = "10"
    store.put(ENGINE, told)
    store.drop(ENGINE, NamespacedName("kitchen", "chat"), "chat")
    assert woken == [lodger] * 3
    assert store.snapshot(lodger).followed == {}


def test_what_no_finetunejob_controls_is_nobodys_to_load(cluster: Rehearsal, store: Store) -> None:
    """Labels are anybody's."""
    store.put(ENGINE, of_engine())
    orphan = load("a")
    del orphan["metadata"]["ownerReferences"]
    for raw in (orphan, load("b", uid="another"), load("c")):
        store.put("ConfigMap", raw)
    found = store.snapshot(Key(ENGINE, "kitchen", "chat"))
    assert [raw["metadata"]["name"] for raw in found.loads["ConfigMap"]] == ["c"]


def test_a_change_is_news_once(cluster: Rehearsal, store: Store) -> None:
    changed = next(raw for kind, raw in objects(cluster) if kind == "Pod")
    changed["metadata"]["resourceVersion"] = "100"
    changed["status"]["phase"] = "Failed"
    assert store.put("Pod", changed)
    assert not store.put("Pod", changed)


def test_news_of_any_of_them_is_news_for_the_finetunejob(cluster: Rehearsal, store: Store) -> None:
    """Whoever sees an object first, the list at the start or a watch, has to tell: to the other it is no news."""
    told = {kind: store.owner_of(kind, raw) for kind, raw in objects(cluster)}
    assert set(told.values()) == {KEY}


def test_what_is_older_than_what_it_has_is_ignored(cluster: Rehearsal, store: Store) -> None:
    old = next(raw for kind, raw in objects(cluster) if kind == "Deployment")
    new = json.loads(json.dumps(old))
    new["metadata"]["resourceVersion"], new["spec"]["replicas"] = "100", 3
    assert store.put("Deployment", new)
    assert not store.put("Deployment", old)
    assert observe(store.snapshot(KEY)).deployments[old["metadata"]["name"]].replicas == 3


def test_an_answer_that_comes_after_the_object_is_gone_does_not_bring_it_back(cluster: Rehearsal, store: Store) -> None:
    raw = next(raw for kind, raw in objects(cluster) if kind == "Job")
    key, uid = NamespacedName("kitchen", raw["metadata"]["name"]), raw["metadata"]["uid"]
    assert store.drop("Job", key, uid)
    assert not store.put("Job", raw | {"metadata": raw["metadata"] | {"resourceVersion": "100"}})
    assert raw["metadata"]["name"] not in observe(store.snapshot(KEY)).jobs


def test_an_object_that_took_the_name_of_another_is_not_dropped_with_it(cluster: Rehearsal, store: Store) -> None:
    raw = next(raw for kind, raw in objects(cluster) if kind == "Job")
    again = raw | {"metadata": raw["metadata"] | {"uid": "another", "resourceVersion": "100"}}
    key = NamespacedName("kitchen", raw["metadata"]["name"])
    store.put("Job", again)
    assert not store.drop("Job", key, raw["metadata"]["uid"])
    assert observe(store.snapshot(KEY)).jobs[key.name].ref.uid == "another"


def test_a_list_finds_what_a_watch_has_missed(cluster: Rehearsal, store: Store) -> None:
    pods = [raw for kind, raw in objects(cluster) if kind == "Pod"]
    seen = [NamespacedName("kitchen", raw["metadata"]["name"]) for raw in pods[1:]]
    gone = store.drop_unseen("Pod", None, seen, version=50)
    assert [raw["metadata"]["uid"] for raw in gone] == [pods[0]["metadata"]["uid"]]
    assert store.drop_unseen("Pod", "elsewhere", [], version=50) == [], "another namespace's list says nothing of it"
    assert store.drop_unseen("Pod", None, [], version=2) == [], "made after the list was"


def test_what_another_controls_is_nothing_of_ours(cluster: Rehearsal, store: Store) -> None:
    metadata = {
        "name": "theirs",
        "namespace": "kitchen",
        "uid": "x",
        "resourceVersion": "7",
        "labels": {"finetune.dev/job": "recipes", "finetune.dev/revision": "0badc0de"},
        "ownerReferences": [{"uid": "somebody", "controller": True}],
    }
    store.put("ConfigMap", {"metadata": metadata, "data": {"run.json": "{}"}})
    assert "0badc0de" not in observe(store.snapshot(KEY)).records


def test_it_forgets_what_is_gone(cluster: Rehearsal, store: Store) -> None:
    for kind, raw in objects(cluster):
        store.drop(kind, NamespacedName("kitchen", raw["metadata"]["name"]), raw["metadata"]["uid"])
    assert not any(store._objects.values())
    assert store.snapshot(KEY) is None
    assert not store._controlled
    assert not store._pods


def test_of_an_engine_all_is_kept_that_is_read_of_it() -> None:
    cluster = EngineCluster(lora={})
    cluster.reconcile()
    ended = {"exitCode": 77, "message": '{"reason": "AccessDenied", "message": "no."}'}
    cluster.pod(fetch={"waiting": {"reason": "CrashLoopBackOff"}}, phase="Pending")
    waiting = {"waiting": {"reason": "ImagePullBackOff", "message": "not found"}}
    states = [{"name": "engine", "state": {"running": {}}}, {"name": "adapters", "state": waiting}]
    cluster.pod("chat-2", {"terminated": {"exitCode": 0}}, phase="Running", podIP="10.0.0.2", containerStatuses=states)
    # That it has recovered is told by no more than this.
    recovered = {"name": "adapters", "restartCount": 3, "ready": True, "state": {"running": {}}}
    states = [{"name": "engine", "state": {"running": {}}}, recovered]
    cluster.pod("chat-3", {"terminated": {"exitCode": 0}}, phase="Running", podIP="10.0.0.3", containerStatuses=states)
    pod, other, third = cluster.pods
    pod["status"]["initContainerStatuses"][0]["lastState"] = {"terminated": ended}
    for each in cluster.pods:
        each["metadata"]["ownerReferences"] = [{"uid": cluster.deployment["metadata"]["uid"], "controller": True}]
        each["metadata"]["annotations"] = {"finetune.dev/adapters": "{}"}
    store, key = Store(), Key(ENGINE, "team", "chat")
    made = [(kind, raw) for (kind, _), raw in cluster.objects.items()]
    found = [(ENGINE, cluster.engine), *made, ("Pod", pod), ("Pod", other), ("Pod", third)]
    for kind, raw in found:
        told = raw | {"metadata": {"namespace": "team", "resourceVersion": "5"} | raw["metadata"]}
        store.put(kind, told)
        assert store.owner_of(kind, told) == key
    snapshot = store.snapshot(key)
    assert snapshot
    kept, whole = observe_engine(snapshot), observe_engine(cluster.snapshot())
    for field in ("pods", "loaders", "deployment", "record", "spec", "status"):
        assert getattr(kept, field) == getattr(whole, field), field
    assert kept.pods[0].fetching
    assert (kept.pods[1].waiting_reason, kept.loaders[1].wanted) == ("ImagePullBackOff", "{}")
    assert (kept.pods[2].container, kept.pods[2].restarts) == ("engine", 0)


def test_who_publishes_to_the_same_place_is_told_of_the_other() -> None:
    store = Store()
    place = {"output": {"destination": "s3://artifacts/recipes"}}
    for name, namespace, spec in (
        ("recipes", "kitchen", place),
        ("support", "kitchen", {"output": {"destination": "s3://artifacts/recipes/"}}),
        ("labels", "kitchen", {"output": {"destination": "s3://artifacts/labels"}}),
        ("bakery", "kitchen", {}),
        ("recipes", "bakery", place),
    ):
        identity = {"name": name, "namespace": namespace, "uid": f"{namespace}-{name}", "resourceVersion": "9"}
        store.put(KIND, {"metadata": identity, "spec": spec})

    def rivals() -> list[str]:
        snapshot = store.snapshot(Key(KIND, "kitchen", "recipes"))
        assert snapshot
        return [raw["metadata"]["name"] for raw in snapshot.rivals]

    assert rivals() == ["support"]
    store.drop(KIND, NamespacedName("kitchen", "support"), "kitchen-support")
    assert rivals() == []
