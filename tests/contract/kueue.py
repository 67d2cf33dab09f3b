"""The real Kueue beside an API server: the objects that kustomize makes of its module, but for where it listens.

Used by `test_kueue`. What is a pod behind a Service in a cluster is a process here: the Service is this machine by
name, and the certificate that Kueue makes for itself gets from its Secret to its directory as the kubelet would bring
it.
"""

import base64
import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import yaml
from control_plane import PATIENCE, ControlPlane, Kubectl, binary, until_established
from ports import free_port

Raw = dict[str, Any]

SYSTEM, SERVICE, SECRET = "kueue-system", "kueue-webhook-service", "kueue-webhook-server-cert"
# Of the webhooks those of Jobs and of Kueue's own objects: it is told to manage nothing else.
WEBHOOKS = ("job", "clusterqueue", "cohort", "resourceflavor", "workload")


class Kueue:
    """`start` returns once it admits."""

    def __init__(self, plane: ControlPlane) -> None:
        self._plane, self._kubectl = plane, Kubectl(plane.kubeconfig())
        self._directory = plane.directory / "kueue"
        self._webhooks, self._health = free_port(), free_port()

    def start(self) -> None:
        """Install it and start it."""
        self._kubectl("create", "namespace", SYSTEM)
        local = {"type": "ExternalName", "externalName": "localhost"}
        service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": SERVICE, "namespace": SYSTEM}}
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": SECRET, "namespace": SYSTEM}}
        objects = [service | {"spec": local}, secret, *self._objects()]
        document = {"apiVersion": "v1", "kind": "List", "items": objects}
        self._kubectl("apply", "--server-side", "-f-", document=document)
        for crd in (found["metadata"]["name"] for found in objects if found["kind"] == "CustomResourceDefinition"):
            until_established(self._kubectl, crd)
        self._plane.spawn(
            "kueue",
            kubeconfig=self._plane.kubeconfig(),
            config=self._configuration(),
            feature_gates="VisibilityOnDemand=false",
        )
        self._mount()
        self._wait_until_ready()

    def _objects(self) -> Iterator[Raw]:
        """Its definitions and webhooks."""
        for found in yaml.safe_load_all(binary("kueue.yaml").read_text()):
            if found["kind"] == "CustomResourceDefinition":
                webhook = found["spec"].get("conversion", {}).get("webhook")
                if webhook:
                    webhook["clientConfig"]["service"]["port"] = self._webhooks
                yield found
            elif found["kind"].endswith("WebhookConfiguration"):
                found["webhooks"] = [each for each in found["webhooks"] if each["name"][1:-6] in WEBHOOKS]
                for each in found["webhooks"]:
                    each["clientConfig"]["service"]["port"] = self._webhooks
                yield found

    def _configuration(self) -> Any:
        self._directory.mkdir()
        path = self._directory / "config.yaml"
        document = {
            "apiVersion": "config.kueue.x-k8s.io/v1beta2",
            "kind": "Configuration",
            "namespace": SYSTEM,
            "health": {"healthProbeBindAddress": f"127.0.0.1:{self._health}"},
            "metrics": {"bindAddress": "0"},
            "webhook": {"host": "127.0.0.1", "port": self._webhooks, "certDir": str(self._directory)},
            "leaderElection": {"leaderElect": False},
            "integrations": {"frameworks": ["batch/job"]},
        }
        path.write_text(yaml.safe_dump(document))
        return path

    def _mount(self) -> None:
        """Bring the Secret's files to where the program reads them, as the kubelet does."""
        self._kubectl(
            "wait", f"secret/{SECRET}", "-n", SYSTEM, "--for=jsonpath={.data.tls\\.crt}", f"--timeout={PATIENCE}s"
        )
        found = json.loads(self._kubectl("get", "secret", SECRET, "-n", SYSTEM, "-o", "json"))
        for name, content in found["data"].items():
            (self._directory / name).write_bytes(base64.b64decode(content))

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while not self._ready():
            assert time.monotonic() < deadline, f"Kueue is not ready:\n{self._plane.logs()}"
            # It offers nothing to watch before it answers.
            time.sleep(0.1)

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._health}/readyz", timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False
