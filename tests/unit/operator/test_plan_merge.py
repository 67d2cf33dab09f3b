"""hosting.adapter: merged. The engine gets the model that the adapter and its base are together: measured as it is
served, and put in the place of a loaded adapter only once it is there.
"""

from typing import Any

import pytest
from finetune_trainer.contract.outcome import Outcome
from rehearsal import CHECKPOINTS, MANIFEST, TEST, TRAINED, Rehearsal

GPUS = MANIFEST["hosting"]
MERGED = GPUS | {"adapter": "merged"}
MADE = {"artifact": "sha256:bb", "bytes": 270_000_000}
APART = "The merged model does not answer as the adapter beside its base model does: 9.0% apart."


def job(hosting: dict[str, Any] = MERGED, **spec: Any) -> Rehearsal:
    return Rehearsal(hosting=hosting, **spec)


def merged(cluster: Rehearsal, result: dict[str, Any] = MADE) -> Rehearsal:
    cluster.complete("merge", result)
    cluster.reconcile()
    return cluster


def served(cluster: Rehearsal, suffix: str = "") -> list[str]:
    """What the engine is told to serve."""
    (engine,) = cluster.get("Deployment", suffix)["spec"]["template"]["spec"]["containers"]
    told = engine["args"]
    beside = [told[told.index("--lora-modules") + 1]] if "--lora-modules" in told else []
    return [told[told.index("--model") + 1], *beside]


LOADED = ["/workspace/model", "recipes=/workspace/artifact"]


class TestBeforeItIsServed:
    def test_it_is_merged_by_a_job_without_an_accelerator_and_then_hosted(self) -> None:
        cluster = job()
        cluster.train()
        assert cluster.condition("Merged")[:2] == ("Unknown", "Starting")
        assert cluster.status["phase"] == "Merging"
        assert not cluster.exists("Deployment")
        (container,) = cluster.get("Job", "-merge")["spec"]["template"]["spec"]["containers"]
        assert container["command"][-1] == "merge"
        assert "nvidia.com/gpu" not in container["resources"]["limits"]
        merged(cluster)
        told = "The adapter is merged into a copy of its base model, 0.27 GB on the volume."
        assert cluster.condition("Merged") == ("True", "Succeeded", told)
        assert served(cluster) == ["/workspace/merged"]

    def test_the_base_model_is_read_where_it_lies(self) -> None:
        cluster = job(model={"source": "pvc://models/llama"})
        cluster.train()
        volumes = cluster.get("Job", "-merge")["spec"]["template"]["spec"]["volumes"]
        claims = {volume.get("persistentVolumeClaim", {}).get("claimName") for volume in volumes}
        assert {"models", f"recipes-{cluster.revision}"} <= claims

    @pytest.mark.parametrize("hosting", [GPUS, GPUS | {"adapter": "loaded"}], ids=["left out", "loaded"])
    def test_without_it_the_adapter_is_served_beside_its_base_model(self, hosting: dict[str, Any]) -> None:
        cluster = job(hosting)
        cluster.train()
        assert not cluster.exists("Job", "-merge")
        assert cluster.condition("Merged") == (
            "False",
            "Disabled",
            "hosting.adapter is not merged, or train merges it.",
        )
        assert served(cluster) == LOADED

    def test_with_nothing_to_serve_or_to_measure_nothing_is_merged(self) -> None:
        cluster = job(MERGED | {"enabled": False})
        cluster.train()
        assert not cluster.exists("Job", "-merge")
        assert cluster.condition("Ready")[0] == "True"


class TestWhatIsMeasured:
    def test_is_what_is_served_beside_an_engine_of_the_base_model(self) -> None:
        cluster = job(dataset=TEST, evaluation={})
        cluster.train()
        merged(cluster)
        cluster.roll_out()
        cluster.reconcile()
        assert served(cluster) == ["/workspace/merged"]
        assert served(cluster, "-base") == ["/workspace/model"]
        cluster.measure()
        assert cluster.condition("Ready")[0] == "True"
        assert not cluster.exists("Deployment", "-base")

    @pytest.mark.parametrize("evaluation", [{}, {"baselines": []}], ids=["baselines", "the tuned model alone"])
    def test_is_measured_anew_when_the_other_form_is_to_be_served(self, evaluation: dict[str, Any]) -> None:
        cluster = job(GPUS, dataset=TEST, evaluation=evaluation)
        cluster.train()
        cluster.measure()
        before, revision = cluster.status["evaluation"]["id"], cluster.revision
        cluster.edit(hosting=MERGED)
        cluster.reconcile()
        merged(cluster)
        cluster.measure()
        assert cluster.revision == revision
        assert cluster.status["evaluation"]["id"] != before
        assert cluster.condition("Evaluated")[0] == "True"


