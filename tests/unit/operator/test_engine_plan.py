"""The plan of an Engine: what is made, what is told of it, and what is left alone."""

import json
from dataclasses import replace

import pytest
from engines import NOW, SETTINGS, Cluster
from finetune_operator.conditions import Reason
from finetune_operator.engine.kind import KIND
from finetune_operator.kinds.plan import Refusal

TAKEN = {"metadata": {"name": "chat", "namespace": "team", "uid": "theirs"}}
CLAIM = ("PersistentVolumeClaim", "models")


def ended(code: int, message: dict[str, object] | str) -> dict[str, object]:
    text = message if isinstance(message, str) else json.dumps(message)
    return {"terminated": {"exitCode": code, "reason": "Error" if code else "Completed", "message": text}}


def test_it_becomes_a_deployment_a_service_a_policy_and_a_record_of_its_pods() -> None:
    cluster = Cluster()
    cluster.reconcile()
    assert set(cluster.objects) == {
        ("ConfigMap", "chat-engine"),
        ("Service", "chat"),
        ("NetworkPolicy", "chat"),
        ("Deployment", "chat"),
    }
    for raw in cluster.objects.values():
        (owner,) = raw["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["uid"], owner["controller"]) == ("Engine", "the-uid", True)
    assert cluster.condition("Accepted") == ("True", "Accepted", "The manifest is accepted.")
    assert cluster.condition("Ready")[:2] == ("Unknown", "Running")
    assert cluster.engine["status"]["url"] == "http://chat.team.svc/v1"
    assert cluster.engine["status"]["selector"] == "finetune.dev/engine=chat"


def test_once_all_pods_answer_it_is_ready_and_some_make_it_available() -> None:
    cluster = Cluster(replicas=2)
    cluster.reconcile()
    cluster.roll_out(available=1)
    cluster.reconcile()
    assert cluster.condition("Available") == ("True", "Serving", "1 of 2 pods answer.")
    assert cluster.condition("Ready")[0] == "Unknown"
    assert cluster.condition("Reconciling")[0] == "True"
    cluster.roll_out()
    cluster.reconcile()
    assert cluster.condition("Ready") == ("True", "Serving", "http://chat.team.svc/v1 answers as model chat.")
    assert (cluster.engine["status"]["replicas"], cluster.engine["status"]["availableReplicas"]) == (2, 2)


def test_scaled_to_nothing_nothing_answers_and_nothing_is_missing() -> None:
    cluster = Cluster()
    cluster.reconcile()
    cluster.roll_out()
    cluster.edit(replicas=0)
    cluster.reconcile()
    assert cluster.deployment["spec"]["replicas"] == 0
    cluster.roll_out()
    cluster.pod(phase="Running")
    cluster.reconcile()
    for kind in ("Available", "Ready"):
        ending = "Until they have ended, pods hold what they have: chat-1."
        assert cluster.condition(kind) == ("Unknown", "Running", ending)
    cluster.pods = []
    cluster.reconcile()
    assert cluster.condition("Available")[:2] == ("False", "ScaledToZero")
    assert cluster.condition("Ready")[:2] == ("True", "ScaledToZero")


def test_what_the_api_server_has_not_taken_yet_is_not_ready() -> None:
    """An edit that can't be written for a moment is no reason to tell of the old pods as if they were its own."""
    cluster = Cluster()
    cluster.reconcile()
    cluster.roll_out()
    cluster.reconcile()
    cluster.edit(contextLength=512)
    told = {found.type: found.status for found in cluster.look().status.conditions}
    assert (told["Ready"], told["Available"]) == ("Unknown", "True")


def test_another_number_of_replicas_or_another_rollout_keeps_the_pods() -> None:
    cluster = Cluster()
    cluster.reconcile()
    before = cluster.deployment["spec"]["template"]
    cluster.edit(replicas=3, rollout="recreate")
    cluster.settings = replace(SETTINGS, hosting_cpu_image="vllm-cpu:2")
    cluster.reconcile()
    assert cluster.deployment["spec"]["replicas"] == 3
    assert cluster.deployment["spec"]["strategy"] == {"type": "Recreate"}
    assert cluster.deployment["spec"]["template"] == before


def image(cluster: Cluster) -> str:
    return str(cluster.deployment["spec"]["template"]["spec"]["containers"][0]["image"])


def test_another_version_of_the_operator_replaces_no_pod_unless_it_is_asked_to() -> None:
    cluster = Cluster()
    cluster.reconcile()
    cluster.settings = replace(SETTINGS, hosting_cpu_image="vllm-cpu:2", trainer_image="trainer:2")
    assert cluster.look().actions == ()
    cluster.engine["metadata"]["annotations"] = {"finetune.dev/upgrade": "today"}
    cluster.reconcile()
    assert image(cluster) == "vllm-cpu:2"


def test_a_changed_manifest_changes_the_pods() -> None:
    cluster = Cluster()
    cluster.reconcile()
    cluster.edit(contextLength=512)
    cluster.reconcile()
    assert "512" in cluster.deployment["spec"]["template"]["spec"]["containers"][0]["args"]
    assert cluster.look().actions == ()


def test_a_record_that_is_gone_is_made_again() -> None:
    cluster = Cluster()
    cluster.reconcile()
    del cluster.objects["ConfigMap", "chat-engine"]
    cluster.reconcile()
    assert ("ConfigMap", "chat-engine") in cluster.objects


def test_a_name_that_is_taken_is_told_and_nothing_is_made() -> None:
    cluster = Cluster()
    cluster.named = {("Service", "chat"): TAKEN}
    planned = cluster.reconcile()
    assert cluster.objects == {}
    assert cluster.condition("Accepted") == (
        "False",
        "NameTaken",
        "Service chat exists and does not belong to this Engine; delete it, or apply the Engine under another name.",
    )
    assert cluster.condition("Available")[:2] == ("Unknown", "Waiting")
    assert planned.again_after


def test_a_claim_that_is_not_there_is_told() -> None:
    cluster = Cluster(model={"source": "pvc://models/chat"})
    cluster.reconcile()
    assert cluster.condition("Ready") == (
        "False",
        "ObjectNotFound",
        "Not in namespace team: PersistentVolumeClaim models. Create it, or correct model.source.",
    )
    cluster.named = {CLAIM: {"metadata": {"name": "models", "namespace": "team"}}, ("Service", "chat"): None}
    cluster.reconcile()
    assert cluster.condition("Accepted")[0] == "True"


def test_a_manifest_that_an_older_schema_let_through_is_told_and_what_answers_goes_on() -> None:
    cluster = Cluster()
    cluster.reconcile()
    cluster.roll_out()
    cluster.edit(arguments=["--enable-lora"], storige=1)
    planned = cluster.reconcile()
    assert planned.actions == ()
    status, reason, message = cluster.condition("Accepted")
    assert (status, reason) == ("False", "Invalid")
    assert "spec.arguments[0]: must be one of vLLM's arguments" in message
    assert "spec.storige: is not a field; did you mean storage?" in message
    assert cluster.condition("Available") == ("True", "Serving", "1 of 1 pods answer.")


@pytest.fixture
def starting() -> Cluster:
    """An Engine whose pod is there, and does not answer yet."""
    cluster = Cluster()
    cluster.reconcile()
    return cluster


def test_while_the_model_is_fetched_it_says_so(starting: Cluster) -> None:
    starting.pod(fetch={"running": {}})
    starting.reconcile()
    expected = "Deployment chat is starting: its pods fetch the model."
    assert starting.condition("Ready") == ("Unknown", "Running", expected)


def test_a_model_that_cannot_be_fetched_is_told_in_the_trainers_words(starting: Cluster) -> None:
    said = "hf://org/model is gated: accept its terms on the hub; no HF_TOKEN is given."
    starting.pod(fetch=ended(77, {"reason": "AccessDenied", "message": said}))
    starting.reconcile()
    assert starting.condition("Ready") == ("False", "AccessDenied", f"{said} Pod chat-1 tries again by itself.")
    assert starting.condition("Stalled")[0] == "True"


def test_a_secret_that_is_missing_is_told(starting: Cluster) -> None:
    waiting = {"reason": "CreateContainerConfigError", "message": 'secret "hub" not found'}
    starting.pod(fetch={"waiting": waiting})
    starting.reconcile()
    assert starting.condition("Ready")[1:] == (
        "SecretNotFound",
        "Secret hub does not exist; create it in this namespace and pod chat-1 starts by itself.",
    )


def test_an_engine_that_keeps_crashing_is_told_with_the_end_of_its_log(starting: Cluster) -> None:
    crashed = {"name": "engine", "restartCount": 3, "state": ended(1, "ValueError: no kernel image")}
    fetched = ended(0, {"reason": "Succeeded", "result": {"commit": "abc"}})
    starting.pod(fetch=fetched, phase="Running", containerStatuses=[crashed])
    starting.reconcile()
    status, reason, message = starting.condition("Ready")
    assert (status, reason) == ("False", "EngineFailed")
    assert "The engine crashed 3 times." in message
    assert message.endswith("ValueError: no kernel image")


def test_so_is_the_container_beside_it_that_loads_adapters() -> None:
    cluster = Cluster(lora={})
    cluster.reconcile()
    cluster.reconcile()
    killed = {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}
    waits = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 5m0s"}}
    fetched = {"reason": "Succeeded", "result": {"commit": "abc"}}
    engine = {"name": "engine", "restartCount": 0, "ready": True, "state": {"running": {}}}
    loads = {"name": "adapters", "restartCount": 3, "ready": False, "lastState": killed}
    told = (
        "The container that loads adapters crashed 3 times. Pod chat-1 used more host memory than its limit of 1Gi and "
        "was killed."
    )
    for state in (waits, killed, {"running": {}}):
        cluster.pod(fetch=ended(0, fetched), phase="Running", containerStatuses=[engine, loads | {"state": state}])
        cluster.reconcile()
        status, reason, message = cluster.condition("Ready")
        assert (status, reason) == ("False", "MemoryLimitExceeded")
        assert told in message


def serve(cluster: Cluster, *commits: str) -> None:
    for number, commit in enumerate(commits):
        cluster.pod(f"chat-{number}", ended(0, {"reason": "Succeeded", "result": {"commit": commit}}), phase="Running")
    cluster.roll_out()
    cluster.reconcile()


def test_the_commit_is_told_that_all_pods_serve() -> None:
    cluster = Cluster()
    cluster.reconcile()
    serve(cluster, "abc", "abc")
    assert cluster.engine["status"]["model"] == {"name": "chat", "commit": "abc"}
    cluster.pods = []
    cluster.reconcile()
    assert cluster.engine["status"]["model"]["commit"] == "abc", "its pods are replaced"


def test_pods_that_serve_different_commits_are_told() -> None:
    cluster = Cluster()
    cluster.reconcile()
    serve(cluster, "abc", "def")
    assert "commit" not in cluster.engine["status"]["model"]
    assert cluster.condition("Ready")[2].endswith(
        "Its pods serve different commits, abc, def: set model.revision to one of them."
    )


def test_what_the_api_server_refuses_is_told() -> None:
    cluster = Cluster()
    cluster.reconcile()
    cluster.refuse(Refusal("work", Reason.REFUSED, "The API server refused Deployment chat: exceeded quota"))
    for kind in ("Available", "Ready"):
        assert cluster.condition(kind) == (
            "False",
            "Refused",
            "The API server refused Deployment chat: exceeded quota",
        )


def test_a_fault_of_the_operator_changes_nothing_and_is_told(starting: Cluster) -> None:
    planned = KIND.broken(starting.snapshot(), "KeyError: 'a'", NOW)
    assert planned.actions == ()
    told = {found.type: found for found in planned.status.conditions}
    assert told["Ready"].reason == "InternalError"
    assert told["Ready"].message.startswith("The operator failed on this Engine")
    assert told["Accepted"].status == "True"


def test_one_that_is_deleted_is_left_to_the_garbage_collector(starting: Cluster) -> None:
    starting.engine["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert starting.look().actions == ()


def test_events_tell_of_what_changed() -> None:
    cluster = Cluster()
    cluster.reconcile()
    cluster.roll_out()
    said = [(event.type, event.reason) for event in cluster.look().events]
    assert said == [("Normal", "Serving"), ("Normal", "Serving")]
