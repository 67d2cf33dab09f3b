"""training.budget: what train is told of it, what is refused, and what is said once it is used up."""

from dataclasses import replace
from typing import Any

import pytest
from finetune_operator.api.training import Training
from finetune_operator.finetunejob.desired import budget
from finetune_operator.settings import Settings
from rehearsal import MANIFEST, PREPARED, TRAINED, Rehearsal
from test_plan import edit_training

PRICED = Settings(price_accelerator_hour=2.5)


def job(**spent: Any) -> Rehearsal:
    found = Rehearsal(training=MANIFEST["training"] | {"budget": spent})
    found.settings = PRICED
    return found


def training(**spent: Any) -> Training:
    return Training.model_validate({"budget": spent, "resources": {"limits": {"nvidia.com/gpu": 2}}})


@pytest.mark.parametrize(
    ("spent", "hours"),
    [
        ({"acceleratorHours": 8}, 8),
        ({"cost": 10}, 4),
        ({"acceleratorHours": 8, "cost": 10}, 4),
        ({"acceleratorHours": 3, "cost": 10}, 3),
    ],
)
def test_money_is_hours_by_the_operators_price_and_the_less_counts(spent: dict[str, float], hours: float) -> None:
    assert budget.hours(training(**spent), PRICED) == hours


def test_train_is_told_and_prepare_is_not() -> None:
    cluster = job(cost=10)
    cluster.reconcile()
    assert "--budget" not in arguments(cluster, "prepare")
    cluster.complete("prepare", PREPARED)
    cluster.reconcile()
    told = arguments(cluster, "train")
    assert told[told.index("--budget") + 1] == "4"


def arguments(cluster: Rehearsal, stage: str) -> list[str]:
    (container,) = cluster.get("Job", f"-{stage}")["spec"]["template"]["spec"]["containers"]
    return list(container["args"])


def test_raised_it_replaces_the_job_of_the_same_revision() -> None:
    cluster = job(acceleratorHours=1)
    cluster.reconcile()
    cluster.complete("prepare", PREPARED)
    cluster.reconcile()
    revision, uid = cluster.revision, cluster.get("Job", "-train")["metadata"]["uid"]
    edit_training(cluster, budget={"acceleratorHours": 2})
    cluster.reconcile()
    assert cluster.revision == revision
    assert cluster.get("Job", "-train")["metadata"]["uid"] != uid
    assert arguments(cluster, "train")[-2:] == ["--budget", "2"]


def test_used_up_it_is_trained_all_the_same_and_says_so() -> None:
    cluster = job(acceleratorHours=1)
    sentence = "training.budget is used up: of 1 hours 0.99 were taken when training ended, at step 30 of 40."
    cluster.train(TRAINED | {"spent": sentence, "steps": 30})
    status, reason, message = cluster.condition("Trained")
    assert (status, reason) == ("True", "BudgetSpent")
    assert sentence in message
    assert cluster.exists("Deployment")


def test_money_needs_a_price() -> None:
    cluster = job(cost=10)
    cluster.settings = Settings()
    cluster.reconcile()
    assert cluster.condition("Accepted") == (
        "False",
        "Invalid",
        "training.budget.cost: what an hour of an accelerator costs is not known; set FINETUNE_PRICE_ACCELERATOR_HOUR "
        "for the operator, or set acceleratorHours in place of cost.",
    )
    assert not cluster.objects
    cluster.settings = PRICED
    cluster.reconcile()
    assert cluster.exists("Job", "-prepare")


def test_only_accelerators_have_one() -> None:
    cluster = job(cost=10)
    edit_training(cluster, resources={"limits": {"cpu": 4}})
    cluster.reconcile()
    assert cluster.condition("Accepted")[2] == (
        "training.budget.cost: training.resources asks for no accelerator, and nothing else has a price; set "
        "acceleratorHours, which counts hours of pods then."
    )
    assert not cluster.objects


def test_a_price_that_goes_later_takes_nothing_from_what_was_trained() -> None:
    cluster = job(cost=10)
    cluster.serve()
    cluster.settings = replace(PRICED, price_accelerator_hour=None)
    cluster.reconcile()
    assert cluster.condition("Ready")[:2] == ("True", "Serving")


PACE = TRAINED | {"usage": {"trainedTokens": 36_000, "seconds": 100, "acceleratorSeconds": 100}}


def again(cluster: Rehearsal, tokens: int = 36_000 * 72, **changed: Any) -> Rehearsal:
    """Another revision, of which prepare has planned so many tokens."""
    edit_training(cluster, **({"seed": 7} | changed))
    cluster.reconcile()
    plan = PREPARED["plan"] | {"estimatedTrainedTokens": tokens}
    cluster.complete("prepare", PREPARED | {"plan": plan})
    cluster.reconcile()
    return cluster


class TestByAnEarlierRevision:
    def test_the_plan_says_how_long_it_takes_and_from_what(self) -> None:
        cluster = Rehearsal()
        cluster.train(PACE)
        assert "estimatedSeconds" not in cluster.status["plan"]
        first = cluster.revision
        again(cluster)
        assert cluster.status["plan"]["estimatedSeconds"] == 7200
        assert cluster.status["plan"]["reasons"] == PREPARED["plan"]["reasons"] | {
            "estimatedSeconds": f"revision {first} was trained alike, with 360 tokens a second"
        }

    @pytest.mark.parametrize(
        "changed",
        [
            {"resources": {"limits": {"nvidia.com/gpu": 2, "memory": "8Gi"}}},
            {"pod": {"nodeSelector": {"gpu": "other"}}},
            {"adapter": {"rank": 64}},
        ],
        ids=["accelerators", "nodes", "adapter"],
    )
    def test_one_that_was_trained_otherwise_says_nothing(self, changed: dict[str, Any]) -> None:
        cluster = Rehearsal()
        cluster.train(PACE)
        assert "estimatedSeconds" not in again(cluster, **changed).status["plan"]

    def test_a_plan_that_is_more_than_the_budget_is_not_begun(self) -> None:
        cluster = job(acceleratorHours=1)
        cluster.train(PACE)
        first = cluster.revision
        again(cluster)
        assert cluster.condition("DataReady") == (
            "False",
            "BudgetTooSmall",
            "Training would take about 2 hours, and training.budget has 1: the plan has 2,592,000 tokens, and revision "
            f"{first} was trained alike, with 360 tokens a second. Raise the budget, or set training.maxSteps to 20.",
        )
        assert cluster.status["plan"]["estimatedSeconds"] == 7200
        assert not cluster.exists("Job", "-train")
        edit_training(cluster, budget={"acceleratorHours": 2})
        cluster.reconcile()
        assert cluster.condition("DataReady")[0] == "True"
        assert cluster.exists("Job", "-train")

    def test_a_price_that_rises_stops_nothing_that_was_begun(self) -> None:
        cluster = job(cost=5)
        cluster.train(PACE)
        again(cluster)
        cluster.running("train")
        cluster.settings = Settings(price_accelerator_hour=10)
        cluster.reconcile()
        assert cluster.condition("Trained")[:2] == ("Unknown", "Running")

    def test_lowered_under_way_it_stops_until_it_is_raised(self) -> None:
        cluster = job(acceleratorHours=2)
        cluster.train(PACE)
        again(cluster)
        edit_training(cluster, budget={"acceleratorHours": 1})
        cluster.reconcile()
        assert cluster.condition("DataReady")[1] == "BudgetTooSmall"
        assert not cluster.exists("Job", "-train")
        edit_training(cluster, budget={"acceleratorHours": 2})
        cluster.reconcile()
        assert cluster.exists("Job", "-train")
