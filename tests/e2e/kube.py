"""kubectl for the tests: as a user types it, with waits that show the cluster when they fail."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CACHE = Path(os.environ.get("FINETUNE_CACHE", Path.home() / ".cache" / "finetune-operator"))
KUBECTL, HELM = CACHE / "bin" / "kubectl", CACHE / "bin" / "helm"
KUBECONFIG = os.environ.get("KUBECONFIG", str(CACHE / "kubeconfig"))
ROOT = Path(__file__).parents[2]
SYSTEM, OPERATOR = "finetune-system", "app.kubernetes.io/name=finetune-operator"
# The Docker engine that hack/docker.sh started, if it had to start one.
_SOCKET = CACHE / "docker.sock"
ENVIRONMENT = {
    **os.environ,
    "KUBECONFIG": KUBECONFIG,
    "PATH": f"{CACHE / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}",
    **({"DOCKER_HOST": f"unix://{_SOCKET}"} if _SOCKET.exists() else {}),
}


def run(
    command: Sequence[str | Path],
    stdin: str | None = None,
    timeout: float = 300,
    directory: Path | None = None,
    **environment: str,
) -> str:
    """Run a command and return what it prints; a failure shows what it said."""
    done = subprocess.run(
        [str(part) for part in command],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=timeout,
        cwd=directory,
        env=ENVIRONMENT | environment,
    )
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def kubectl(*arguments: str, stdin: str | None = None, timeout: float = 300) -> str:
    return run([KUBECTL, *arguments], stdin, timeout)


def finetune(directory: Path, *arguments: str, **environment: str) -> str:
    """What the command line says."""
    return run(["finetune", *arguments], timeout=900, directory=directory, **environment)


def kubeconfig(path: Path, namespace: str) -> str:
    """Write one by which commands are about a namespace that does not stand in them; where it is."""
    path.write_text(kubectl("config", "view", "--raw"))
    kubectl("config", "set-context", "--current", f"--namespace={namespace}", f"--kubeconfig={path}")
    return str(path)


def get(kind: str, name: str, namespace: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(kubectl("get", kind, name, "-n", namespace, "-o", "json"))
    return found


def items(kind: str, namespace: str, selector: str = "") -> list[dict[str, Any]]:
    found: dict[str, Any] = json.loads(kubectl("get", kind, "-n", namespace, "-l", selector, "-o", "json"))
    return list(found["items"])


def apply(*manifests: dict[str, Any]) -> None:
    kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests}))


def wait(namespace: str, what: str, condition: str, seconds: int, selector: str = "") -> None:
    """`kubectl wait`; a timeout fails with a picture of the namespace. `what`: with a selector, a kind alone."""
    with picture_on_failure(namespace):
        which = ["-l", selector] if selector else []
        arguments = ["wait", what, *which, f"--for={condition}", "-n", namespace, f"--timeout={seconds}s"]
        kubectl(*arguments, timeout=seconds + 60)


def until_logged(namespace: str, what: str, met: Callable[[str], bool], *flags: str) -> None:
    """Until a line of its log meets that; fails where the log ends before."""
    _until_line(namespace, ["logs", "--follow", *flags, what], met)


def until_told(namespace: str, what: str, path: str, met: Callable[[str], bool]) -> None:
    """Until what stands at a path of an object, as JSONPath prints it, meets that; fails where it has not in time."""
    _until_line(namespace, ["get", what, "--watch", "--request-timeout=900s", "-o", f'jsonpath={path}{{"\\n"}}'], met)


def _until_line(namespace: str, arguments: list[str], met: Callable[[str], bool]) -> None:
    command = [str(KUBECTL), "--kubeconfig", KUBECONFIG, *arguments, "-n", namespace]
    with picture_on_failure(namespace), subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        found = any(met(line) for line in process.stdout)
        process.terminate()
        assert found, f"{' '.join(arguments)} ended without a line that was waited for"


@contextmanager
def picture_on_failure(namespace: str) -> Iterator[None]:
    """Print what the namespace and the operator looked like when what is inside fails."""
    try:
        yield
    except (AssertionError, subprocess.TimeoutExpired):
        print(picture(namespace))
        raise


def picture(namespace: str) -> str:
    """The namespace's objects, the FineTuneJobs' status, the last events, and the operator's log."""
    questions = [
        ["get", "ftj,jobs,pods,deployments,services,pvc", "-n", namespace, "-o", "wide"],
        ["get", "ftj", "-n", namespace, "-o", "jsonpath={range .items[*]}{.metadata.name}{.status}{'\\n'}{end}"],
        ["get", "events", "-n", namespace, "--sort-by=.lastTimestamp"],
        ["logs", "-n", SYSTEM, f"--selector={OPERATOR}", "--prefix", "--tail=60"],
    ]
    return "\n".join(f"$ kubectl {' '.join(question)}\n{_answer(question)}" for question in questions)


def _answer(arguments: list[str]) -> str:
    done = subprocess.run(
        [str(KUBECTL), *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        env=ENVIRONMENT,
    )
    return done.stdout + done.stderr


def kill(namespace: str, pod: str) -> None:
    """SIGKILL the first process of a pod's first container, as the kernel would, on its node."""
    raw = get("pod", pod, namespace)
    container = raw["status"]["containerStatuses"][0]["containerID"].removeprefix("containerd://")
    node("ctr", "-n", "k8s.io", "tasks", "kill", "--signal", "SIGKILL", container)


def evict(namespace: str, pod: str) -> None:
    """Evict a pod through the API, as `kubectl drain` does."""
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": namespace}}
    kubectl(
        *("create", "--raw", f"/api/v1/namespaces/{namespace}/pods/{pod}/eviction", "-f", "-"),
        stdin=json.dumps(eviction),
    )


def node_name() -> str:
    """The kind cluster's one node, which is a container."""
    return kubectl("get", "node", "-o", "jsonpath={.items[0].metadata.name}")


def node(*command: str) -> str:
    """Run a command on the node."""
    return run(["docker", "exec", node_name(), *command])


@contextmanager
def shared_volume(name: str, directory: str) -> Iterator[None]:
    """A volume that pods can share, alone in a class of its name: a directory of the node's.

    The cluster's own class has none, and its one node needs no more.
    """
    # Of a run that was interrupted: it would wait for that one's claim.
    kubectl("delete", "pv", name, "--ignore-not-found")
    node("mkdir", "-p", directory)
    node("chmod", "-R", "777", directory)
    spec = {"capacity": {"storage": "2Gi"}, "accessModes": ["ReadWriteMany"], "hostPath": {"path": directory}}
    volume = {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}}
    apply(volume | {"spec": spec | {"storageClassName": name}})
    try:
        yield
    finally:
        kubectl("delete", "pv", name, "--wait=false")
        node("rm", "-rf", directory)


@contextmanager
def paused() -> Iterator[None]:
    """The node with all that runs on it stands still while what is inside runs."""
    name = node_name()
    run(["docker", "pause", name])
    try:
        yield
    finally:
        run(["docker", "unpause", name])


def until_ready(seconds: float = 600) -> None:
    """Until the API server answers again."""
    deadline = time.monotonic() + seconds
    while (said := _answer(["get", "--raw", "/readyz", "--request-timeout=5s"])) != "ok":
        assert time.monotonic() < deadline, f"after {seconds} s: {said}"