class TestWhatServesAlready:
    def test_goes_on_loaded_until_the_merged_model_is_there(self) -> None:
        cluster = job(GPUS)
        cluster.serve()
        cluster.edit(hosting=MERGED)
        cluster.reconcile()
        assert cluster.exists("Job", "-merge")
        assert served(cluster) == LOADED
        assert cluster.status["servedRevision"] == cluster.revision
        merged(cluster)
        assert served(cluster) == ["/workspace/merged"]

    def test_takes_it_back_without_merging_or_training(self) -> None:
        cluster = job()
        cluster.train()
        merged(cluster)
        cluster.roll_out()
        cluster.reconcile()
        revision = cluster.revision
        cluster.edit(hosting=GPUS)
        cluster.reconcile()
        assert (cluster.revision, served(cluster)) == (revision, LOADED)

    def test_an_earlier_revision_that_was_not_merged_comes_back_loaded(self) -> None:
        cluster = job(GPUS)
        cluster.serve()
        first = cluster.revision
        cluster.edit(hosting=MERGED, training=MANIFEST["training"] | {"maxSteps": 41})
        cluster.train()
        merged(cluster)
        cluster.roll_out()
        cluster.reconcile()
        assert cluster.status["servedRevision"] == cluster.revision != first
        cluster.annotate("finetune.dev/promote", first)
        cluster.reconcile()
        (engine,) = cluster.objects["Deployment", f"recipes-{first}"]["spec"]["template"]["spec"]["containers"]
        assert f"recipes={'/workspace/artifact'}" in engine["args"]

    def test_a_checkpoint_is_served_loaded(self) -> None:
        cluster = job(training=MANIFEST["training"] | {"keepCheckpoints": 3})
        cluster.train(TRAINED | {"checkpoints": CHECKPOINTS})
        merged(cluster)
        cluster.roll_out()
        cluster.reconcile()
        cluster.annotate("finetune.dev/promote", f"{cluster.revision}@30")
        cluster.reconcile()
        assert served(cluster, "-checkpoint-30") == ["/workspace/model", "recipes=/workspace/kept/30"]


class TestWhatCanNotBeMerged:
    def test_a_model_that_answers_otherwise_leaves_the_adapter_served(self) -> None:
        cluster = job()
        cluster.train()
        merged(cluster, {"artifact": "sha256:bb", "apart": APART})
        told = f"{APART} The adapter is served loaded, beside its base model."
        assert cluster.condition("Merged") == ("False", "AnswersDiffer", told)
        assert served(cluster) == LOADED
        cluster.roll_out()
        cluster.reconcile()
        assert cluster.condition("Ready")[:2] == ("True", "Serving")

    def test_one_that_can_not_be_made_stops_the_revision_and_not_what_serves(self) -> None:
        cluster = job(GPUS)
        cluster.serve()
        cluster.edit(hosting=MERGED)
        cluster.reconcile()
        said = "The adapter can't be merged: it changes q_proj. Remove hosting.adapter; it is served beside its base."
        cluster.fail("merge", Outcome.CONFIG_INVALID, said)
        cluster.reconcile()
        assert cluster.condition("Merged") == ("False", "ConfigInvalid", said)
        assert cluster.status["servedRevision"] == cluster.revision
        assert served(cluster) == LOADED
        cluster.edit(hosting=GPUS)
        cluster.reconcile()
        assert cluster.condition("Ready")[0] == "True"

    def test_a_full_volume_is_tried_again_once_it_is_larger(self) -> None:
        cluster = job()
        cluster.train()
        cluster.fail("merge", Outcome.WORKSPACE_FULL, "The merged model takes 16.06 GB: raise workspace.size.")
        cluster.reconcile()
        assert cluster.condition("Merged")[:2] == ("False", "WorkspaceFull")
        cluster.edit(workspace={"size": "60Gi"})
        cluster.reconcile()
        assert cluster.condition("Merged")[0] == "Unknown"
