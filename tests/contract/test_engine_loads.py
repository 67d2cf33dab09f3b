"""Adapters on an Engine, on a real API server: from a wish to each pod's annotation, and back in status."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from bad_engines import SMALLEST
from control_plane import Kubectl
from finetune_operator import names
from finetune_trainer.contract.adapters import HeldAdapters
from loading import DIGEST, Telling, adapter, pod, service, telling
from operator_process import OperatorProcess
from playing import Played
from test_engine import get, roll_out, wait

REVISION, NEXT = "0a1b2c3d", "1a2b3c4d"
WANTED = r"{.metadata.annotations.finetune\.dev/adapters}"


@pytest.fixture
def told() -> Iterator[list[Telling]]:
    """Three pods' containers that load adapters."""
    with telling() as first, telling() as second, telling() as third:
        yield [first, second, third]


@pytest.fixture
def job(kubectl: Kubectl, operator: OperatorProcess, played: Played) -> dict[str, Any]:
    """A FineTuneJob of which nothing comes by itself, since it is on its way out; and an Engine of two pods."""
    played.create(suspend=True)
    kubectl("patch", "ftj", "recipes", "--type=merge", "-p", '{"metadata": {"finalizers": ["test/stays"]}}')
    kubectl("delete", "ftj", "recipes", "--wait=false")
    wait(kubectl, "ftj/recipes", "jsonpath={.metadata.deletionTimestamp}")
    kubectl("apply", "-f-", document=SMALLEST | {"spec": SMALLEST["spec"] | {"replicas": 2, "lora": {}}})
    wait(kubectl, "deployment/chat", "create")
    roll_out(kubectl, 2)
    wait(kubectl, "eng/chat", "condition=Ready")
    return played.job()


def statuses(kubectl: Kubectl) -> list[dict[str, Any]]:
    return list(get(kubectl, "eng")["status"].get("adapters", []))


def listed(kubectl: Kubectl) -> str:
    """What a new pod begins with."""
    return str(get(kubectl, "configmap", "chat-engine")["data"]["adapters.json"])


def asked(kubectl: Kubectl, pod: str) -> Any:
    """What a pod is told to have."""
    return json.loads(get(kubectl, "pod", pod)["metadata"].get("annotations", {}).get(names.ADAPTERS_WANTED, "null"))


def test_an_adapter_reaches_every_pod_and_status_says_where_it_is(
    kubectl: Kubectl, operator: OperatorProcess, job: dict[str, Any], told: list[Telling]
) -> None:
    first, second, third = told
    for number, each in enumerate((first, second), 1):
        pod(kubectl, f"chat-{number}", each.address)
    for manifest in (adapter(job, REVISION), service(job, REVISION)):
        kubectl("create", "-f-", document=manifest)
    one = {"name": f"recipes-{REVISION}", "uri": f"s3://models/{REVISION}", "digest": DIGEST}
    wanted = {"adapters": [one], "aliases": {"recipes": f"recipes-{REVISION}"}}
    # The Service comes after the adapter, and each is news.
    for name in ("chat-1", "chat-2"):
        operator.eventually(lambda name=name: asked(kubectl, name) == wanted)
    operator.eventually(lambda: json.loads(listed(kubectl)) == wanted)
    # One pod has it, the other can't load it: both are told.
    having = HeldAdapters(loaded=(f"recipes-{REVISION}",), aliases={"recipes": f"recipes-{REVISION}"})
    first.held = having
    second.held = HeldAdapters(failed={f"recipes-{REVISION}": "s3://models does not exist."})
    failed = [{"pod": "chat-2", "message": "s3://models does not exist."}]
    # Each pod is asked by itself, and one may have been just before it had news.
    operator.eventually(lambda: [(found["loaded"], found["failed"]) for found in statuses(kubectl)] == [(1, failed)])
    assert "Some pods can't load recipes-0a1b2c3d" in str(get(kubectl, "eng")["status"]["conditions"])
    # A new pod in its place is told like the others.
    third.held = having
    kubectl("delete", "pod", "chat-2", "--grace-period=0", "--force")
    pod(kubectl, "chat-3", third.address)
    wait(kubectl, "pod/chat-3", f"jsonpath={WANTED}")
    there = {"name": f"recipes-{REVISION}", "pods": 2, "loaded": 2, "answersAs": ["recipes"], "failed": []}
    operator.eventually(lambda: statuses(kubectl) == [there])
    # At rest nothing is written, nor by another operator.
    before = {
        name: get(kubectl, *name.split("/"))["metadata"]["resourceVersion"]
        for name in (
            "pod/chat-1",
            "pod/chat-3",
            "configmap/chat-engine",
            "deployment/chat",
            "eng/chat",
        )
    }
    operator.kill()
    operator.start()
    operator.settle()
    assert {name: get(kubectl, *name.split("/"))["metadata"]["resourceVersion"] for name in before} == before
    # What is no longer wanted goes from the list, and no pod was replaced for any of it.
    template = get(kubectl, "deployment")["spec"]["template"]
    kubectl("delete", "configmap", f"recipes-{REVISION}-on-chat")
    operator.eventually(lambda: statuses(kubectl) == [])
    nothing = {"adapters": [], "aliases": {}}
    assert asked(kubectl, "chat-1") == nothing
    assert json.loads(listed(kubectl)) == nothing
    assert get(kubectl, "deployment")["spec"]["template"] == template


