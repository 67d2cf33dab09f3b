"""Wherever a FineTuneJob is moved, and whatever its Engines do meanwhile: what serves is kept up, and all ends well.

As `test_convergence`, for engines of its own and two that it may share: moves, trainings and troubles in any order, and
at the end the objects that an operator would make which knows nothing but the last manifest.
"""

import copy
from typing import Any

from finetune_operator import names
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from rehearsal import PREPARED, TEST, TRAINED, evaluated
from shared_engines import SPEC, Lodger, published
from test_convergence import SAME, SEQUENCES

CHAT, OTHER = ENGINES = ("chat", "other")
ON = st.sampled_from(ENGINES)
OWN = {"resources": {"limits": {"nvidia.com/gpu": 1}}}
STAGES = ("prepare", "train", "publish", "evaluate")


class Life(RuleBasedStateMachine):
    """One FineTuneJob, and where it is."""

    def __init__(self) -> None:
        super().__init__()
        self.cluster = Lodger()
        self.cluster.engine(OTHER)

    @initialize(on=ON)
    def it_serves(self, on: str) -> None:
        self.move(on)
        finish(self.cluster)

    # What the user does.

    @rule(on=st.sampled_from((*ENGINES, "")))
    def move(self, on: str) -> None:
        self.cluster.edit(hosting={"engine": {"name": on}} if on else OWN)

    @rule(seed=st.integers(1, 3))
    def edit_what_is_trained(self, seed: int) -> None:
        self.cluster.edit(training=self.cluster.job["spec"]["training"] | {"seed": seed})

    @rule(minimum=st.sampled_from((0.5, 0.9)), measured=st.booleans())
    def edit_the_gate(self, minimum: float, measured: bool) -> None:
        gate = {"gate": {"minimum": minimum}} if measured else {}
        self.cluster.edit(dataset=TEST, evaluation={"enabled": measured, **gate})

    @rule(suspend=st.booleans())
    def suspend(self, suspend: bool) -> None:
        self.cluster.edit(suspend=suspend)

    @rule(data=st.data())
    def promote_by_hand(self, data: st.DataObject) -> None:
        known = [entry["revision"] for entry in self.cluster.job.get("status", {}).get("history", [])]
        self.cluster.annotate(names.PROMOTE, data.draw(st.sampled_from(["", *known])))

    @rule()
    def lose_the_status(self) -> None:
        self.cluster.job["status"] = {}

    @rule(name=ON, replicas=st.integers(0, 1))
    def scale(self, name: str, replicas: int) -> None:
        if found := self.cluster.engines.get(name):
            found["spec"] = SPEC | {"replicas": replicas}
            found["status"] |= {"replicas": replicas, "adapters": []}

    @rule(name=ON)
    def delete_an_engine(self, name: str) -> None:
        self.cluster.engines.pop(name, None)

    @rule(name=ON)
    def make_an_engine(self, name: str) -> None:
        self.cluster.engine(name)

    # What the cluster does.

    @rule(name=ON, failed=st.sampled_from(("", "", "the digest is another one")))
    def an_engine_does_what_it_is_asked_to(self, name: str, failed: str) -> None:
        if name in self.cluster.engines and self.cluster.engines[name]["spec"].get("replicas", 1):
            self.cluster.load(name, failed=failed)

    @rule(stage=st.sampled_from(STAGES), tuned=st.sampled_from((0.67, 0.4)))
    def a_stage_ends(self, stage: str, tuned: float) -> None:
        end(self.cluster, stage, tuned)

    @rule()
    def an_engine_of_its_own_answers(self) -> None:
        roll_out(self.cluster)

    @rule()
    def pods_end_and_garbage_goes(self) -> None:
        self.cluster.collect()

    @invariant()
    def what_the_name_leads_to_is_there(self) -> None:
        self.cluster.reconcile()
        found = self.cluster.objects.get(("Service", "recipes"))
        if found is None:
            return
        selector, on = found["spec"]["selector"], found["metadata"]["labels"].get(names.LOADED_ON)
        if not on:
            assert ("Deployment", f"recipes-{selector[names.REVISION]}") in self.cluster.objects
            return
        assert selector == {names.ENGINE_OF: on}
        # What takes the name there now, and what shall.
        told = self.cluster.engines.get(on, {}).get("status", {}).get("adapters", [])
        taken = {each["name"] for each in told if "recipes" in each["answersAs"]}
        wanted = f"recipes-{found['metadata']['labels'][names.REVISION]}"
        assert {f"{name.removeprefix('recipes-')}-on-{on}" for name in taken or {wanted}} <= self.cluster.asked()

    def teardown(self) -> None:
        for name in ENGINES:
            self.cluster.engine(name)
        self.cluster.edit(suspend=False, evaluation={"enabled": False})
        self.cluster.annotate(names.PROMOTE, "")
        finish(self.cluster)
        fresh = Lodger()
        fresh.engine(OTHER)
        fresh.job["spec"] = copy.deepcopy(self.cluster.job["spec"])
        finish(fresh)
        assert self.cluster.condition("Ready")[:2] == ("True", "Serving")
        assert shape(self.cluster) == shape(fresh)


def end(cluster: Lodger, stage: str, tuned: float = 0.67) -> None:
    """A stage's Job ends well, where there is one."""
    revision = cluster.job.get("status", {}).get("revision")
    if (
        not revision
        or not cluster.exists("Job", f"-{stage}", revision)
        or not cluster.exists("ConfigMap", "", revision)
    ):
        return
    results = {"prepare": PREPARED, "train": TRAINED, "publish": published(f"recipes-{revision}")}
    cluster.complete(stage, results.get(stage) or evaluated(cluster.evaluation().id, tuned=tuned))


def roll_out(cluster: Lodger) -> None:
    """Every engine of its own answers."""
    counts = ("replicas", "updatedReplicas", "availableReplicas")
    for (kind, _), raw in cluster.objects.items():
        if kind == "Deployment" and raw["spec"]["replicas"]:
            raw["status"] = {"observedGeneration": 1, **dict.fromkeys(counts, raw["spec"]["replicas"])}


def finish(cluster: Lodger) -> None:
    """Play a cluster in which everything goes well, until nothing changes."""
    for _ in range(6):
        cluster.collect()
        cluster.reconcile()
        for stage in STAGES:
            end(cluster, stage)
            cluster.reconcile()
        roll_out(cluster)
        for name in ENGINES:
            cluster.load(name)
        cluster.reconcile()
    cluster.collect()
    cluster.reconcile()


def shape(cluster: Lodger) -> dict[tuple[str, str], Any]:
    """What serves, and with what, without uids and times."""
    found: dict[tuple[str, str], Any] = {}
    for (kind, name), raw in cluster.objects.items():
        labels = {key: value for key, value in raw["metadata"]["labels"].items() if key.startswith("finetune.dev/")}
        if kind in ("Deployment", "Service"):
            found[kind, name] = raw["spec"], labels
        elif names.LOADED_ON in labels:
            found[kind, name] = raw["data"], labels
    return found


TestLifeElsewhere = Life.TestCase
TestLifeElsewhere.settings = settings(
    max_examples=max(1, SEQUENCES // 5),
    stateful_step_count=20,
    deadline=None,
    derandomize=SAME,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
