"""The whole path on a real cluster: from one manifest to a served model, with everything killed on the way."""

import base64
import json
import subprocess
import time
from collections.abc import Iterator

import pytest
from kube import ENVIRONMENT, KUBECTL, apply, get, items, kill, kubectl, picture_on_failure, wait
from recipes import NAME, answers, client, held_out, manifest

SYSTEM = "finetune-system"
FTJ = f"ftj/{NAME}"
# Training takes two to three minutes on two idle cores; machines are shared, and a test is no benchmark.
READY_SECONDS = STAGE_SECONDS = 1500


def stage_pod(namespace: str, stage: str, revision: str) -> str:
    """The newest pod of a stage, once it is there."""
    selector = f"finetune.dev/job={NAME},finetune.dev/stage={stage},finetune.dev/revision={revision}"
    deadline = time.monotonic() + STAGE_SECONDS
    with picture_on_failure(namespace):
        while (left := int(deadline - time.monotonic())) > 0:
            kubectl(
                *("wait", "pod", "-n", namespace, "-l", selector, "--for=create", f"--timeout={left}s"),
                timeout=left + 30,
            )
            pods = [
                pod for pod in items("pod", namespace, selector) if pod["status"]["phase"] in ("Pending", "Running")
            ]
            if pods:
                return str(max(pods, key=lambda pod: pod["metadata"]["creationTimestamp"])["metadata"]["name"])
        raise AssertionError(f"no pod of {stage} runs")


def running(namespace: str, stage: str, revision: str) -> str:
    pod = stage_pod(namespace, stage, revision)
    wait(namespace, f"pod/{pod}", "jsonpath={.status.phase}=Running", STAGE_SECONDS)
    return pod


def kill_operator() -> None:
    """SIGKILL the operator, the one that waits too; its Deployment starts both again."""
    selector = "app.kubernetes.io/name=finetune-operator"
    for pod in items("pod", SYSTEM, selector):
        if pod["status"]["phase"] == "Running":
            kill(SYSTEM, pod["metadata"]["name"])


def versions(namespace: str) -> dict[str, str]:
    """The resourceVersion of the FineTuneJob and of everything made for it."""
    found = {}
    for kind in ("ftj", "jobs", "deployments", "services", "configmaps", "pvc"):
        selector = "" if kind == "ftj" else f"finetune.dev/job={NAME}"
        for raw in items(kind, namespace, selector):
            found[f"{kind}/{raw['metadata']['name']}"] = raw["metadata"]["resourceVersion"]
    return found


def revision(namespace: str) -> str:
    return str(get("ftj", NAME, namespace)["status"]["revision"])


@pytest.fixture(scope="module")
def served(kitchen: str) -> str:
    """The recipe assistant, Ready, although the operators were killed while it was prepared, trained and hosted."""
    apply_job(kitchen, maxSteps=45)
    wait(kitchen, FTJ, "jsonpath={.status.revision}", 60)
    rev = revision(kitchen)
    running(kitchen, "prepare", rev)
    kill_operator()
    running(kitchen, "train", rev)
    kill_operator()
    wait(kitchen, FTJ, "jsonpath={.status.progress.stage}=train", STAGE_SECONDS)
    running(kitchen, "host", rev)
    kill_operator()
    wait(kitchen, FTJ, "condition=Ready", READY_SECONDS)
    return kitchen


def apply_job(namespace: str, **training: object) -> None:
    kubectl("apply", "-n", namespace, "-f", "-", stdin=json.dumps(manifest(**training)))


def test_kubectl_tells_the_truth(served: str) -> None:
    job = get("ftj", NAME, served)
    assert job["status"]["phase"] == "Serving"
    assert job["status"]["endpoint"] == {"url": f"http://{NAME}.{served}.svc/v1", "model": NAME}
    assert job["status"]["artifact"]["digest"].startswith("sha256:")
    assert job["status"]["usage"]["trainedTokens"] > 1000
    assert {condition["type"]: condition["status"] for condition in job["status"]["conditions"]} == {
        "Accepted": "True",
        "DataReady": "True",
        "Trained": "True",
        "Hosted": "True",
        # evaluation.enabled is false here; test_worth has what is measured.
        "Evaluated": "False",
        "Promoted": "True",
        "Ready": "True",
    }
    columns = kubectl("get", "ftj", "-n", served).splitlines()
    assert columns[0].split() == ["NAME", "READY", "PHASE", "PROGRESS", "METRIC", "BEST-BASELINE", "ENDPOINT", "AGE"]
    events = kubectl("get", "events", "-n", served, "--field-selector", f"involvedObject.name={NAME}")
    assert "Serving" in events


def test_no_secret_stands_anywhere_but_in_its_secret(served: str) -> None:
    secret = get("secret", "bucket", served)["data"]["AWS_SECRET_ACCESS_KEY"]
    plain = base64.b64decode(secret).decode()
    objects = kubectl("get", "ftj,jobs,pods,configmaps,events,deployments", "-n", served, "-o", "yaml")
    logs = kubectl("logs", "-n", SYSTEM, "--selector=app.kubernetes.io/name=finetune-operator", "--tail=-1")
    assert plain not in objects + logs
    assert secret not in objects + logs


def test_kopf_leaves_no_mark_on_the_users_object(served: str) -> None:
    metadata = get("ftj", NAME, served)["metadata"]
    assert "finalizers" not in metadata
    assert not [key for key in metadata.get("annotations", {}) if "kopf" in key]


