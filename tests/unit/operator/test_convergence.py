"""Whatever users edit and the cluster does, in whatever order: the operator ends where a fresh one would.

Hypothesis plays a user, the controllers, the kubelet and a cluster's rules around one FineTuneJob, in the rehearsal. At
the end everything settles; then the objects are those that an operator which knows nothing but the last manifest would
make, what serves is kept up all along, and what belongs to somebody else is as it was. `FINETUNE_SEQUENCES` says how
many sequences (50 by default; `make faults` runs 500); a failing one is shrunk and printed.
"""

import copy
import os
from typing import Any

from finetune_operator import names
from finetune_operator.pods.metadata import controller_of
from finetune_trainer.contract.outcome import Outcome
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from rehearsal import CHECKPOINTS, ENGINES, PREPARED, TRAINED, Rehearsal, evaluated

SEQUENCES = int(os.environ.get("FINETUNE_SEQUENCES", "50"))
# Unless more are asked for, the lives are those of the run before: whoever changes nothing finds nothing new.
SAME = "FINETUNE_SEQUENCES" not in os.environ
SEEDS = st.integers(1, 3)
STAGES = ("prepare", "train", "evaluate")
ADAPTERS = st.sampled_from(("lora", "dora"))
MADE = TRAINED | {"checkpoints": CHECKPOINTS}
KEPT = names.checkpoint(CHECKPOINTS[1]["step"])
KINDS = st.sampled_from(("Job", "Deployment", "Service", "NetworkPolicy", "PersistentVolumeClaim", "ConfigMap"))
STRANGER = {
    "kind": "ConfigMap",
    "metadata": {
        "name": "somebodys",
        "uid": "theirs",
        "resourceVersion": "1",
        "labels": {names.JOB: "recipes", names.REVISION: "0badc0de"},
    },
    "data": {"run.json": "not even JSON"},
}


class Life(RuleBasedStateMachine):
    """One FineTuneJob, and all that can happen to it."""

    def __init__(self) -> None:
        super().__init__()
        self.cluster = Rehearsal()
        self.cluster.objects["ConfigMap", "somebodys"] = copy.deepcopy(STRANGER)
        self.up = True

    @initialize(stages=st.integers(0, 3), adapter=ADAPTERS, measured=st.booleans())
    def some_of_its_life_is_behind_it(self, stages: int, adapter: str, measured: bool) -> None:
        self.edit_the_adapter(adapter)
        self.edit_what_is_measured(measured, 50)
        self.cluster.reconcile()
        for stage, result in (("prepare", PREPARED), ("train", MADE))[:stages]:
            self.cluster.complete(stage, result)
            self.cluster.reconcile()
        if stages == 3:
            self.cluster.roll_out()
            self.cluster.reconcile()

    @property
    def objects(self) -> dict[tuple[str, str], dict[str, Any]]:
        return self.cluster.objects

    # What the user does.

    @rule(seed=SEEDS)
    def edit_what_is_trained(self, seed: int) -> None:
        self.cluster.edit(training=self.cluster.job["spec"]["training"] | {"seed": seed})

    @rule(context=st.sampled_from((512, 1024)), limit=st.integers(0, 2), rollout=st.sampled_from(("surge", "recreate")))
    def edit_hosting(self, context: int, limit: int, rollout: str) -> None:
        changed = {"contextLength": context, "revisionHistoryLimit": limit, "rollout": rollout}
        self.cluster.edit(hosting=self.cluster.job["spec"]["hosting"] | changed)

    @rule(enabled=st.booleans(), rows=st.sampled_from((50, 60)))
    def edit_what_is_measured(self, enabled: bool, rows: int) -> None:
        self.cluster.edit(evaluation={"enabled": enabled, "sampleSize": rows})

    @rule(adapter=ADAPTERS)
    def edit_the_adapter(self, adapter: str) -> None:
        self.cluster.edit(training=self.cluster.job["spec"]["training"] | {"adapter": {"type": adapter}})

    @rule(enabled=st.booleans())
    def switch_hosting(self, enabled: bool) -> None:
        self.cluster.edit(hosting=self.cluster.job["spec"]["hosting"] | {"enabled": enabled})

    @rule(suspend=st.booleans())
    def suspend(self, suspend: bool) -> None:
        self.cluster.edit(suspend=suspend)

    @rule(value=st.sampled_from(("1", "2")))
    def ask_for_another_try(self, value: str) -> None:
        self.cluster.annotate(names.RETRY, value)

    @rule(data=st.data())
    def promote_by_hand(self, data: st.DataObject) -> None:
        known = [entry["revision"] for entry in self.cluster.job.get("status", {}).get("history", [])]
        checkpoints = [names.address(revision, CHECKPOINTS[1]["step"]) for revision in known]
        self.cluster.annotate(names.PROMOTE, data.draw(st.sampled_from(["", "0badc0de", *known, *checkpoints])))

    @rule()
    def delete_and_apply_again(self) -> None:
        self.cluster.replace_job()

    @rule(kind=KINDS, data=st.data())
    def delete_by_hand(self, kind: str, data: st.DataObject) -> None:
        found = sorted(name for known, name in self.objects if known == kind and name != "somebodys")
        if found:
            self.cluster.delete(kind, data.draw(st.sampled_from(found)))

    @rule()
    def lose_the_status(self) -> None:
        self.cluster.job["status"] = {}

    # What the cluster does.

    @rule(stage=st.sampled_from(STAGES), how=st.sampled_from(("run", "complete", "fail", "lose its pod")))
    def a_stage_goes_on(self, stage: str, how: str) -> None:
        if not self._current("Job", f"-{stage}") or not self._current("ConfigMap"):
            return
        match how:
            case "run":
                self.cluster.running(stage)
            case "complete":
                self.cluster.complete(stage, result(self.cluster, stage))
            case "fail":
                self.cluster.fail(stage, Outcome.DIVERGED, "The loss became NaN.")
            case _:
                self.objects.pop(("Pod", f"recipes-{self.cluster.revision}-{stage}-x"), None)

    @rule(stage=st.sampled_from((*sorted(ENGINES), KEPT)), how=st.sampled_from(("start", "answer", "crash")))
    def an_engine_goes_on(self, stage: str, how: str) -> None:
        if not self._current(*self.cluster.owner(stage)):
            return
        match how:
            case "start":
                self.cluster.running(stage)
            case "answer":
                self.cluster.roll_out(stage)
            case _:
                self.cluster.container(stage, {"waiting": {"reason": "CrashLoopBackOff"}}, restartCount=3)

    @rule(stage=st.sampled_from(("train", *ENGINES)))
    def no_node_has_an_accelerator(self, stage: str) -> None:
        if self._current(*self.cluster.owner(stage)):
            self.cluster.unschedulable(stage, "0/1 nodes are available: 1 Insufficient nvidia.com/gpu.")

    @rule()
    def pods_end_and_garbage_goes(self) -> None:
        self.cluster.collect()

    @rule(verb=st.sampled_from(("create", "patch", "delete")), kind=KINDS)
    def a_rule_forbids(self, verb: str, kind: str) -> None:
        for known, name in list(self.objects):
            if known == kind:
                self.cluster.refuse[verb, kind, name] = "denied by policy"

    @rule()
    def rules_are_lifted(self) -> None:
        self.cluster.refuse.clear()

    @rule()
    def the_operator_is_down(self) -> None:
        self.up = False

    @rule()
    def the_operator_is_up(self) -> None:
        self.up = True

    @invariant()
    def nothing_of_somebody_else_is_touched(self) -> None:
        if self.up:
            self.cluster.reconcile()
        assert self.objects["ConfigMap", "somebodys"] == STRANGER

    def _current(self, kind: str, suffix: str = "") -> bool:
        revision = self.cluster.job.get("status", {}).get("revision")
        return bool(revision) and self.cluster.exists(kind, suffix, revision)

    def teardown(self) -> None:
        """Let everything settle, and compare with what a fresh operator makes of the last manifest."""
        self.cluster.refuse.clear()
        self.cluster.edit(suspend=False)
        self.cluster.annotate(names.PROMOTE, "")
        finish(self.cluster)
        if self.cluster.status["phase"] == "Failed":
            # What failed is tried again when a person asks for it, and only then.
            self.cluster.annotate(names.RETRY, "settled")
            finish(self.cluster)
        fresh = Rehearsal()
        fresh.job["spec"] = copy.deepcopy(self.cluster.job["spec"])
        finish(fresh)
        assert shape(self.cluster) == shape(fresh)
        assert self.cluster.condition("Ready")[:2] == fresh.condition("Ready")[:2]
        assert not self.cluster.exists("Deployment", "-base"), "nothing is asked any more"
        assert not self.cluster.exists("Deployment", f"-{KEPT}"), "nobody names it any more"
        orphans = [key for key, raw in self.objects.items() if controller_of(raw) == "gone"]
        assert orphans == []


