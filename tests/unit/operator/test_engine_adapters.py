"""What an Engine has loaded for FineTuneJobs: who is told what, and what status says of each adapter."""

import json
from typing import Any

import pytest
from engines import Cluster
from finetune_operator.kinds.actions import Patch
from finetune_trainer.contract.adapters import HeldAdapters

DIGEST = "sha256:" + "a" * 64
ANNOTATION = "finetune.dev/adapters"


def adapter(job: str = "recipes", revision: str = "0a1b2c3d", owner: str = "uid-1") -> dict[str, Any]:
    """What a FineTuneJob makes of a revision that it wants loaded."""
    name = f"{job}-{revision}"
    text = json.dumps({"name": name, "uri": f"s3://models/{revision}", "digest": DIGEST})
    return {"metadata": metadata(f"{name}-on-chat", job, revision, owner), "data": {"adapter.json": text}}


def service(job: str = "recipes", revision: str = "0a1b2c3d", owner: str = "uid-1") -> dict[str, Any]:
    """And for the name by which clients ask for it."""
    return {"metadata": metadata(job, job, revision, owner), "spec": {"selector": {"finetune.dev/engine": "chat"}}}


def metadata(name: str, job: str, revision: str, owner: str) -> dict[str, Any]:
    reference = {"kind": "FineTuneJob", "name": job, "uid": owner, "controller": True}
    labels = {"finetune.dev/revision": revision, "finetune.dev/loaded-on": "chat"}
    return {"name": name, "namespace": "team", "uid": name, "labels": labels, "ownerReferences": [reference]}


READY = [{"type": "Ready", "status": "True"}]


@pytest.fixture
def cluster() -> Cluster:
    """An Engine of two pods that answer, with room for adapters."""
    found = Cluster(replicas=2, lora={})
    found.reconcile()
    found.roll_out()
    for number in (1, 2):
        found.pod(f"chat-{number}", phase="Running", podIP=f"10.0.0.{number}", conditions=READY)
    found.reconcile()
    return found


def listed(cluster: Cluster) -> dict[str, Any]:
    """What a new pod begins with."""
    return dict(json.loads(cluster.objects["ConfigMap", "chat-engine"]["data"]["adapters.json"]))


def told(cluster: Cluster) -> list[dict[str, Any]]:
    """What each pod's annotation says."""
    return [json.loads(raw["metadata"]["annotations"][ANNOTATION]) for raw in cluster.pods]


def status(cluster: Cluster) -> list[dict[str, Any]]:
    cluster.reconcile()
    return list(cluster.engine["status"].get("adapters", []))


