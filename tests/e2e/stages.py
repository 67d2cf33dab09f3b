"""A FineTuneJob as the stories see it: its conditions, the pods of its stages, and the operator that drives them."""

import json
import time
from typing import Any

from kube import OPERATOR, SYSTEM, get, items, kill, kubectl, picture_on_failure, wait
from recipes import NAME

FTJ = f"ftj/{NAME}"
# A stage takes seconds on two idle cores; machines are shared, and a test is no benchmark.
READY_SECONDS = STAGE_SECONDS = 900


def apply_job(namespace: str, job: dict[str, Any]) -> None:
    kubectl("apply", "-n", namespace, "-f", "-", stdin=json.dumps(job))


def patch_job(namespace: str, spec: dict[str, Any]) -> None:
    kubectl("patch", "ftj", NAME, "-n", namespace, "--type=merge", "-p", json.dumps({"spec": spec}))


def revision(namespace: str, name: str = NAME) -> str:
    return str(get("ftj", name, namespace)["status"]["revision"])


def first_revision(namespace: str, name: str = NAME) -> str:
    """The revision, as soon as status tells it."""
    wait(namespace, f"ftj/{name}", "jsonpath={.status.revision}", 60)
    return revision(namespace, name)


def condition(namespace: str, kind: str, name: str = NAME) -> dict[str, Any]:
    found: list[dict[str, Any]] = get("ftj", name, namespace)["status"]["conditions"]
    return next(each for each in found if each["type"] == kind)


def stage_pod(namespace: str, stage: str, revision: str, name: str = NAME) -> str:
    """The newest pod of a stage, once it is there."""
    selector = f"finetune.dev/job={name},finetune.dev/stage={stage},finetune.dev/revision={revision}"
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


def running(namespace: str, stage: str, revision: str, name: str = NAME) -> str:
    """The newest pod of a stage, once it runs."""
    pod = stage_pod(namespace, stage, revision, name)
    wait(namespace, f"pod/{pod}", "jsonpath={.status.phase}=Running", STAGE_SECONDS)
    return pod


def kill_operator() -> None:
    """SIGKILL the operator, the one that waits too; its Deployment starts both again."""
    for pod in items("pod", SYSTEM, OPERATOR):
        if "running" in pod["status"]["containerStatuses"][0]["state"]:
            kill(SYSTEM, pod["metadata"]["name"])
