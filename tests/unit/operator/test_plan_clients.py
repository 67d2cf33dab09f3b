"""Who may ask a FineTuneJob's own engines: the NetworkPolicy that it has beside them, and how long."""

from dataclasses import replace
from typing import Any

import pytest
from finetune_operator import names
from finetune_operator.finetunejob.desired import hosting
from finetune_operator.settings import Settings
from rehearsal import PREPARED, TRAINED, Rehearsal
from rendering import evaluate, host, prepare, target, train

POLICY = ("NetworkPolicy", "recipes-clients")
CANDIDATE, BASE, CHECKPOINT = hosting.HOST, names.BASE, "checkpoint-40"


def ingress(**settings: str) -> list[dict[str, Any]]:
    """What a policy lets in under such settings."""
    found = target()
    spec = hosting.policy(replace(found, settings=replace(found.settings, **settings)))["spec"]
    rules: list[dict[str, Any]] = spec["ingress"]
    return rules


def selected(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    """Whether a LabelSelector selects."""
    there = {"Exists": True, "DoesNotExist": False}
    return selector.get("matchLabels", {}).items() <= labels.items() and all(
        (each["key"] in labels) == there[each["operator"]] for each in selector.get("matchExpressions", [])
    )


def labels_of(workload: dict[str, Any]) -> dict[str, str]:
    """Its pods' labels; a Job's pods get its name from the Job controller."""
    name = {"batch.kubernetes.io/job-name": workload["metadata"]["name"]} if workload["kind"] == "Job" else {}
    return {**workload["spec"]["template"]["metadata"]["labels"], **name}


@pytest.mark.parametrize("stage", [CANDIDATE, BASE, CHECKPOINT])
def test_it_is_for_every_engine_of_the_finetunejob(stage: str) -> None:
    selector = hosting.policy(target())["spec"]["podSelector"]
    assert selected(selector, labels_of(host(target(), stage=stage)))
    assert not selected(selector, labels_of(host(target("others"), stage=stage)))


def test_pods_of_stages_have_policies_of_their_own() -> None:
    selector = hosting.policy(target())["spec"]["podSelector"]
    assert not [made for made in (prepare, train, evaluate) if selected(selector, labels_of(made(target())))]


def test_the_engines_port_is_all_that_can_be_reached() -> None:
    (port,) = host(target())["spec"]["template"]["spec"]["containers"][0]["ports"]
    assert ingress() == [{"ports": [{"port": port["containerPort"], "protocol": "TCP"}]}]


@pytest.mark.parametrize("clients", ["namespace", "none"])
def test_evaluation_and_finetune_api_get_through_whatever_is_set(clients: str) -> None:
    beside, operators = ingress(engine_clients=clients, lease_namespace="finetune-system")
    (peer,) = beside["from"]
    assert selected(peer["podSelector"], labels_of(evaluate(target())))
    assert selected(peer["podSelector"], {"app": "anything"}) == (clients == "namespace")
    assert operators["ports"] == beside["ports"] == [{"port": 8000, "protocol": "TCP"}]
    named = {"matchLabels": {"kubernetes.io/metadata.name": "finetune-system"}}
    assert operators["from"] == [{"namespaceSelector": named}]


def test_it_is_there_before_an_engine_is_and_belongs_to_no_revision(cluster: Rehearsal) -> None:
    cluster.serve()
    made = list(cluster.objects)
    assert made.index(POLICY) < made.index(("Deployment", f"recipes-{cluster.revision}"))
    assert "finetune.dev/revision" not in cluster.objects[POLICY]["metadata"]["labels"]
    # The next revision takes nothing from what serves.
    before = cluster.objects[POLICY]["metadata"]["uid"]
    cluster.edit(training={**cluster.job["spec"]["training"], "seed": 7})
    cluster.serve()
    assert cluster.objects[POLICY]["metadata"]["uid"] == before


def test_what_an_earlier_operator_serves_gets_one(serving: Rehearsal) -> None:
    before = serving.get("Deployment", "")["spec"]
    del serving.objects[POLICY]
    serving.reconcile()
    assert POLICY in serving.objects
    assert serving.get("Deployment", "")["spec"] == before


def test_without_an_engine_there_is_none(cluster: Rehearsal) -> None:
    cluster.edit(hosting={"enabled": False})
    cluster.reconcile()
    cluster.complete("prepare", PREPARED)
    cluster.reconcile()
    cluster.complete("train", TRAINED)
    cluster.reconcile()
    assert cluster.condition("Ready")[0] == "True"
    assert POLICY not in cluster.objects


def test_one_of_that_name_that_is_somebody_elses_is_told_and_left(serving: Rehearsal) -> None:
    theirs = serving.objects[POLICY]
    theirs["metadata"] |= {"ownerReferences": [], "uid": "theirs"}
    serving.reconcile()
    assert serving.objects[POLICY]["metadata"]["uid"] == "theirs"
    status, reason, message = serving.condition("Ready")
    assert (status, reason) == ("False", "NameTaken")
    assert message.startswith("NetworkPolicy recipes-clients ")


def test_settings_name_those_who_may_ask() -> None:
    with pytest.raises(ValueError, match="FINETUNE_ENGINE_CLIENTS must be everyone or namespace or none, not 'all'"):
        Settings.from_environment({"FINETUNE_ENGINE_CLIENTS": "all"})
