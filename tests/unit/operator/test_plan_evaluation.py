"""Evaluation, gate and promotion, told by what the cluster and the user would see at each turn."""

import copy
from typing import Any

import pytest
from finetune_operator import names
from finetune_trainer.contract.outcome import Outcome
from rehearsal import CHECKPOINTS, MANIFEST, PREPARED, TEST, TRAINED, Rehearsal, ranked

GATE = {"gate": {"minimum": 0.5, "margin": 0.01}}


def job(**spec: Any) -> Rehearsal:
    return Rehearsal(**({"dataset": TEST, "evaluation": {}} | spec))


@pytest.fixture
def candidate() -> Rehearsal:
    """A gate, and a candidate that is being started."""
    cluster = job(evaluation=GATE)
    cluster.train()
    return cluster


@pytest.fixture
def serving(candidate: Rehearsal) -> Rehearsal:
    candidate.measure()
    return candidate


def train_again(cluster: Rehearsal, seed: int = 7) -> str:
    """Edit the seed and train; returns the revision before."""
    old = cluster.revision
    cluster.edit(training=cluster.job["spec"]["training"] | {"seed": seed})
    cluster.train()
    return old


class TestTheMeasurement:
    def test_only_a_candidate_that_answers_is_measured(self, candidate: Rehearsal) -> None:
        assert not candidate.exists("Job", "-evaluate")
        candidate.roll_out()
        candidate.reconcile()
        assert candidate.exists("Job", "-evaluate")
        assert ("Service", "recipes") not in candidate.objects
        assert candidate.status["phase"] == "Evaluating"
        assert candidate.condition("Evaluated")[0] == "Unknown"

    def test_it_holds_no_accelerator_and_asks_the_candidates_own_service(self, candidate: Rehearsal) -> None:
        candidate.roll_out()
        candidate.reconcile()
        container = candidate.get("Job", "-evaluate")["spec"]["template"]["spec"]["containers"][0]
        assert "nvidia.com/gpu" not in str(container["resources"])
        url = f"http://recipes-{candidate.revision}.kitchen.svc/v1"
        assert container["args"][-2:] == ["--endpoint", url]
        assert not [each for each in container["env"] if "valueFrom" in each and "secretKeyRef" in each["valueFrom"]]

    def test_a_winner_is_promoted_and_the_status_says_by_how_much(self, serving: Rehearsal) -> None:
        assert serving.condition("Evaluated")[:2] == ("True", "Succeeded")
        assert serving.condition("Ready")[:2] == ("True", "Serving")
        found = serving.status["evaluation"]
        assert (found["metric"], found["tuned"], found["passed"]) == ("exact_match", "0.6700", True)
        assert found["baselines"] == {"zero-shot": "0.0000", "few-shot": "0.2300", "retrieval": "0.6100"}
        assert (found["metricSummary"], found["bestBaselineSummary"]) == ("exact_match 0.670", "retrieval 0.610")
        assert found["promptTokensPerRequest"]["retrieval"] == "203"
        assert found["report"].startswith(f"pvc://recipes-{serving.revision}/evaluations/")
        assert serving.status["history"][0]["metric"] == "exact_match 0.670"

    def test_without_a_gate_all_is_promoted_and_the_condition_says_so(self) -> None:
        cluster = job()
        cluster.train()
        cluster.measure(tuned=0.2)
        assert cluster.condition("Evaluated")[0] == "True"
        assert cluster.condition("Evaluated")[2].endswith("No gate was set.")
        assert cluster.status["servedRevision"] == cluster.revision

    def test_switched_off_nothing_is_measured(self) -> None:
        cluster = Rehearsal(evaluation={"enabled": False})
        cluster.serve()
        assert cluster.condition("Evaluated") == ("False", "Disabled", "evaluation.enabled is false.")
        assert cluster.condition("Ready")[0] == "True"

    @pytest.mark.parametrize("hosting", [True, False])
    def test_plain_text_has_no_answers_to_measure_by(self, hosting: bool) -> None:
        cluster = job(hosting={"enabled": hosting})
        cluster.reconcile()
        cluster.complete("prepare", PREPARED | {"dataset": PREPARED["dataset"] | {"format": "text"}})
        cluster.reconcile()
        cluster.complete("train", TRAINED)
        cluster.reconcile()
        if hosting:
            cluster.roll_out()
            cluster.reconcile()
        assert cluster.condition("Evaluated")[:2] == ("False", "Disabled")
        assert cluster.condition("Ready")[0] == "True"
        assert cluster.exists("Deployment") is hosting

    @pytest.mark.parametrize(
        "evaluation", [GATE, {"lmEval": {"source": "configmap://benchmarks", "tasks": ["capitals"]}}]
    )
    def test_what_counts_on_a_measurement_of_plain_text_is_refused(self, evaluation: dict[str, Any]) -> None:
        cluster = job(evaluation=evaluation)
        cluster.reconcile()
        cluster.complete("prepare", PREPARED | {"dataset": PREPARED["dataset"] | {"format": "text"}})
        cluster.reconcile()
        cluster.complete("train", TRAINED)
        cluster.reconcile()
        status, reason, message = cluster.condition("Evaluated")
        assert (status, reason) == ("False", "ConfigInvalid")
        assert message.endswith("remove evaluation's metrics, gate and lmEval.")
        assert ("Service", "recipes") not in cluster.objects

    def test_without_hosting_the_candidate_goes_once_it_is_measured(self) -> None:
        cluster = job(hosting={"enabled": False})
        cluster.train()
        assert cluster.exists("Deployment")
        cluster.measure()
        assert cluster.condition("Evaluated")[0] == "True"
        assert cluster.condition("Hosted")[:2] == ("False", "Released")
        assert cluster.condition("Promoted")[:2] == ("False", "Disabled")
        assert cluster.condition("Ready")[:2] == ("True", "Succeeded")
        assert not [key for key in cluster.objects if key[0] in ("Deployment", "Service")]

    def test_a_failed_measurement_promotes_nothing(self, candidate: Rehearsal) -> None:
        candidate.roll_out()
        candidate.reconcile()
        candidate.fail("evaluate", Outcome.UNAVAILABLE, "The candidate does not answer.")
        candidate.reconcile()
        assert candidate.condition("Evaluated")[:2] == ("False", "SourceUnavailable")
        assert ("Service", "recipes") not in candidate.objects
        assert not candidate.exists("Deployment")

    def test_tried_again_the_candidate_comes_back(self, candidate: Rehearsal) -> None:
        candidate.roll_out()
        candidate.reconcile()
        candidate.fail("evaluate", Outcome.UNAVAILABLE, "The candidate does not answer.")
        candidate.reconcile()
        candidate.annotate(names.RETRY, "again")
        candidate.reconcile()
        assert candidate.exists("Deployment")
        candidate.measure()
        assert candidate.status["servedRevision"] == candidate.revision

    def test_suspended_nobody_asks_a_candidate_that_is_gone(self, candidate: Rehearsal) -> None:
        candidate.roll_out()
        candidate.reconcile()
        candidate.running("evaluate")
        candidate.edit(suspend=True)
        candidate.reconcile()
        assert candidate.status["phase"] == "Suspended"
        assert not candidate.exists("Deployment")
        assert not candidate.exists("Job", "-evaluate")
        candidate.collect()
        candidate.edit(suspend=False)
        candidate.reconcile()
        assert not candidate.exists("Job", "-evaluate")
        candidate.roll_out()
        candidate.reconcile()
        assert candidate.exists("Job", "-evaluate")

    def test_at_rest_the_status_does_not_change(self, serving: Rehearsal) -> None:
        before = copy.deepcopy((serving.job, serving.objects))
        serving.reconcile()
        assert (serving.job, serving.objects) == before

    def test_a_finished_measurement_stays_finished_without_its_job(self, serving: Rehearsal) -> None:
        serving.delete("Job", f"recipes-{serving.revision}-evaluate")
        serving.reconcile()
        assert not serving.exists("Job", "-evaluate")
        assert serving.condition("Ready")[0] == "True"


