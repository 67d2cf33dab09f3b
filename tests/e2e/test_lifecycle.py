"""A FineTuneJob's life on a real cluster: served, at rest, replaced and deleted, with everything killed on the way."""

import base64
import subprocess
from typing import Any

import pytest
from kube import ENVIRONMENT, KUBECTL, OPERATOR, SYSTEM, get, items, kill, kubectl, picture_on_failure, wait
from recipes import NAME, load, manifest
from stages import (
    FTJ,
    READY_SECONDS,
    STAGE_SECONDS,
    apply_job,
    begun,
    first_revision,
    kill_operator,
    patch_job,
    revision,
    running,
    stage_pod,
    trains,
)

# So many that there is time to stop and kill what trains.
STEPS = 1000
# What of an object's metadata changes with whatever anybody writes.
OTHERS = ("resourceVersion", "managedFields")


def written(namespace: str) -> dict[str, Any]:
    """What the operator has written: the FineTuneJob, and of everything made for it all but its status.

    That is for others to write: of a Deployment it changes when an engine is late to answer a probe.
    """
    found: dict[str, Any] = {f"ftj/{raw['metadata']['name']}": raw for raw in items("ftj", namespace)}
    for kind in ("jobs", "deployments", "services", "configmaps", "pvc"):
        for raw in items(kind, namespace, f"finetune.dev/job={NAME}"):
            ours = {key: value for key, value in raw.items() if key != "status"}
            ours["metadata"] = {key: value for key, value in raw["metadata"].items() if key not in OTHERS}
            found[f"{kind}/{raw['metadata']['name']}"] = ours
    return found


@pytest.fixture(scope="module")
def served(namespace: str) -> str:
    """The recipe assistant, Ready, although the operators were killed while it was prepared, trained and hosted."""
    apply_job(namespace, manifest(maxSteps=STEPS))
    rev = first_revision(namespace)
    begun(namespace, "prepare", rev)
    kill_operator()
    # By the time that there is an operator again it may be done.
    trains(namespace, stage_pod(namespace, "train", rev))
    kill_operator()
    running(namespace, "host", rev)
    kill_operator()
    wait(namespace, FTJ, "condition=Ready", READY_SECONDS)
    return namespace


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
        # There is no output.destination.
        "Published": "False",
        # hosting.adapter is left out.
        "Merged": "False",
        "Hosted": "True",
        # evaluation.enabled is false here; test_gate and test_truth have what is measured.
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
    logs = kubectl("logs", "-n", SYSTEM, f"--selector={OPERATOR}", "--tail=-1")
    assert plain not in objects + logs
    assert secret not in objects + logs


def test_kopf_leaves_no_mark_on_the_users_object(served: str) -> None:
    metadata = get("ftj", NAME, served)["metadata"]
    assert "finalizers" not in metadata
    assert not [key for key in metadata.get("annotations", {}) if "kopf" in key]


def test_at_rest_nothing_is_written_even_when_the_operator_starts_again(served: str) -> None:
    # Within a minute it has told for the first time that nobody asks its engine.
    wait(served, FTJ, "jsonpath={.status.requests.running}=0", STAGE_SECONDS)
    before = written(served)
    kubectl("rollout", "restart", "deployment/finetune-operator", "-n", SYSTEM)
    kubectl("rollout", "status", "deployment/finetune-operator", "-n", SYSTEM, "--timeout=600s", timeout=630)
    # A watch that sees no change for a while, rather than a sleep.
    watch = subprocess.run(
        [str(KUBECTL), "get", "ftj", "-n", served, "--watch-only", "--request-timeout=20s"],
        capture_output=True,
        text=True,
        timeout=300,
        env=ENVIRONMENT,
    )
    assert watch.stdout == ""
    assert written(served) == before


def test_a_new_seed_trains_a_revision_that_takes_over_without_a_failed_request(served: str) -> None:
    with load(served, "load", NAME) as said:
        old = revision(served)
        apply_job(served, manifest(maxSteps=STEPS, seed=7))
        wait(served, FTJ, "condition=Ready=Unknown", STAGE_SECONDS)
        new = revision(served)
        assert new != old
        pod = running(served, "train", new)
        wait(served, FTJ, "jsonpath={.status.progress.activity}=training", STAGE_SECONDS)

        # Suspended, the work's pods go and what serves goes on; resumed, it goes on from its checkpoint.
        patch_job(served, {"suspend": True})
        wait(served, FTJ, "jsonpath={.status.phase}=Suspended", STAGE_SECONDS)
        wait(served, f"pod/{pod}", "delete", STAGE_SECONDS)
        assert get("service", NAME, served)["spec"]["selector"]["finetune.dev/revision"] == old
        patch_job(served, {"suspend": False})

        # The trainer is killed, and the Job starts it again.
        kill(served, running(served, "train", new))
        wait(served, FTJ, "condition=Ready", READY_SECONDS)
        assert get("service", NAME, served)["spec"]["selector"]["finetune.dev/revision"] == new
        wait(served, f"deployment/{NAME}-{old}", "delete", STAGE_SECONDS)
    assert len(said) > 20
    assert [answer for answer in said if not answer["ok"]] == []


def test_deleting_the_job_leaves_nothing(served: str) -> None:
    kubectl("delete", "ftj", NAME, "-n", served, "--timeout=600s")
    for kind in ("jobs", "deployments", "services", "configmaps", "pvc", "pods"):
        selector = f"finetune.dev/job={NAME}"
        if items(kind, served, selector):
            with picture_on_failure(served):
                kubectl("wait", kind, "-n", served, "-l", selector, "--for=delete", "--timeout=600s", timeout=630)
    assert written(served) == {}
