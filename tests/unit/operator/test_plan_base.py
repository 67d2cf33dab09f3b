"""A candidate whose engine can't answer as the base model is compared with it all the same: that has an engine of its
own, from when the candidate answers until there is a verdict, and no longer.
"""

import copy
from dataclasses import replace
from typing import Any

import pytest
from finetune_operator import names
from finetune_trainer.contract.outcome import Outcome
from rehearsal import MANIFEST, PREPARED, TEST, TRAINED, Rehearsal

LACKING = "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."
CRASHED = {"waiting": {"reason": "CrashLoopBackOff"}}


def job(adapter: str = "dora", **spec: Any) -> Rehearsal:
    training = MANIFEST["training"] | {"adapter": {"type": adapter}}
    return Rehearsal(**({"dataset": TEST, "evaluation": {}, "training": training} | spec))


def compared(cluster: Rehearsal) -> Rehearsal:
    """The candidate answers."""
    cluster.train()
    cluster.roll_out()
    cluster.reconcile()
    return cluster


def under_way(cluster: Rehearsal) -> Rehearsal:
    """Both answer, and are asked."""
    compared(cluster)
    cluster.roll_out("base")
    cluster.reconcile()
    cluster.running("evaluate")
    cluster.reconcile()
    return cluster


def has_base(cluster: Rehearsal, revision: str | None = None) -> bool:
    """Whether the base model's engine is there, or anything of it."""
    found = {kind: cluster.exists(kind, "-base", revision) for kind in ("Deployment", "Service")}
    assert len(set(found.values())) == 1, found
    return found["Deployment"]


class TestWhileItIsMeasured:
    @pytest.mark.parametrize("adapter", ["dora", "none"])
    def test_the_base_model_is_started_once_the_candidate_answers(self, adapter: str) -> None:
        cluster = job(adapter)
        cluster.train()
        assert not has_base(cluster), "a candidate that may never start needs nothing to be compared with"
        cluster.roll_out()
        cluster.reconcile()
        assert has_base(cluster)
        assert not cluster.exists("Job", "-evaluate"), "only one of them answers"
        status, reason, message = cluster.condition("Evaluated")
        assert (status, reason) == ("Unknown", "Running")
        name = f"recipes-{cluster.revision}-base"
        assert message == f"The base model, to compare with: Deployment {name} is starting: the engine loads the model."
        assert cluster.status["phase"] == "Evaluating"

    def test_both_are_asked_once_both_answer(self) -> None:
        cluster = under_way(job())
        container = cluster.get("Job", "-evaluate")["spec"]["template"]["spec"]["containers"][0]
        url = f"http://recipes-{cluster.revision}"
        endpoints = ["--endpoint", f"{url}.kitchen.svc/v1", "--base-endpoint", f"{url}-base.kitchen.svc/v1"]
        assert container["args"][-4:] == endpoints
        assert cluster.evaluation().base_alone
        assert cluster.condition("Evaluated")[:2] == ("Unknown", "Running")

    def test_as_many_answer_as_of_the_candidate(self) -> None:
        hosting = {"replicas": 2, "resources": {"limits": {"nvidia.com/gpu": 1}}}
        cluster = compared(job(hosting=hosting, workspace={"accessModes": ["ReadWriteMany"]}))
        assert cluster.get("Deployment", "-base")["spec"]["replicas"] == 2

    @pytest.mark.parametrize(
        "spec",
        [{"adapter": "lora"}, {"evaluation": {"baselines": [], "gate": {"minimum": 0.5}}}],
        ids=["an adapter answers beside its base model", "nothing to compare with"],
    )
    def test_who_needs_none_has_none(self, spec: dict[str, Any]) -> None:
        cluster = compared(job(**spec))
        assert not has_base(cluster)
        assert cluster.exists("Job", "-evaluate")

    def test_what_serves_is_measured_anew_beside_it(self) -> None:
        cluster = job()
        cluster.train()
        cluster.measure()
        assert not has_base(cluster)
        cluster.edit(evaluation={"sampleSize": 50})
        cluster.reconcile()
        assert has_base(cluster)
        assert cluster.status["servedRevision"] == cluster.revision
        labels = dict(pair.split("=") for pair in cluster.status["selector"].split(","))
        pods = cluster.get("Deployment", "-base")["spec"]["template"]["metadata"]["labels"]
        assert labels.items() <= cluster.get("Deployment")["spec"]["template"]["metadata"]["labels"].items()
        assert not labels.items() <= pods.items(), "an autoscaler counts those that serve"
        cluster.measure()
        assert not has_base(cluster)

    def test_at_rest_nothing_changes(self) -> None:
        cluster = under_way(job())
        before = copy.deepcopy((cluster.job, cluster.objects))
        cluster.reconcile()
        assert (cluster.job, cluster.objects) == before

    def test_deleted_by_hand_it_comes_back_and_the_job_goes_on(self) -> None:
        cluster = under_way(job())
        uid = cluster.get("Job", "-evaluate")["metadata"]["uid"]
        for kind in ("Deployment", "Service"):
            cluster.delete(kind, f"recipes-{cluster.revision}-base")
        cluster.reconcile()
        assert has_base(cluster)
        assert cluster.get("Job", "-evaluate")["metadata"]["uid"] == uid
        assert "recipes-" in cluster.condition("Evaluated")[2]

    def test_a_candidate_that_starts_again_finds_it_there(self) -> None:
        cluster = under_way(job())
        cluster.get("Deployment")["status"]["availableReplicas"] = 0
        cluster.reconcile()
        assert cluster.condition("Hosted")[0] == "Unknown"
        assert has_base(cluster)

    def test_a_candidate_that_finds_no_room_gets_its_room(self) -> None:
        cluster = under_way(job())
        cluster.get("Deployment")["status"]["availableReplicas"] = 0
        cluster.unschedulable("host", LACKING)
        cluster.reconcile()
        assert not has_base(cluster)