def test_at_rest_nothing_is_written_even_when_the_operator_starts_again(served: str) -> None:
    before = versions(served)
    kubectl("rollout", "restart", "deployment/finetune-operator", "-n", SYSTEM)
    kubectl("rollout", "status", "deployment/finetune-operator", "-n", SYSTEM, "--timeout=120s", timeout=150)
    # A watch that sees no change for a while, rather than a sleep.
    watch = subprocess.run(
        [str(KUBECTL), "get", "ftj", "-n", served, "--watch-only", "--request-timeout=20s"],
        capture_output=True,
        text=True,
        timeout=60,
        env=ENVIRONMENT,
    )
    assert watch.stdout == ""
    assert versions(served) == before


def test_the_tuned_model_beats_the_base_model_on_held_out_rows(served: str) -> None:
    client(served, "ask", "ask", f"http://{NAME}.{served}.svc/v1", NAME, f"{NAME}-base", rows=held_out())
    right = {NAME: 0, f"{NAME}-base": 0}
    for answer in answers(served, "ask", READY_SECONDS):
        right[answer["model"]] += answer["said"] == answer["expected"]
    assert right[NAME] >= len(held_out()) / 2, right
    assert right[f"{NAME}-base"] <= 2, right


@pytest.fixture(scope="module")
def load(served: str) -> Iterator[str]:
    """A client that never stops asking."""
    client(served, "load", "load", f"http://{NAME}.{served}.svc/v1", NAME)
    wait(served, "job/load", "jsonpath={.status.ready}=1", 120)
    yield served
    if items("job", served, ""):
        kubectl("delete", "job", "load", "-n", served, "--ignore-not-found")


def test_a_new_seed_trains_a_revision_that_takes_over_without_a_failed_request(load: str) -> None:
    old = revision(load)
    apply_job(load, maxSteps=12, seed=7)
    wait(load, FTJ, "condition=Ready=Unknown", 60)
    new = revision(load)
    assert new != old
    pod = running(load, "train", new)
    wait(load, FTJ, "jsonpath={.status.progress.stage}=train", STAGE_SECONDS)

    # Suspended, the work's pods go and what serves goes on; resumed, it goes on from its checkpoint.
    kubectl("patch", "ftj", NAME, "-n", load, "--type=merge", "-p", '{"spec": {"suspend": true}}')
    wait(load, FTJ, "jsonpath={.status.phase}=Suspended", 60)
    wait(load, f"pod/{pod}", "delete", 330)
    assert get("service", NAME, load)["spec"]["selector"]["finetune.dev/revision"] == old
    kubectl("patch", "ftj", NAME, "-n", load, "--type=merge", "-p", '{"spec": {"suspend": false}}')

    # The trainer is killed, and the Job starts it again.
    kill(load, running(load, "train", new))
    wait(load, FTJ, "condition=Ready", READY_SECONDS)
    assert get("service", NAME, load)["spec"]["selector"]["finetune.dev/revision"] == new
    wait(load, f"deployment/{NAME}-{old}", "delete", 300)

    pods = items("pod", load, "job-name=load")
    kubectl("exec", "-n", load, pods[0]["metadata"]["name"], "--", "touch", "/tmp/stop")
    said = answers(load, "load", 120)
    assert len(said) > 20
    assert [answer for answer in said if not answer["ok"]] == []


def test_bad_rows_are_refused_with_file_and_line_before_anything_is_trained(kitchen: str) -> None:
    bad = manifest("bad", train="s3://recipes/bad.jsonl", maxSteps=2)
    kubectl("apply", "-n", kitchen, "-f", "-", stdin=json.dumps(bad))
    wait(kitchen, "ftj/bad", "condition=DataReady=False", STAGE_SECONDS)
    job = get("ftj", "bad", kitchen)
    condition = next(found for found in job["status"]["conditions"] if found["type"] == "DataReady")
    assert condition["reason"] == "DataInvalid"
    assert "bad.jsonl:1: has no message of the assistant" in condition["message"]
    assert "bad.jsonl:2: has no messages" in condition["message"]
    assert "bad.jsonl:3: is not JSON" in condition["message"]
    assert not items("job", kitchen, "finetune.dev/job=bad,finetune.dev/stage=train")
    kubectl("delete", "ftj", "bad", "-n", kitchen)


def test_a_missing_secret_is_named_and_the_job_goes_on_once_it_is_there(kitchen: str, bucket: dict[str, str]) -> None:
    late = manifest("late", maxSteps=2)
    for part in ("model", "dataset"):
        late["spec"][part]["credentials"] = {"secretRef": {"name": "late"}}
    late["spec"]["hosting"] = {"enabled": False}
    kubectl("apply", "-n", kitchen, "-f", "-", stdin=json.dumps(late))
    wait(kitchen, "ftj/late", "condition=DataReady=False", 120)
    job = get("ftj", "late", kitchen)
    condition = next(found for found in job["status"]["conditions"] if found["type"] == "Ready")
    assert condition["reason"] == "SecretNotFound"
    assert "Secret late does not exist; create it" in condition["message"]
    metadata = {"name": "late", "namespace": kitchen}
    apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": bucket})
    wait(kitchen, "ftj/late", "condition=Ready", READY_SECONDS)
    assert get("ftj", "late", kitchen)["status"]["phase"] == "Succeeded"
    kubectl("delete", "ftj", "late", "-n", kitchen)


def test_deleting_the_job_leaves_nothing(served: str) -> None:
    kubectl("delete", "ftj", NAME, "-n", served, "--timeout=60s")
    for kind in ("jobs", "deployments", "services", "configmaps", "pvc", "pods"):
        selector = f"finetune.dev/job={NAME}"
        if items(kind, served, selector):
            with picture_on_failure(served):
                kubectl("wait", kind, "-n", served, "-l", selector, "--for=delete", "--timeout=240s", timeout=270)
    assert [name for name in versions(served) if not name.endswith(("/kube-root-ca.crt",))] == []
