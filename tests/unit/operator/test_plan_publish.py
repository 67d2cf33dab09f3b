"""An artifact that leaves the workspace: who gets the output's credentials, what is told, and when it is done again."""

from typing import Any

import pytest
from finetune_trainer.contract.outcome import Outcome
from rehearsal import TRAINED, Rehearsal

PLACE = "s3://artifacts/recipes"


def output(destination: str = PLACE) -> dict[str, Any]:
    return {"destination": destination, "credentials": {"secretRef": {"name": "artifacts"}}}


def published(cluster: Rehearsal, destination: str = PLACE) -> dict[str, Any]:
    return {"uri": f"{destination}/{cluster.revision}", "artifact": TRAINED["artifact"]}


@pytest.fixture
def trained() -> Rehearsal:
    """A revision that is trained, and whose artifact is to be published."""
    cluster = Rehearsal(output=output())
    cluster.train()
    return cluster


def secrets(cluster: Rehearsal, stage: str) -> set[str]:
    """The Secrets that a stage's pods may read."""
    (container,) = cluster.get("Job", f"-{stage}")["spec"]["template"]["spec"]["containers"]
    keys = (each.get("valueFrom", {}).get("secretKeyRef") for each in container["env"])
    return {key["name"] for key in keys if key}


def test_its_job_alone_gets_the_outputs_credentials_and_no_accelerator(trained: Rehearsal) -> None:
    assert trained.condition("Published")[:2] == ("Unknown", "Starting")
    assert trained.status["phase"] == "Publishing"
    assert not trained.exists("Deployment")
    assert {stage: secrets(trained, stage) for stage in ("prepare", "train", "publish")} == {
        "prepare": {"bucket"},
        "train": set(),
        "publish": {"artifacts"},
    }
    (container,) = trained.get("Job", "-publish")["spec"]["template"]["spec"]["containers"]
    assert "nvidia.com/gpu" not in container["resources"]["limits"]
    assert container["args"][-4:] == ["--destination", PLACE, "--owner", trained.uid]


def test_the_artifacts_address_is_told_and_the_model_is_hosted(trained: Rehearsal) -> None:
    trained.complete("publish", published(trained))
    trained.reconcile()
    uri = f"{PLACE}/{trained.revision}"
    assert trained.condition("Published") == ("True", "Succeeded", f"The artifact is {uri}.")
    assert trained.status["artifact"] == {"uri": uri, **TRAINED["artifact"]}
    assert trained.exists("Deployment")


def test_an_adapter_without_the_base_model_that_it_fits_is_told(trained: Rehearsal) -> None:
    lineage = {"lineage": ["ftj://sft/0a1b2c3d", "hf://acme/small@abc"]}
    trained.complete("publish", published(trained) | lineage)
    trained.reconcile()
    assert trained.condition("Published") == (
        "True",
        "Succeeded",
        f"The artifact is {PLACE}/{trained.revision}. Its base model, ftj://sft/0a1b2c3d (from hf://acme/small@abc), "
        "is not published with it: set output.merge, and the whole model is published, too.",
    )


def test_what_was_published_is_known_from_the_record(trained: Rehearsal) -> None:
    trained.complete("publish", published(trained))
    trained.reconcile()
    trained.delete("Job", f"recipes-{trained.revision}-publish")
    trained.job["status"] = {}
    trained.reconcile()
    assert trained.condition("Published")[0] == "True"
    assert not trained.exists("Job", "-publish")


def test_another_destination_is_published_to_as_well_and_trains_nothing(trained: Rehearsal) -> None:
    trained.complete("publish", published(trained))
    trained.reconcile()
    revision = trained.revision
    trained.edit(output=output("s3://elsewhere/recipes"))
    trained.reconcile()
    trained.reconcile()
    assert trained.revision == revision
    assert trained.condition("Published")[0] == "Unknown"
    (container,) = trained.get("Job", "-publish")["spec"]["template"]["spec"]["containers"]
    assert "s3://elsewhere/recipes" in container["args"]
    trained.complete("publish", published(trained, "s3://elsewhere/recipes"))
    trained.reconcile()
    assert trained.status["artifact"]["uri"] == f"s3://elsewhere/recipes/{revision}"


def test_a_refusal_is_told_and_other_credentials_try_again(trained: Rehearsal) -> None:
    trained.fail("publish", Outcome.ACCESS_DENIED, f"{PLACE} was refused: see the Secret in its credentials.")
    trained.reconcile()
    status, reason, message = trained.condition("Published")
    assert (status, reason) == ("False", "AccessDenied")
    assert message == f"{PLACE} was refused: see the Secret in its credentials."
    assert not trained.exists("Deployment")
    trained.edit(output=output() | {"credentials": {"secretRef": {"name": "writers"}}})
    trained.reconcile()
    trained.reconcile()
    assert secrets(trained, "publish") == {"writers"}


def test_a_signature_takes_a_key_that_no_other_stage_has() -> None:
    cluster = Rehearsal(output=output() | {"sign": {"secretRef": {"name": "key"}}})
    cluster.train()
    assert {stage: "key" in secrets(cluster, stage) for stage in ("prepare", "train", "publish")} == {
        "prepare": False,
        "train": False,
        "publish": True,
    }
    (container,) = cluster.get("Job", "-publish")["spec"]["template"]["spec"]["containers"]
    assert container["args"][-1] == "--sign"
    asked = {each["name"]: each["valueFrom"]["secretKeyRef"] for each in container["env"] if "SIGNING" in each["name"]}
    assert asked == {
        "FINETUNE_OUTPUT_SIGNING_KEY": {"name": "key", "key": "SIGNING_KEY", "optional": False},
        "FINETUNE_OUTPUT_SIGNING_PASSWORD": {"name": "key", "key": "SIGNING_PASSWORD", "optional": True},
    }