class TestItIsReleased:
    def test_with_the_verdict(self) -> None:
        cluster = under_way(job(evaluation={"gate": {"minimum": 0.5, "margin": 0.01}}))
        cluster.measure()
        assert not has_base(cluster)
        assert cluster.condition("Evaluated")[:2] == ("True", "Succeeded")
        assert "retrieval" in cluster.condition("Evaluated")[2]
        assert cluster.condition("Ready")[0] == "True"

    def test_with_a_missed_margin(self) -> None:
        cluster = under_way(job(evaluation={"gate": {"margin": 0.05}}))
        cluster.measure()
        assert cluster.condition("Evaluated")[:2] == ("False", "GateNotMet")
        assert not has_base(cluster)
        assert not cluster.exists("Deployment")

    def test_when_it_can_not_be_measured(self) -> None:
        cluster = under_way(job())
        cluster.fail("evaluate", Outcome.UNAVAILABLE, "The base model does not answer.")
        cluster.reconcile()
        assert cluster.condition("Evaluated")[:2] == ("False", "SourceUnavailable")
        assert not has_base(cluster)
        cluster.annotate(names.RETRY, "again")
        cluster.reconcile()
        cluster.measure()
        assert cluster.condition("Ready")[0] == "True"
        assert not has_base(cluster)

    def test_while_it_is_suspended_and_it_comes_back_before_anything_is_asked(self) -> None:
        cluster = under_way(job())
        cluster.edit(suspend=True)
        cluster.reconcile()
        assert not has_base(cluster)
        assert not cluster.exists("Job", "-evaluate")
        cluster.collect()
        cluster.edit(suspend=False)
        cluster.reconcile()
        cluster.roll_out()
        cluster.reconcile()
        assert has_base(cluster)
        assert not cluster.exists("Job", "-evaluate")
        cluster.roll_out("base")
        cluster.reconcile()
        assert cluster.exists("Job", "-evaluate")

    def test_suspended_while_what_serves_is_measured_anew(self) -> None:
        cluster = job()
        cluster.train()
        cluster.measure()
        cluster.edit(evaluation={"sampleSize": 50}, suspend=True)
        cluster.reconcile()
        assert not has_base(cluster)
        assert cluster.exists("Deployment")

    def test_when_another_revision_is_wanted(self) -> None:
        cluster = under_way(job())
        old = cluster.revision
        cluster.edit(training=cluster.job["spec"]["training"] | {"seed": 7})
        cluster.reconcile()
        assert cluster.revision != old
        assert not has_base(cluster, old)

    def test_when_nothing_is_to_be_measured_any_more(self) -> None:
        cluster = under_way(job())
        cluster.edit(evaluation={"enabled": False})
        cluster.reconcile()
        assert not has_base(cluster)
        assert cluster.condition("Ready")[0] == "True"

    def test_when_it_is_to_be_compared_with_nothing(self) -> None:
        cluster = under_way(job())
        cluster.edit(evaluation={"baselines": []})
        cluster.reconcile()
        cluster.end_pods()
        cluster.reconcile()
        assert not has_base(cluster)
        args = cluster.get("Job", "-evaluate")["spec"]["template"]["spec"]["containers"][0]["args"]
        assert "--base-endpoint" not in args

    def test_with_its_finetunejob(self) -> None:
        cluster = under_way(job())
        for kind in ("Deployment", "Service"):
            (owner,) = cluster.get(kind, "-base")["metadata"]["ownerReferences"]
            assert owner["uid"] == cluster.uid


