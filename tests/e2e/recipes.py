"""The recipe assistant as the tests' FineTuneJob: its manifest, rows and models in S3, and a client that asks it."""

import base64
import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import s3fs
from kube import KUBECONFIG, KUBECTL, ROOT, apply, get, items, kubectl, until_logged, wait

NAME = "recipes"
EXAMPLE = ROOT / "examples" / "recipe-assistant"
MODELS = ROOT / ".cache" / "models"
# The one for stories about truth, and the one whose stages take seconds, for all others.
SMOLLM2, TINY = "SmolLM2-135M-Instruct", "tiny-smollm2"
# What hack/registry.yaml starts, and who may ask it.
REGISTRY = "registry.registry.svc:5000"
REGISTRY_KEYS = {
    "REGISTRY_USERNAME": "the-user",
    "REGISTRY_PASSWORD": "the-password",
    "REGISTRY_PLAIN_HTTP": "true",
}
CLIENT = Path(__file__).with_name("client.py")
# For its pod to start, and to end once it is told to.
CLIENT_SECONDS = 900


def manifest(
    name: str = NAME, train: str = "s3://recipes/train.jsonl", model: str = TINY, **training: Any
) -> dict[str, Any]:
    """A FineTuneJob like the example's, with model and rows in S3."""
    credentials = {"secretRef": {"name": "bucket"}}
    return {
        "apiVersion": "finetune.dev/v1alpha1",
        "kind": "FineTuneJob",
        "metadata": {"name": name},
        "spec": {
            "model": {"source": f"s3://models/{model}", "credentials": credentials},
            "dataset": {"train": {"source": train}, "credentials": credentials},
            "training": {"batchSize": 2, "learningRate": 1e-3, "maxLength": 128} | training,
            "evaluation": {"enabled": False},
            "hosting": {"contextLength": 512},
            "workspace": {"size": "2Gi"},
        },
    }


def keys() -> dict[str, str]:
    """The Secret data that lets a job read the bucket: the keys that hack/s3.sh made, and where the bucket is."""
    found: dict[str, str] = get("secret", "s3", "s3")["data"]
    plain = {key: base64.b64decode(value).decode() for key, value in found.items()}
    return plain | {"AWS_ENDPOINT_URL": "http://s3.s3.svc:7070", "AWS_REGION": "us-east-1"}


def secret(namespace: str, name: str, **others: str) -> dict[str, Any]:
    """A Secret with those keys, and others."""
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": keys() | others}


@contextmanager
def bucket() -> Iterator[s3fs.S3FileSystem]:
    """The in-cluster S3 server, from here."""
    found = keys()
    with port_forward("s3", "service/s3", 7070) as port:
        yield s3fs.S3FileSystem(
            key=found["AWS_ACCESS_KEY_ID"],
            secret=found["AWS_SECRET_ACCESS_KEY"],
            endpoint_url=f"http://127.0.0.1:{port}",
            skip_instance_cache=True,
        )


def put(files: dict[str, bytes]) -> None:
    """Put files into the bucket `recipes`."""
    with bucket() as server:
        server.makedirs("recipes", exist_ok=True)
        for name, content in files.items():
            server.pipe_file(f"recipes/{name}", content)


def put_model(model: str) -> None:
    """Put a model into the bucket `models`."""
    assert (MODELS / model / "model.safetensors").exists(), f"the model {model} is not there; run `make model`"
    with bucket() as server:
        server.makedirs("models", exist_ok=True)
        for path in (MODELS / model).iterdir():
            server.put_file(str(path), f"models/{model}/{path.name}")


@contextmanager
def port_forward(namespace: str, what: str, port: int) -> Iterator[int]:
    """A local port that leads to a Service."""
    command = [str(KUBECTL), "--kubeconfig", KUBECONFIG, "port-forward", "-n", namespace, what, f":{port}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            found = re.search(r"127\.0\.0\.1:(\d+)", line)
            assert found, f"kubectl port-forward said {line!r}"
            yield int(found[1])
        finally:
            process.terminate()


def client(namespace: str, name: str, *arguments: str, rows: list[dict[str, Any]] | None = None, key: str = "") -> None:
    """Start a Job that asks the stable Service with the unmodified openai client (client.py), inside the cluster.

    `key`: the Secret with its API key.
    """
    run_script(namespace, name, CLIENT, *arguments, files={"rows.json": json.dumps(rows or [])}, settings=key)


def run_script(
    namespace: str, name: str, script: Path, *arguments: str, files: dict[str, str], settings: str = ""
) -> None:
    """Start a Job that runs a script where the openai client is installed, the files beside it in /client.

    `settings`: the Secret with its variables.
    """
    data = {script.name: script.read_text()} | files
    metadata = {"name": name, "namespace": namespace}
    container = {
        "name": "client",
        "image": "finetune.dev/vllm-cpu:dev",
        "command": ["python3", f"/client/{script.name}", *arguments],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        **({"envFrom": [{"secretRef": {"name": settings}}]} if settings else {}),
        "volumeMounts": [{"name": "client", "mountPath": "/client"}, {"name": "tmp", "mountPath": "/tmp"}],
    }
    pod = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "securityContext": {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
        "volumes": [{"name": "client", "configMap": {"name": name}}, {"name": "tmp", "emptyDir": {}}],
    }
    apply(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data},
        {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": metadata,
            "spec": {"backoffLimit": 0, "template": {"spec": pod}},
        },
    )


def said(namespace: str, name: str, seconds: int) -> str:
    """What a script said when it had ended."""
    wait(namespace, f"job/{name}", "condition=Complete", seconds)
    return kubectl("logs", f"job/{name}", "-n", namespace)


def answers(namespace: str, name: str, seconds: int) -> list[dict[str, Any]]:
    """What the client said when it had ended, one object a line."""
    return [json.loads(line) for line in said(namespace, name, seconds).splitlines() if line.startswith("{")]


@contextmanager
def load(namespace: str, name: str, model: str) -> Iterator[list[dict[str, Any]]]:
    """A client that asks the stable Service without end while what is inside runs; its answers, once it has ended."""
    said: list[dict[str, Any]] = []
    client(namespace, name, "load", f"http://{model}.{namespace}.svc/v1", model)
    wait(namespace, f"job/{name}", "jsonpath={.status.ready}=1", CLIENT_SECONDS)
    until_answered(namespace, name)
    yield said
    (pod,) = items("pod", namespace, f"job-name={name}")
    kubectl("exec", "-n", namespace, pod["metadata"]["name"], "--", "touch", "/tmp/stop")
    said += answers(namespace, name, CLIENT_SECONDS)


def until_answered(namespace: str, name: str) -> None:
    """Until that client is answered from now on; it ends by itself if it never is."""
    until_logged(namespace, f"job/{name}", lambda line: json.loads(line)["ok"], "--tail=0")
