"""What GitOps tools make of a FineTuneJob through its life: Argo CD by the script of docs/, Flux and kpt by kstatus."""

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from finetune_operator.api.crd import UNSEEN
from finetune_trainer.contract.outcome import Outcome
from lupa.lua51 import LuaRuntime
from paths import ROOT
from rehearsal import PREPARED, TEST, TRAINED, Rehearsal

HEALTH = (ROOT / "docs" / "argocd" / "health.lua").read_text()
# What Argo CD doesn't open for a script.
CLOSED = ("string", "math", "io", "debug", "coroutine")


def argo_cd(obj: dict[str, Any]) -> tuple[str, str]:
    """Health and message; Argo CD runs Lua 5.1 with few libraries."""
    lua = LuaRuntime(register_eval=False, register_builtins=False)
    for name in CLOSED:
        lua.globals()[name] = None
    lua.globals().obj = lua.table_from(json.loads(json.dumps(obj)), recursive=True)
    found = lua.execute(HEALTH)
    return found.status, found.message


def kstatus(obj: dict[str, Any]) -> str:
    """The rules of sigs.k8s.io/cli-utils (v0.37) that apply to a kind that it doesn't know, in their order."""
    status = obj.get("status", {})
    if "observedGeneration" in status and status["observedGeneration"] != obj["metadata"]["generation"]:
        return "InProgress"
    conditions = {each["type"]: each["status"] for each in status.get("conditions", [])}
    for kind, means in (("Reconciling", "InProgress"), ("Stalled", "Failed")):
        if conditions.get(kind) == "True":
            return means
    return "Current" if conditions.get("Ready", "True") == "True" else "InProgress"


def blocked(cluster: Rehearsal) -> None:
    cluster.reconcile()
    scheduled = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes: no gpu"}
    cluster.pod("prepare", {"phase": "Pending", "conditions": [scheduled]})
    cluster.reconcile()


def failed(cluster: Rehearsal) -> None:
    cluster.reconcile()
    cluster.fail("prepare", Outcome.DATA_INVALID, "train.jsonl:3: no answer.")
    cluster.reconcile()


def edited(cluster: Rehearsal) -> None:
    cluster.serve()
    cluster.edit(training=cluster.job["spec"]["training"] | {"seed": 7})


def training_again(cluster: Rehearsal) -> None:
    edited(cluster)
    cluster.reconcile()


def failed_again(cluster: Rehearsal) -> None:
    edited(cluster)
    failed(cluster)


def mended(cluster: Rehearsal) -> None:
    failed_again(cluster)
    cluster.edit(training=cluster.job["spec"]["training"] | {"seed": 8})
    cluster.reconcile()


def suspended(cluster: Rehearsal) -> None:
    cluster.reconcile()
    cluster.running("prepare")
    cluster.edit(suspend=True)
    cluster.reconcile()


def refuse(cluster: Rehearsal) -> None:
    cluster.reconcile()
    cluster.refuse["create", "Job", f"recipes-{cluster.revision}-train"] = "exceeded quota: none"
    cluster.complete("prepare", PREPARED)
    cluster.reconcile()


def missing(cluster: Rehearsal) -> None:
    cluster.edit(model={"source": "pvc://models/base"})
    cluster.absent.add(("PersistentVolumeClaim", "models"))
    cluster.reconcile()


def artifact_alone(cluster: Rehearsal) -> None:
    cluster.edit(hosting={"enabled": False})
    cluster.train()


def measured(cluster: Rehearsal, **scores: float) -> None:
    cluster.edit(dataset=TEST, evaluation={"metrics": ["exact_match"], "gate": {"metric": "exact_match"}})
    cluster.train()
    cluster.measure(**scores)


LIFE: dict[str, tuple[Callable[[Rehearsal], object], str, str]] = {
    "prepare starts": (lambda cluster: cluster.reconcile(), "Progressing", "InProgress"),
    "a candidate starts": (lambda cluster: cluster.train(), "Progressing", "InProgress"),
    "it serves": (lambda cluster: cluster.serve(), "Healthy", "Current"),
    "it has its artifact and is not to serve": (artifact_alone, "Healthy", "Current"),
    "an edit was not seen yet": (edited, "Progressing", "InProgress"),
    "a new revision is trained while the old one serves": (training_again, "Progressing", "InProgress"),
    "the new revision failed while the old one serves": (failed_again, "Degraded", "Failed"),
    "the manifest was mended": (mended, "Progressing", "InProgress"),
    "the data is wrong": (failed, "Degraded", "Failed"),
    "no node has room": (blocked, "Degraded", "Failed"),
    "an object that it names is missing": (missing, "Degraded", "Failed"),
    "the API server refuses an object": (refuse, "Degraded", "Failed"),
    "it meets the gate": (measured, "Healthy", "Current"),
    "it misses the gate": (lambda cluster: measured(cluster, tuned=0.3), "Degraded", "Failed"),
    "it is suspended": (suspended, "Suspended", "InProgress"),
}


@pytest.mark.parametrize(("live", "argo", "kpt"), LIFE.values(), ids=LIFE)
def test_each_turn_of_its_life_has_its_health(live: Callable[[Rehearsal], object], argo: str, kpt: str) -> None:
    cluster = Rehearsal()
    live(cluster)
    health, message = argo_cd(cluster.job)
    assert (health, kstatus(cluster.job)) == (argo, kpt)
    if cluster.status["observedGeneration"] == cluster.job["metadata"]["generation"]:
        assert message == cluster.condition("Ready")[2]


def test_one_that_the_operator_has_not_seen_is_progressing() -> None:
    new = Rehearsal().job | {"status": UNSEEN}
    assert (argo_cd(new)[0], kstatus(new)) == ("Progressing", "InProgress")
    assert argo_cd(Rehearsal().job)[0] == "Progressing"


def kinds(cluster: Rehearsal) -> list[str]:
    return [each["type"] for each in cluster.status["conditions"] if each["type"] in ("Reconciling", "Stalled")]


def test_it_is_reconciling_or_stalled_and_says_why_only_while_it_is() -> None:
    cluster = Rehearsal()
    cluster.reconcile()
    assert kinds(cluster) == ["Reconciling"]
    assert cluster.condition("Reconciling") == ("True", *cluster.condition("Ready")[1:])
    failed(cluster)
    assert kinds(cluster) == ["Stalled"]
    assert cluster.condition("Stalled") == ("True", *cluster.condition("Ready")[1:])
    cluster.edit(dataset={"train": {"source": "s3://data/better.jsonl"}})
    cluster.serve()
    assert kinds(cluster) == []


def test_what_a_person_has_suspended_is_neither() -> None:
    cluster = Rehearsal()
    suspended(cluster)
    assert kinds(cluster) == []


def test_it_is_reconciling_since_the_work_began_whatever_stage_it_has_come_to() -> None:
    cluster = Rehearsal()
    cluster.reconcile()
    since = transition(cluster)
    cluster.complete("prepare", PREPARED)
    cluster.reconcile()
    cluster.complete("train", TRAINED)
    cluster.reconcile()
    assert cluster.condition("Reconciling")[2].startswith("Hosted")
    assert transition(cluster) == since


def transition(cluster: Rehearsal) -> datetime:
    (found,) = (each for each in cluster.status["conditions"] if each["type"] == "Reconciling")
    return datetime.fromisoformat(found["lastTransitionTime"])


def test_no_event_repeats_them() -> None:
    planned = Rehearsal().look()
    (ready,) = (each.message for each in planned.status.conditions if each.type == "Ready")
    told = [event.message for event in planned.events]
    assert told
    assert ready not in told