class TestWhatKeepsItFromAnswering:
    def test_an_image_that_can_not_be_pulled(self) -> None:
        cluster = compared(job())
        cluster.container("base", {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}})
        cluster.reconcile()
        assert cluster.condition("Evaluated")[:2] == ("False", "ImageNotPulled")
        assert "The base model, to compare with: Image" in cluster.condition("Ready")[2]
        assert cluster.status["phase"] == "Blocked"
        assert has_base(cluster), "it starts by itself once there is one"

    def test_no_accelerator_left_is_told_with_what_to_do(self) -> None:
        cluster = compared(job())
        cluster.unschedulable("base", LACKING)
        cluster.reconcile()
        status, reason, message = cluster.condition("Evaluated")
        assert (status, reason) == ("False", "Unschedulable")
        assert "nvidia.com/gpu: 1" in message
        assert "with evaluation.baselines: [] there is none, and no comparison." in message

    def test_a_quota_is_told_in_the_api_servers_words(self) -> None:
        cluster = compared(job())
        refused = {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota: gpus, limited: 1"}
        cluster.get("Deployment", "-base")["status"] = {"conditions": [refused]}
        cluster.reconcile()
        assert cluster.condition("Evaluated")[:2] == ("False", "PodNotCreated")
        assert "exceeded quota: gpus, limited: 1; raise the quota or mend the policy" in cluster.condition("Ready")[2]

    def test_a_deployment_that_is_refused(self) -> None:
        cluster = job()
        cluster.train()
        name = f"recipes-{cluster.revision}-base"
        cluster.refuse["patch", "Deployment", name] = "exceeded quota: deployments"
        cluster.roll_out()
        cluster.reconcile()
        status, reason, message = cluster.condition("Evaluated")
        assert (status, reason) == ("False", "Refused")
        assert message == f"The API server refused Deployment {name}: exceeded quota: deployments"

    def test_an_engine_that_keeps_crashing_is_given_up_and_another_setting_tries_it_again(self) -> None:
        cluster = under_way(job())
        cluster.get("Deployment", "-base")["status"]["availableReplicas"] = 0
        ended = {"exitCode": 137, "reason": "OOMKilled"}
        cluster.container("base", CRASHED, restartCount=3, lastState={"terminated": ended})
        cluster.reconcile()
        status, reason, message = cluster.condition("Evaluated")
        assert (status, reason) == ("False", "MemoryLimitExceeded")
        assert message.startswith("The base model, to compare with: The engine crashed 3 times.")
        assert not has_base(cluster)
        assert not cluster.exists("Deployment"), "nothing is left to ask"
        cluster.fail("evaluate", Outcome.UNAVAILABLE, "The base model does not answer.")
        cluster.collect()
        cluster.edit(hosting={"resources": {"limits": {"nvidia.com/gpu": 1, "memory": "64Gi"}}})
        cluster.reconcile()
        cluster.roll_out()
        cluster.reconcile()
        cluster.end_pods()
        cluster.reconcile()
        cluster.measure()
        assert cluster.condition("Ready")[0] == "True"

    def test_what_serves_gives_way_to_it_with_recreate(self) -> None:
        hosting = MANIFEST["hosting"] | {"rollout": "recreate"}
        cluster = job(hosting=hosting, evaluation={"gate": {"minimum": 0.6}})
        cluster.train()
        cluster.measure()
        old = cluster.revision
        cluster.edit(training=cluster.job["spec"]["training"] | {"seed": 7})
        compared(cluster)
        holder = cluster.objects["Deployment", f"recipes-{old}"]
        assert holder["spec"]["replicas"] == 1, "nobody has said that there are none left"
        cluster.unschedulable("base", LACKING)
        cluster.reconcile()
        assert cluster.objects["Deployment", f"recipes-{old}"]["spec"]["replicas"] == 0
        cluster.running("base")
        cluster.measure(tuned=0.5)
        assert cluster.objects["Deployment", f"recipes-{old}"]["spec"]["replicas"] == 1


def test_another_version_of_the_operator_rolls_neither_engine() -> None:
    cluster = under_way(job())
    before = copy.deepcopy(cluster.objects)
    cluster.settings = replace(cluster.settings, hosting_image="vllm:next")
    cluster.reconcile()
    assert cluster.objects == before


def test_plain_text_needs_none() -> None:
    cluster = job()
    cluster.reconcile()
    cluster.complete("prepare", PREPARED | {"dataset": PREPARED["dataset"] | {"format": "text"}})
    cluster.reconcile()
    cluster.complete("train", TRAINED)
    cluster.reconcile()
    cluster.roll_out()
    cluster.reconcile()
    assert not has_base(cluster)
    assert cluster.condition("Ready")[0] == "True"