def test_a_whole_model_is_made_by_the_same_job_and_its_address_told(trained: Rehearsal) -> None:
    trained.complete("publish", published(trained))
    trained.reconcile()
    trained.edit(output=output() | {"merge": True})
    trained.reconcile()
    trained.reconcile()
    assert trained.condition("Published")[0] == "Unknown"
    (container,) = trained.get("Job", "-publish")["spec"]["template"]["spec"]["containers"]
    assert container["args"][-1] == "--merge"
    uri = f"{PLACE}/{trained.revision}"
    trained.complete("publish", published(trained) | {"merged": f"{uri}-merged"})
    trained.reconcile()
    told = f"The artifact is {uri}. Merged with its base model it is {uri}-merged."
    assert trained.condition("Published") == ("True", "Succeeded", told)
    assert trained.status["artifact"]["uri"] == uri


def test_a_gguf_file_is_made_by_the_same_job_and_its_address_told(trained: Rehearsal) -> None:
    trained.complete("publish", published(trained))
    trained.reconcile()
    trained.edit(output=output() | {"formats": ["gguf"]})
    trained.reconcile()
    trained.reconcile()
    assert trained.condition("Published")[0] == "Unknown"
    (container,) = trained.get("Job", "-publish")["spec"]["template"]["spec"]["containers"]
    assert container["args"][-2:] == ["--formats", "gguf"]
    assert "--merge" not in container["args"]
    uri = f"{PLACE}/{trained.revision}"
    trained.complete("publish", published(trained) | {"gguf": f"{uri}-gguf"})
    trained.reconcile()
    told = f"The artifact is {uri}. As a GGUF file it is {uri}-gguf."
    assert trained.condition("Published") == ("True", "Succeeded", told)


def test_whether_a_gguf_file_can_be_made_is_asked_before_training() -> None:
    cluster = Rehearsal(output=output() | {"formats": ["gguf"]})
    cluster.reconcile()
    (container,) = cluster.get("Job", "-prepare")["spec"]["template"]["spec"]["containers"]
    assert container["args"][-2:] == ["--formats", "gguf"]
    refusal = "acme/odd can't be converted to GGUF: remove gguf from output.formats."
    cluster.fail("prepare", Outcome.CONFIG_INVALID, refusal)
    cluster.reconcile()
    assert cluster.condition("DataReady") == ("False", "ConfigInvalid", refusal)
    # Without it, it is tried again.
    cluster.edit(output=output())
    cluster.reconcile()
    cluster.reconcile()
    (container,) = cluster.get("Job", "-prepare")["spec"]["template"]["spec"]["containers"]
    assert "--formats" not in container["args"]


def test_what_was_published_unsigned_is_published_again_once_it_shall_be_signed(trained: Rehearsal) -> None:
    trained.complete("publish", published(trained))
    trained.reconcile()
    trained.edit(output=output() | {"sign": {"secretRef": {"name": "key"}}})
    trained.reconcile()
    trained.reconcile()
    assert trained.condition("Published")[0] == "Unknown"
    assert "key" in secrets(trained, "publish")
    trained.complete("publish", published(trained))
    trained.reconcile()
    assert trained.condition("Published")[0] == "True"


def test_without_a_destination_the_artifact_stays_in_the_workspace() -> None:
    cluster = Rehearsal()
    cluster.train()
    told = "output.destination is not set; the artifact stays in the workspace."
    assert cluster.condition("Published") == ("False", "Disabled", told)
    assert cluster.status["artifact"]["uri"].startswith("pvc://")


class TestAPlaceThatAnotherOnePublishesTo:
    def rivalled(self, created: str, **more: str) -> Rehearsal:
        cluster = Rehearsal(output=output())
        cluster.job["metadata"]["creationTimestamp"] = "2026-01-02T00:00:00Z"
        identity = {"name": "support", "namespace": "kitchen", "uid": "support-1", "creationTimestamp": created}
        cluster.rivals = [{"metadata": identity | more}]
        cluster.reconcile()
        return cluster

    def test_is_refused_to_who_came_later(self) -> None:
        cluster = self.rivalled("2026-01-01T00:00:00Z")
        assert cluster.condition("Accepted") == (
            "False",
            "DestinationTaken",
            "FineTuneJob support publishes to s3://artifacts/recipes, too, and was there first: give "
            "output.destination a place of its own.",
        )
        assert cluster.objects == {}
        cluster.rivals = []
        cluster.reconcile()
        assert cluster.condition("Accepted")[0] == "True"

    def test_is_the_first_ones(self) -> None:
        assert self.rivalled("2026-01-03T00:00:00Z").condition("Accepted")[0] == "True"

    def test_at_the_same_moment_is_one_of_theirs(self) -> None:
        # Its own uid is recipes-1.
        assert self.rivalled("2026-01-02T00:00:00Z").condition("Accepted")[0] == "True"
        assert self.rivalled("2026-01-02T00:00:00Z", uid="a").condition("Accepted")[1] == "DestinationTaken"

    def test_is_free_once_that_goes(self) -> None:
        going = self.rivalled("2026-01-01T00:00:00Z", deletionTimestamp="2026-01-03T00:00:00Z")
        assert going.condition("Accepted")[0] == "True"

    def test_disturbs_nobody_who_has_begun(self, trained: Rehearsal) -> None:
        trained.rivals = [{"metadata": {"name": "support", "uid": "a", "creationTimestamp": ""}}]
        trained.reconcile()
        assert trained.condition("Published")[:2] == ("Unknown", "Starting")