class TestTheGate:
    def test_a_loser_is_taken_down_and_the_old_revision_goes_on_serving(self, serving: Rehearsal) -> None:
        old = train_again(serving)
        serving.measure(tuned=0.62)
        status, reason, message = serving.condition("Evaluated")
        assert (status, reason) == ("False", "GateNotMet")
        assert "0.620" in message
        assert "retrieval" in message
        assert not serving.exists("Deployment")
        assert serving.condition("Hosted")[:2] == ("False", "Released")
        assert serving.exists("Deployment", revision=old)
        assert serving.status["servedRevision"] == old
        assert serving.status["phase"] == "Rejected"
        assert serving.condition("Ready")[2].endswith(
            f"Revision {old} goes on serving at http://recipes.kitchen.svc/v1."
        )

    def test_its_artifact_stays(self, serving: Rehearsal) -> None:
        train_again(serving)
        serving.measure(tuned=0.62)
        assert serving.exists("PersistentVolumeClaim")
        assert serving.status["artifact"]["uri"] == f"pvc://recipes-{serving.revision}/artifact"

    def test_a_lower_gate_promotes_it_without_asking_again(self, candidate: Rehearsal) -> None:
        candidate.measure(tuned=0.62)
        assert not candidate.exists("Deployment")
        candidate.edit(evaluation={"gate": {"minimum": 0.5, "margin": -0.05}})
        candidate.reconcile()
        assert candidate.exists("Deployment")
        candidate.delete("Job", f"recipes-{candidate.revision}-evaluate")
        candidate.roll_out()
        candidate.reconcile()
        assert not candidate.exists("Job", "-evaluate")
        assert candidate.status["servedRevision"] == candidate.revision

    def test_a_higher_gate_never_takes_down_what_serves(self, serving: Rehearsal) -> None:
        serving.edit(evaluation={"gate": {"minimum": 0.9}})
        serving.reconcile()
        assert serving.condition("Evaluated")[:2] == ("False", "GateNotMet")
        assert serving.exists("Deployment")
        assert serving.status["servedRevision"] == serving.revision
        assert "goes on serving" in serving.condition("Ready")[2]

    def test_other_metrics_are_measured_without_training(self, serving: Rehearsal) -> None:
        revision, old = serving.revision, serving.get("Job", "-evaluate")
        serving.edit(evaluation={"sampleSize": 50})
        serving.reconcile()
        assert serving.revision == revision
        assert serving.get("Job", "-evaluate")["metadata"]["uid"] != old["metadata"]["uid"]
        assert serving.condition("Trained")[0] == "True"
        assert serving.status["servedRevision"] == revision

    def test_a_candidate_that_was_taken_down_comes_back_to_be_measured_anew(self, candidate: Rehearsal) -> None:
        candidate.measure(tuned=0.62)
        candidate.edit(evaluation=GATE | {"sampleSize": 50})
        candidate.reconcile()
        assert candidate.exists("Deployment")
        candidate.measure(tuned=0.7)
        assert candidate.status["servedRevision"] == candidate.revision

    def test_with_recreate_the_old_revision_comes_back_when_the_new_one_loses(self, serving: Rehearsal) -> None:
        serving.edit(hosting=serving.job["spec"]["hosting"] | {"rollout": "recreate"})
        old = train_again(serving)
        serving.unschedulable("host", "0/1 nodes are available: 1 Insufficient nvidia.com/gpu.")
        serving.reconcile()
        assert serving.objects["Deployment", f"recipes-{old}"]["spec"]["replicas"] == 0
        serving.running("host")
        serving.measure(tuned=0.62)
        assert serving.objects["Deployment", f"recipes-{old}"]["spec"]["replicas"] == 1