def test_what_is_wanted_is_told_every_pod_and_kept_for_new_ones(cluster: Cluster) -> None:
    nothing = {"adapters": [], "aliases": {}}
    assert listed(cluster) == nothing
    cluster.loads = {"ConfigMap": [adapter()], "Service": [service()]}
    cluster.reconcile()
    one = {"name": "recipes-0a1b2c3d", "uri": "s3://models/0a1b2c3d", "digest": DIGEST}
    wanted = {"adapters": [one], "aliases": {"recipes": "recipes-0a1b2c3d"}}
    assert listed(cluster) == wanted
    assert told(cluster) == [wanted, wanted]
    assert cluster.look().actions == ()
    # A new pod is told like the others; one that ends is left alone.
    cluster.pod("chat-3")
    cluster.pods[0]["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    cluster.loads = {}
    assert {action.ref.name for action in cluster.look().actions} == {"chat-engine", "chat-2", "chat-3"}
    cluster.reconcile()
    assert told(cluster) == [wanted, nothing, nothing]


def test_no_pod_is_replaced_for_an_adapter(cluster: Cluster) -> None:
    before = cluster.deployment["spec"]["template"]
    cluster.loads = {"ConfigMap": [adapter()], "Service": [service()]}
    cluster.reconcile()
    assert cluster.deployment["spec"]["template"] == before


def test_the_same_list_is_written_once_in_whatever_order_it_is_told(cluster: Cluster) -> None:
    both = [adapter(), adapter("labels")]
    cluster.loads = {"ConfigMap": both}
    cluster.reconcile()
    cluster.loads = {"ConfigMap": both[::-1]}
    assert cluster.look().actions == ()


def test_a_name_may_be_asked_for_before_the_finetunejobs_own_service_leads_here(cluster: Cluster) -> None:
    asking = service()
    asking["metadata"]["name"] = "recipes-0a1b2c3d-on"
    cluster.loads = {"ConfigMap": [adapter()], "Service": [asking]}
    cluster.reconcile()
    assert listed(cluster)["aliases"] == {"recipes": "recipes-0a1b2c3d"}


def test_a_name_is_given_to_none_but_its_own_finetunejob(cluster: Cluster) -> None:
    cluster.loads = {"ConfigMap": [adapter()], "Service": [service(owner="uid-2"), service("other")]}
    cluster.reconcile()
    assert listed(cluster)["aliases"] == {}


@pytest.mark.parametrize(
    "bad",
    [
        {"data": {"adapter.json": "{"}},
        {"data": {}},
        {"data": adapter("another")["data"]},
        {"metadata": adapter()["metadata"] | {"deletionTimestamp": "2026-01-01T00:00:00Z"}},
    ],
    ids=["no JSON", "nothing", "another's name", "going"],
)
def test_what_can_not_be_meant_keeps_the_others_from_nothing(cluster: Cluster, bad: dict[str, Any]) -> None:
    cluster.loads = {"ConfigMap": [adapter() | bad, adapter("labels")]}
    cluster.reconcile()
    assert [found["name"] for found in listed(cluster)["adapters"]] == ["labels-0a1b2c3d"]


def test_an_adapter_is_there_when_every_pod_has_it(cluster: Cluster) -> None:
    cluster.loads = {"ConfigMap": [adapter()], "Service": [service()]}
    (told,) = status(cluster)
    assert (told["pods"], told["loaded"], told["missing"]) == (2, 0, ["chat-1", "chat-2"])
    asked = {name: each.address for name, each in cluster.look().ask.items() if name in ("chat-1", "chat-2")}
    assert asked == {"chat-1": "10.0.0.1", "chat-2": "10.0.0.2"}
    assert cluster.look().soon
    having = HeldAdapters(loaded=("recipes-0a1b2c3d",), aliases={"recipes": "recipes-0a1b2c3d"})
    cluster.answers = {"chat-1": having, "chat-2": HeldAdapters()}
    assert status(cluster)[0]["missing"] == ["chat-2"]
    cluster.answers = {"chat-1": having, "chat-2": HeldAdapters(loaded=("recipes-0a1b2c3d",))}
    assert status(cluster) == [{"name": "recipes-0a1b2c3d", "pods": 2, "loaded": 2, "answersAs": [], "failed": []}]
    assert cluster.look().soon
    cluster.answers["chat-2"] = having
    assert status(cluster) == [
        {"name": "recipes-0a1b2c3d", "pods": 2, "loaded": 2, "answersAs": ["recipes"], "failed": []}
    ]
    assert not cluster.look().soon
    url = "http://chat.team.svc/v1 answers as model chat. It has been asked for 1 adapter."
    assert cluster.condition("Ready") == ("True", "Serving", url)


def test_a_pod_that_nobody_reaches_yet_is_not_counted(cluster: Cluster) -> None:
    """One that waits for a node, or for its adapters, keeps no promotion waiting."""
    cluster.loads = {"ConfigMap": [adapter()]}
    having = HeldAdapters(loaded=("recipes-0a1b2c3d",))
    cluster.answers = {"chat-1": having, "chat-2": having}
    cluster.pod("chat-3", phase="Pending")
    (found,) = status(cluster)
    assert (found["pods"], found["loaded"]) == (2, 2)
    cluster.pod("chat-3", phase="Running", podIP="10.0.0.3")
    cluster.answers["chat-3"] = having
    (found,) = status(cluster)
    assert (found["pods"], found["loaded"]) == (2, 2)


def test_a_pod_that_can_not_load_one_is_told_and_the_engine_serves_the_rest(cluster: Cluster) -> None:
    cluster.loads = {"ConfigMap": [adapter()]}
    failed = HeldAdapters(failed={"recipes-0a1b2c3d": "s3://models/0a1b2c3d does not exist."})
    cluster.answers = {"chat-1": HeldAdapters(loaded=("recipes-0a1b2c3d",)), "chat-2": failed}
    (found,) = status(cluster)
    assert found["loaded"] == 1
    assert found["failed"] == [{"pod": "chat-2", "message": "s3://models/0a1b2c3d does not exist."}]
    assert not cluster.look().soon
    assert cluster.condition("Ready")[0] == "True"
    assert "Some pods can't load recipes-0a1b2c3d: see status.adapters." in cluster.condition("Ready")[2]


def test_an_operator_that_has_asked_no_pod_yet_repeats_what_was_told(cluster: Cluster) -> None:
    """Or what follows an Engine would see all adapters go and come at each restart."""
    cluster.loads = {"ConfigMap": [adapter()]}
    cluster.answers = dict.fromkeys(("chat-1", "chat-2"), HeldAdapters(loaded=("recipes-0a1b2c3d",)))
    assert status(cluster)[0]["loaded"] == 2
    asked, cluster.answers = cluster.answers, {}
    assert status(cluster)[0]["loaded"] == 2
    cluster.answers = {"chat-1": asked["chat-1"]}
    assert status(cluster)[0]["loaded"] == 2
    # One that came meanwhile is waited for: it may have become ready without.
    cluster.pod("chat-3", phase="Running", podIP="10.0.0.3", conditions=READY)
    assert (status(cluster)[0]["loaded"], status(cluster)[0]["pods"]) == (2, 3)
    cluster.pods.pop()
    cluster.answers["chat-2"] = HeldAdapters()
    assert status(cluster)[0]["loaded"] == 1
    # A pod that does not serve yet keeps nobody from saying that it has nothing.
    cluster.pod("chat-2", phase="Pending")
    cluster.answers = {"chat-1": asked["chat-1"]}
    assert status(cluster)[0]["loaded"] == 1


def test_a_pod_that_gives_no_answer_hides_nothing_that_others_say(cluster: Cluster) -> None:
    cluster.loads = {"ConfigMap": [adapter()]}
    assert status(cluster)[0]["loaded"] == 0
    cluster.answers = {"chat-1": HeldAdapters(failed={"recipes-0a1b2c3d": "It is not signed."}), "chat-2": None}
    assert status(cluster)[0]["failed"] == [{"pod": "chat-1", "message": "It is not signed."}]
    assert (
        "What chat-2 has is not known: no answer comes from its container adapters; see its log, and whether a "
        "NetworkPolicy keeps the operator away."
    ) in cluster.condition("Ready")[2]
    cluster.answers = {"chat-1": HeldAdapters(loaded=("recipes-0a1b2c3d",)), "chat-2": None}
    assert status(cluster)[0]["loaded"] == 1


def test_the_answers_of_a_pod_that_is_gone_count_for_nothing(cluster: Cluster) -> None:
    cluster.loads = {"ConfigMap": [adapter()]}
    cluster.answers = {"chat-0": HeldAdapters(loaded=("recipes-0a1b2c3d",))}
    assert status(cluster)[0]["loaded"] == 0


def test_more_adapters_than_at_once_are_told_what_that_costs(cluster: Cluster) -> None:
    cluster.loads = {"ConfigMap": [adapter(f"job-{number}") for number in range(5)]}
    cluster.reconcile()
    assert "Of 5 no more than 4 have requests computed at once" in cluster.condition("Ready")[2]


def test_an_engine_without_room_for_adapters_takes_none() -> None:
    cluster = Cluster()
    cluster.loads = {"ConfigMap": [adapter()], "Service": [service()]}
    cluster.reconcile()
    cluster.roll_out()
    cluster.pod("chat-1", phase="Running", podIP="10.0.0.1")
    planned = cluster.reconcile()
    assert "adapters.json" not in cluster.objects["ConfigMap", "chat-engine"]["data"]
    assert (planned.ask, planned.soon, cluster.engine["status"]["adapters"]) == ({}, False, [])
    assert ANNOTATION not in cluster.pods[0]["metadata"].get("annotations", {})
    # With room for them, the pods are made anew, and the first of them has them.
    cluster.edit(lora={"atOnce": 2})
    cluster.reconcile()
    assert len(listed(cluster)["adapters"]) == 1


def test_who_may_not_patch_pods_is_told_what_that_is_for(cluster: Cluster) -> None:
    cluster.loads = {"ConfigMap": [adapter()]}
    patches = [action for action in cluster.look().actions if isinstance(action, Patch) and action.ref.kind == "Pod"]
    assert {patch.advice for patch in patches} == {
        "Adapters reach running pods by it: let the operator patch pods, as its chart does."
    }


def test_a_container_that_can_not_start_beside_the_engine_is_told(cluster: Cluster) -> None:
    """The engine runs, and the pod will never be ready."""
    waiting = {"reason": "ImagePullBackOff", "message": "not found"}
    states = [{"name": "engine", "state": {"running": {}}}, {"name": "adapters", "state": {"waiting": waiting}}]
    cluster.roll_out(available=0)
    cluster.pod("chat-1", phase="Running", containerStatuses=states)
    cluster.reconcile()
    status, reason, message = cluster.condition("Ready")
    assert (status, reason) == ("False", "ImageNotPulled")
    assert "Image trainer:1 of pod chat-1 can't be pulled" in message
    # One that is only being created is waited for.
    states[1] = {"name": "adapters", "state": {"waiting": {"reason": "ContainerCreating"}}}
    cluster.reconcile()
    assert cluster.condition("Ready")[:2] == ("Unknown", "Running")


def test_only_what_a_pod_has_is_news(cluster: Cluster) -> None:
    shown = cluster.look().ask["chat-1"].topic.shown
    assert shown(HeldAdapters(loaded=("a",))) != shown(HeldAdapters())
