"""A FineTuneJob as the stories see it: its conditions, the pods of its stages, and the operator that drives them."""

import json
import time
from typing import Any

from kube import OPERATOR, SYSTEM, get, items, kill, kubectl, until_logged, wait
from recipes import NAME

FTJ = f"ftj/{NAME}"
# A stage takes seconds on two idle cores; machines are shared, and a test is no benchmark.
READY_SECONDS = STAGE_SECONDS = 1800


def apply_job(namespace: str, job: dict[str, Any]) -> None:
    kubectl("apply", "-n", namespace, "-f", "-", stdin=json.dumps(job))


def patch_job(namespace: str, spec: dict[str, Any]) -> None:
    kubectl("patch", "ftj", NAME, "-n", namespace, "--type=merge", "-p", json.dumps({"spec": spec}))


def revision(namespace: str, name: str = NAME) -> str:
    return str(get("ftj", name, namespace)["status"]["revision"])


def first_revision(namespace: str, name: str = NAME) -> str:
    """The revision, as soon as status tells it."""
    # Another story may have killed the operator.
    wait(namespace, f"ftj/{name}", "jsonpath={.status.revision}", STAGE_SECONDS)
    return revision(namespace, name)


def condition(namespace: str, kind: str, name: str = NAME) -> dict[str, Any]:
    found: list[dict[str, Any]] = get("ftj", name, namespace)["status"]["conditions"]
    return next(each for each in found if each["type"] == kind)


def _selector(stage: str, revision: str, name: str) -> str:
    return f"finetune.dev/job={name},finetune.dev/stage={stage},finetune.dev/revision={revision}"


def stage_pod(namespace: str, stage: str, revision: str, name: str = NAME) -> str:
    """The newest pod of a stage, once it is there."""
    selector = _selector(stage, revision, name)
    deadline = time.monotonic() + STAGE_SECONDS
    while (left := int(deadline - time.monotonic())) > 0:
        wait(namespace, "pod", "create", left, selector)
        pods = [pod for pod in items("pod", namespace, selector) if pod["status"]["phase"] in ("Pending", "Running")]
        if pods:
            return str(max(pods, key=lambda pod: pod["metadata"]["creationTimestamp"])["metadata"]["name"])
    raise AssertionError(f"no pod of {stage} runs")


def begun(namespace: str, stage: str, revision: str, name: str = NAME) -> None:
    """Until a stage has a pod, which may have ended by now."""
    wait(namespace, "pod", "create", STAGE_SECONDS, _selector(stage, revision, name))


def running(namespace: str, stage: str, revision: str, name: str = NAME) -> str:
    """The newest pod of a stage, once it runs."""
    pod = stage_pod(namespace, stage, revision, name)
    wait(namespace, f"pod/{pod}", "jsonpath={.status.phase}=Running", STAGE_SECONDS)
    return pod


def trains(namespace: str, pod: str) -> None:
    """Until a trainer's pod runs and has made a step, as its own log tells: the operator may be away meanwhile."""
    wait(namespace, f"pod/{pod}", "jsonpath={.status.phase}=Running", STAGE_SECONDS)
    until_logged(namespace, f"pod/{pod}", lambda line: "'loss'" in line)


def operator_pods() -> list[str]:
    """The operator's pods that run and are to go on."""
    found = [pod for pod in items("pod", SYSTEM, OPERATOR) if "deletionTimestamp" not in pod["metadata"]]
    return [pod["metadata"]["name"] for pod in found if _runs(pod)]


def _runs(pod: dict[str, Any]) -> bool:
    (container,) = pod["status"].get("containerStatuses", [{"state": {}}])
    return "running" in container["state"]


def kill_operator() -> None:
    """SIGKILL the operator, the one that waits too; its Deployment starts both again."""
    for pod in operator_pods():
        kill(SYSTEM, pod)