class TestByHand:
    def test_an_annotation_promotes_what_missed_the_gate(self, serving: Rehearsal) -> None:
        train_again(serving)
        serving.measure(tuned=0.62)
        serving.annotate(names.PROMOTE, serving.revision)
        serving.reconcile()
        serving.roll_out()
        serving.reconcile()
        assert serving.status["servedRevision"] == serving.revision
        assert serving.condition("Evaluated")[:2] == ("True", "PromotedByHand")
        assert serving.status["evaluation"]["passed"] is False

    def test_an_annotation_promotes_what_could_not_be_measured(self, candidate: Rehearsal) -> None:
        candidate.roll_out()
        candidate.reconcile()
        candidate.fail("evaluate", Outcome.UNAVAILABLE, "The judge does not answer.")
        candidate.reconcile()
        candidate.annotate(names.PROMOTE, candidate.revision)
        candidate.reconcile()
        candidate.roll_out()
        candidate.reconcile()
        assert candidate.status["servedRevision"] == candidate.revision
        assert candidate.condition("Evaluated")[:2] == ("True", "PromotedByHand")

    def test_an_earlier_revision_is_brought_back_without_training(self, serving: Rehearsal) -> None:
        old = train_again(serving)
        serving.measure(tuned=0.7)
        new = serving.revision
        assert serving.status["servedRevision"] == new
        assert not serving.exists("Deployment", revision=old)
        assert serving.exists("PersistentVolumeClaim", revision=old)
        serving.annotate(names.PROMOTE, old)
        serving.reconcile()
        assert serving.status["servedRevision"] == new
        back = serving.objects["Deployment", f"recipes-{old}"]
        back["status"] = serving.get("Deployment")["status"]
        serving.reconcile()
        assert serving.status["servedRevision"] == old
        assert not serving.exists("Deployment", revision=new)
        assert serving.condition("Promoted")[:2] == ("True", "Pinned")
        assert old in serving.condition("Ready")[2]

    def test_without_the_annotation_the_newest_serves_again(self, serving: Rehearsal) -> None:
        old = train_again(serving)
        serving.measure(tuned=0.7)
        serving.annotate(names.PROMOTE, old)
        serving.reconcile()
        serving.objects["Deployment", f"recipes-{old}"]["status"] = serving.get("Deployment")["status"]
        serving.reconcile()
        serving.annotate(names.PROMOTE, "")
        serving.reconcile()
        serving.roll_out()
        serving.reconcile()
        assert serving.status["servedRevision"] == serving.revision
        assert not serving.exists("Deployment", revision=old)

    def test_only_as_many_volumes_are_kept_as_asked_for(self, serving: Rehearsal) -> None:
        first = train_again(serving, seed=7)
        serving.measure(tuned=0.7)
        second = train_again(serving, seed=8)
        serving.measure(tuned=0.7)
        assert not serving.exists("PersistentVolumeClaim", revision=first)
        assert serving.exists("PersistentVolumeClaim", revision=second)

    def test_a_revision_that_is_gone_is_said_to_be(self, serving: Rehearsal) -> None:
        serving.annotate(names.PROMOTE, "0badc0de")
        serving.reconcile()
        assert "names 0badc0de, which is not kept" in serving.condition("Promoted")[2]
        assert serving.status["servedRevision"] == serving.revision