def result(cluster: Rehearsal, stage: str) -> dict[str, Any]:
    """What a stage that ends well leaves."""
    return {"prepare": PREPARED, "train": MADE}.get(stage) or evaluated(cluster.evaluation().id)


def finish(cluster: Rehearsal) -> None:
    """Play a cluster in which everything goes well, until nothing changes."""
    for _ in range(12):
        cluster.collect()
        cluster.reconcile()
        for stage in STAGES:
            if cluster.exists("Job", f"-{stage}"):
                cluster.complete(stage, result(cluster, stage))
                cluster.reconcile()
        for stage, suffix in ENGINES.items():
            if cluster.exists("Deployment", suffix):
                for pod in [key for key in cluster.objects if key[0] == "Pod" and "-x" in key[1]]:
                    if controller_of(cluster.objects[pod]) == cluster.get("Deployment", suffix)["metadata"]["uid"]:
                        del cluster.objects[pod]
                cluster.roll_out(stage)
                cluster.reconcile()
    cluster.collect()
    cluster.reconcile()


def shape(cluster: Rehearsal) -> dict[tuple[str, str], Any]:
    """What serves, and with what: the objects of the current revision and the stable ones, without uids and times.

    Earlier revisions that are kept, and the Jobs that made what is there, are history.
    """
    found = {}
    for (kind, name), raw in cluster.objects.items():
        if kind in ("Deployment", "Service", "NetworkPolicy", "PersistentVolumeClaim") and _of_now(cluster, raw):
            found[kind, name] = raw["spec"]
    return found


def _of_now(cluster: Rehearsal, raw: dict[str, Any]) -> bool:
    revision = raw["metadata"]["labels"].get(names.REVISION)
    return controller_of(raw) == cluster.uid and (
        raw["kind"] in ("Deployment", "Service", "NetworkPolicy") or revision == cluster.revision
    )


TestLife = Life.TestCase
TestLife.settings = settings(
    max_examples=SEQUENCES,
    stateful_step_count=25,
    deadline=None,
    derandomize=SAME,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
