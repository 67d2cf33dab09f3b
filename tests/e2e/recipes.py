"""The recipe assistant as the tests' FineTuneJob: its manifest, its rows and model in S3, and a client that asks it."""

import base64
import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import s3fs
from kube import KUBECONFIG, KUBECTL, ROOT, apply, kubectl, wait

NAME = "recipes"
EXAMPLE = ROOT / "examples" / "recipe-assistant"
MODEL = ROOT / ".cache" / "models" / "SmolLM2-135M-Instruct"
CLIENT = Path(__file__).with_name("client.py")
HELD_OUT = 20


def manifest(name: str = NAME, train: str = "s3://recipes/train.jsonl", **training: Any) -> dict[str, Any]:
    """A FineTuneJob like the example's, with model and rows in S3."""
    credentials = {"secretRef": {"name": "bucket"}}
    return {
        "apiVersion": "finetune.dev/v1alpha1",
        "kind": "FineTuneJob",
        "metadata": {"name": name},
        "spec": {
            "model": {"source": "s3://models/smollm2", "credentials": credentials},
            "dataset": {"train": {"source": train}, "credentials": credentials},
            "training": {"batchSize": 8, "learningRate": 1e-3, "maxLength": 256} | training,
            "evaluation": {"enabled": False},
            "hosting": {"contextLength": 512},
            "workspace": {"size": "2Gi"},
        },
    }


def upload(secret: dict[str, str]) -> dict[str, str]:
    """Put the model and the rows into the bucket; the Secret data that lets a job read them."""
    assert (MODEL / "model.safetensors").exists(), "the small model is not there; run `make model`"
    keys = {key: base64.b64decode(value).decode() for key, value in secret.items()}
    with port_forward("s3", "service/s3", 7070) as port:
        files = s3fs.S3FileSystem(
            key=keys["AWS_ACCESS_KEY_ID"],
            secret=keys["AWS_SECRET_ACCESS_KEY"],
            endpoint_url=f"http://127.0.0.1:{port}",
            skip_instance_cache=True,
        )
        for bucket in ("models", "recipes"):
            if not files.exists(bucket):
                files.mkdir(bucket)
        for path in MODEL.iterdir():
            files.put_file(str(path), f"models/smollm2/{path.name}")
        files.put_file(str(EXAMPLE / "train.jsonl"), "recipes/train.jsonl")
        files.pipe_file(
            "recipes/bad.jsonl", b'{"messages": [{"role": "user", "content": "Hi"}]}\n{"mesages": []}\nnot json\n'
        )
    return keys | {"AWS_ENDPOINT_URL": "http://s3.s3.svc:7070", "AWS_REGION": "us-east-1"}


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


def put(secret: dict[str, str], files: dict[str, bytes]) -> None:
    """Put more files into the bucket `recipes`; `secret` is what `upload` gave."""
    with port_forward("s3", "service/s3", 7070) as port:
        bucket = s3fs.S3FileSystem(
            key=secret["AWS_ACCESS_KEY_ID"],
            secret=secret["AWS_SECRET_ACCESS_KEY"],
            endpoint_url=f"http://127.0.0.1:{port}",
            skip_instance_cache=True,
        )
        for name, content in files.items():
            bucket.pipe_file(f"recipes/{name}", content)


def client(namespace: str, name: str, *arguments: str, rows: list[dict[str, Any]] | None = None) -> None:
    """Start a Job that asks the stable Service with the unmodified openai client (client.py), inside the cluster."""
    data = {"client.py": CLIENT.read_text(), "rows.json": json.dumps(rows or [])}
    metadata = {"name": name, "namespace": namespace}
    container = {
        "name": "client",
        "image": "finetune.dev/vllm-cpu:dev",
        "command": ["python3", "/client/client.py", *arguments],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
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


def answers(namespace: str, name: str, seconds: int) -> list[dict[str, Any]]:
    """What the client said when it had ended, one object a line."""
    wait(namespace, f"job/{name}", "condition=Complete", seconds)
    lines = kubectl("logs", f"job/{name}", "-n", namespace).splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


def held_out() -> list[dict[str, Any]]:
    """Rows of dishes that are in no training data."""
    lines = (EXAMPLE / "test.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines[:HELD_OUT]]
