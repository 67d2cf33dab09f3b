"""What a FineTuneJob makes that wants an adapter on an Engine, and the pods that load it, played by the tests."""

import itertools
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from control_plane import Kubectl
from finetune_operator import names
from finetune_operator.pods.template import MAIN_CONTAINER
from finetune_trainer.contract.adapters import HeldAdapters, PublishedAdapter
from finetune_trainer.contract.results import STATUS_PORT
from http_server import Handler, answering

Raw = dict[str, Any]
DIGEST = "sha256:" + "a" * 64
_addresses = (f"127.{os.getpid() % 250 + 1}.{79 + number // 250}.{number % 250 + 1}" for number in itertools.count())


def adapter(job: Raw, revision: str, engine: str = "chat") -> Raw:
    """The ConfigMap that asks for a revision's adapter."""
    name = names.of_revision(job["metadata"]["name"], revision)
    found = PublishedAdapter(name=name, uri=f"s3://models/{revision}", digest=DIGEST)
    data = {names.ADAPTER: found.model_dump_json(by_alias=True)}
    described = _metadata(job, names.adapter_of(name, engine), revision, engine)
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": described, "data": data}


def service(job: Raw, revision: str, engine: str = "chat") -> Raw:
    """The Service by whose name clients ask for it."""
    spec = {"selector": {names.ENGINE_OF: engine}, "ports": [{"port": 80}]}
    described = _metadata(job, job["metadata"]["name"], revision, engine)
    return {"apiVersion": "v1", "kind": "Service", "metadata": described, "spec": spec}


def _metadata(job: Raw, name: str, revision: str, engine: str) -> Raw:
    identity = {key: job["metadata"][key] for key in ("name", "uid")}
    owner = {"apiVersion": "finetune.dev/v1alpha1", "kind": "FineTuneJob", "controller": True, **identity}
    labels = names.labels(identity["name"], revision) | {names.LOADED_ON: engine}
    return {"name": name, "labels": labels, "ownerReferences": [owner]}


class Telling:
    """A pod of an Engine, its engine and the container that loads adapters, as far as the operator sees it."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.held = HeldAdapters()
        # What vLLM's own page says: requests that are computed, and those that have ended.
        self.running = self.ended = 0

    @property
    def metrics(self) -> str:
        """That page, as far as it is read."""
        counts = {"num_requests_running": self.running, "request_success_total": self.ended}
        return "".join(f'vllm:{name}{{engine="0"}} {count}.0\n' for name, count in counts.items())


@contextmanager
def telling() -> Iterator[Telling]:
    """One that answers while inside."""
    found = Telling(next(_addresses))

    class Status(Handler):
        def do_GET(self) -> None:
            pages = {"/status": found.held.model_dump_json(by_alias=True), "/metrics": found.metrics}
            self.answer(200 if self.path in pages else 404, pages.get(self.path, "").encode())

    with answering(Status, found.address, STATUS_PORT), answering(Status, found.address, names.ENGINE_PORT):
        yield found


def pod(kubectl: Kubectl, name: str, address: str, of: str = "chat") -> None:
    """A pod of a Deployment, the Engine's by default, as a ReplicaSet would make it and a kubelet would tell of it."""
    deployment = json.loads(kubectl("get", "deployment", of, "-o", "json"))
    template = deployment["spec"]["template"]
    containers = [{key: each[key] for key in ("name", "image")} for each in template["spec"]["containers"]]
    identity = {key: deployment["metadata"][key] for key in ("name", "uid")}
    owner = {"apiVersion": "apps/v1", "kind": "Deployment", "controller": True, **identity}
    metadata = {
        "name": name,
        "labels": template["metadata"]["labels"],
        "annotations": {MAIN_CONTAINER: names.ENGINE},
        "ownerReferences": [owner],
    }
    document = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": containers}}
    kubectl("create", "-f-", document=document)
    ready = {"type": "Ready", "status": "True"}
    status = {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "conditions": [ready]}
    kubectl("patch", "pod", name, "--subresource=status", "--type=merge", "-p", json.dumps({"status": status}))