class TestARewardModel:
    @pytest.fixture
    def judge(self) -> Rehearsal:
        """One whose engine rates answers."""
        training = MANIFEST["training"] | {"method": "reward"}
        cluster = job(training=training, evaluation={"gate": {"minimum": 0.8}})
        cluster.train(TRAINED | {"validationRewardAccuracy": 0.9123})
        cluster.roll_out()
        cluster.reconcile()
        return cluster

    def measure(self, judge: Rehearsal, score: float) -> None:
        judge.complete("evaluate", ranked(judge.evaluation().id, score))
        judge.reconcile()

    def test_it_says_how_often_it_is_right_while_it_learns(self, judge: Rehearsal) -> None:
        assert "Of validation's rows 91.2% are ranked as they should be." in judge.condition("Trained")[2]

    def test_it_is_measured_alone(self, judge: Rehearsal) -> None:
        assert judge.evaluation().baselines == ()
        assert not judge.exists("Deployment", "-base")

    def test_what_ranks_well_is_promoted_and_says_where_answers_are_rated(self, judge: Rehearsal) -> None:
        self.measure(judge, 0.9)
        assert judge.condition("Evaluated")[2] == (
            "ranking_accuracy 0.900 (0.840 to 0.960) on 200 rows, where guessing has 0.5. The gate is met: a score of "
            "0.8; there is no baseline to hold a margin against."
        )
        assert judge.status["endpoint"] == {"url": "http://recipes.kitchen.svc/classify", "model": "recipes"}
        assert judge.condition("Ready")[2] == (
            f"http://recipes.kitchen.svc/classify answers as model recipes with revision {judge.revision}."
        )
        assert judge.status["evaluation"]["metricSummary"] == "ranking_accuracy 0.900"

    def test_what_guesses_is_not(self, judge: Rehearsal) -> None:
        self.measure(judge, 0.52)
        assert judge.condition("Evaluated")[:2] == ("False", "GateNotMet")
        assert "It misses gate.minimum 0.8 by 0.28." in judge.condition("Evaluated")[2]
        assert not judge.exists("Deployment")

    def test_a_model_that_writes_serves_at_its_own_address_until_it_is_there(self, serving: Rehearsal) -> None:
        old = serving.revision
        serving.edit(training=MANIFEST["training"] | {"method": "reward"}, evaluation={"gate": {"minimum": 0.8}})
        serving.reconcile()
        serving.train()
        serving.roll_out()
        serving.reconcile()
        assert serving.status["servedRevision"] == old
        assert serving.status["endpoint"]["url"] == "http://recipes.kitchen.svc/v1"
        self.measure(serving, 0.9)
        assert serving.status["endpoint"]["url"] == "http://recipes.kitchen.svc/classify"