def test_another_revision_takes_the_name_once_all_pods_have_it(
    kubectl: Kubectl, operator: OperatorProcess, job: dict[str, Any], told: list[Telling]
) -> None:
    first, second, _ = told
    for number, each in enumerate((first, second), 1):
        pod(kubectl, f"chat-{number}", each.address)
    for manifest in (adapter(job, REVISION), service(job, REVISION), adapter(job, NEXT)):
        kubectl("create", "-f-", document=manifest)
    old, new = (f"recipes-{each}" for each in (REVISION, NEXT))
    both = HeldAdapters(loaded=(old, new), aliases={"recipes": old})
    first.held = second.held = both
    operator.eventually(lambda: [found["loaded"] for found in statuses(kubectl)] == [2, 2])
    assert [found["answersAs"] for found in statuses(kubectl)] == [["recipes"], []]
    patch = json.dumps({"metadata": {"labels": {"finetune.dev/revision": NEXT}}})
    kubectl("patch", "service", "recipes", "--type=merge", "-p", patch)
    first.held = both.model_copy(update={"aliases": {"recipes": new}})
    operator.eventually(lambda: [found["answersAs"] for found in statuses(kubectl)] == [[], []])
    second.held = first.held
    operator.eventually(lambda: [found["answersAs"] for found in statuses(kubectl)] == [[], ["recipes"]])


def test_what_nobody_of_ours_controls_is_not_loaded(kubectl: Kubectl, job: dict[str, Any]) -> None:
    """Whoever may write ConfigMaps may set any label."""
    forged = adapter(job | {"metadata": job["metadata"] | {"uid": "another"}}, NEXT)
    kubectl("create", "-f-", document=forged)
    kubectl("create", "-f-", document=adapter(job, REVISION))
    wait(kubectl, "eng/chat", "jsonpath={.status.adapters[*].name}=recipes-0a1b2c3d")
    assert NEXT not in listed(kubectl)


def test_an_engine_tells_how_busy_it_is_and_is_at_rest_while_nobody_asks(
    kubectl: Kubectl, operator: OperatorProcess, told: list[Telling]
) -> None:
    kubectl("apply", "-f-", document=SMALLEST | {"spec": SMALLEST["spec"] | {"idleAfter": "1m"}})
    wait(kubectl, "deployment/chat", "create")
    roll_out(kubectl, 1)
    told[0].running = 3
    pod(kubectl, "chat-1", told[0].address)
    wait(kubectl, "eng/chat", "jsonpath={.status.requests.running}=3")
    # That it is looked at again and again is nothing to write about.
    told[0].ended = 7
    operator.settle()
    before = get(kubectl, "eng")["metadata"]["resourceVersion"]
    told[0].ended = 8
    operator.settle()
    assert get(kubectl, "eng")["metadata"]["resourceVersion"] == before


def test_a_finetunejob_tells_how_busy_its_own_engine_is(
    kubectl: Kubectl, operator: OperatorProcess, played: Played, told: list[Telling]
) -> None:
    told[0].running = 3
    played.create()
    played.serve()
    pod(kubectl, "recipes-1", told[0].address, names.of_revision("recipes", played.revision))
    wait(kubectl, "ftj/recipes", "jsonpath={.status.requests.running}=3")
    status = played.job()["status"]
    assert (status["replicas"], status["availableReplicas"]) == (1, 1)
    assert [each["pod"] for each in status["requests"]["pods"]] == ["recipes-1"]
    # As long as it is the same nothing is written, nor by another operator.
    operator.settle()
    before = played.versions()
    operator.kill()
    operator.start()
    operator.settle()
    assert played.versions() == before