class TestACheckpoint:
    """Of a training that kept three, the best is the artifact; the others lie beside it."""

    @pytest.fixture
    def kept(self) -> Rehearsal:
        """A revision that serves, though a later step of it was kept too."""
        cluster = job(evaluation=GATE, training=MANIFEST["training"] | {"keepCheckpoints": 3})
        cluster.train(TRAINED | {"checkpoints": CHECKPOINTS})
        cluster.measure()
        return cluster

    def test_what_is_kept_is_listed_and_the_condition_says_why_the_last_is_not_the_artifact(
        self, kept: Rehearsal
    ) -> None:
        listed = kept.status["checkpoints"]
        assert [(found["name"], found["step"], found["validationLoss"]) for found in listed] == [
            (kept.revision, 20, "0.3100"),
            (f"{kept.revision}@30", 30, "0.3300"),
            (f"{kept.revision}@40", 40, "0.3600"),
        ]
        assert listed[0]["uri"] == kept.status["artifact"]["uri"]
        assert listed[1]["uri"] == f"pvc://recipes-{kept.revision}/kept/30"
        assert "the weights of step 20 of 40, where the validation loss was lowest" in kept.condition("Trained")[2]

    def test_the_train_pod_is_told_how_many_to_keep(self, kept: Rehearsal) -> None:
        (container,) = kept.get("Job", "-train")["spec"]["template"]["spec"]["containers"]
        assert container["args"][-2:] == ["--keep-checkpoints", "3"]

    def test_one_is_promoted_by_its_name_without_training(self, kept: Rehearsal) -> None:
        revision = kept.revision
        promote(kept, f"{revision}@40")
        assert kept.status["servedRevision"] == f"{revision}@40"
        assert kept.condition("Promoted")[:2] == ("True", "Pinned")
        assert kept.condition("Ready")[0] == "True"
        assert f"with revision {revision}@40" in kept.condition("Ready")[2]
        assert not kept.exists("Deployment")
        assert not kept.exists("Job", "-train-again")
        assert kept.exists("PersistentVolumeClaim")
        (engine,) = kept.get("Deployment", "-checkpoint-40")["spec"]["template"]["spec"]["containers"]
        assert "recipes=/workspace/kept/40" in engine["args"]
        assert kept.status["replicas"] == 1
        assert kept.status["selector"].endswith("finetune.dev/stage=checkpoint-40")

    def test_until_it_answers_the_artifact_serves(self, kept: Rehearsal) -> None:
        kept.annotate(names.PROMOTE, f"{kept.revision}@40")
        kept.reconcile()
        assert kept.status["servedRevision"] == kept.revision
        assert kept.exists("Deployment")

    def test_its_service_finds_its_pods_and_no_others(self, kept: Rehearsal) -> None:
        promote(kept, f"{kept.revision}@40")
        selector = kept.objects["Service", "recipes"]["spec"]["selector"]
        pods = kept.get("Deployment", "-checkpoint-40")["spec"]["template"]["metadata"]["labels"]
        assert selector.items() <= pods.items()
        assert selector[names.STAGE] != "host"

    def test_without_the_annotation_the_artifact_serves_again(self, kept: Rehearsal) -> None:
        promote(kept, f"{kept.revision}@40")
        kept.annotate(names.PROMOTE, "")
        kept.reconcile()
        kept.roll_out()
        kept.reconcile()
        assert kept.status["servedRevision"] == kept.revision
        assert not kept.exists("Deployment", "-checkpoint-40")

    def test_one_is_promoted_though_the_artifact_missed_the_gate(self) -> None:
        cluster = job(evaluation=GATE)
        cluster.train(TRAINED | {"checkpoints": CHECKPOINTS})
        cluster.measure(tuned=0.4)
        assert cluster.condition("Evaluated")[1] == "GateNotMet"
        promote(cluster, f"{cluster.revision}@30")
        assert cluster.status["servedRevision"] == f"{cluster.revision}@30"

    def test_one_of_an_earlier_revision_serves_while_the_next_is_trained(self, kept: Rehearsal) -> None:
        old = train_again(kept)
        kept.annotate(names.PROMOTE, f"{old}@30")
        kept.reconcile()
        engine = kept.objects["Deployment", f"recipes-{old}-checkpoint-30"]
        engine["status"] = {"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1}
        kept.reconcile()
        assert kept.status["servedRevision"] == f"{old}@30"
        assert kept.exists("PersistentVolumeClaim", revision=old)
        assert next(entry for entry in kept.status["history"] if entry["revision"] == old)["outcome"] == "Serving"

    @pytest.mark.parametrize("step", ["7", "20", "040", "x", ""])
    def test_a_name_that_nothing_has_is_said_with_those_that_there_are(self, kept: Rehearsal, step: str) -> None:
        wanted = f"{kept.revision}@{step}"
        kept.annotate(names.PROMOTE, wanted)
        kept.reconcile()
        assert kept.status["servedRevision"] == kept.revision
        message = kept.condition("Promoted")[2]
        assert f"names {wanted}, which is not kept" in message
        assert f"kept: {kept.revision}@30, {kept.revision}@40." in message


def promote(cluster: Rehearsal, address: str) -> None:
    """By hand, until it answers."""
    cluster.annotate(names.PROMOTE, address)
    cluster.reconcile()
    cluster.roll_out(f"checkpoint-{address.partition('@')[2]}")
    cluster.reconcile()
