"""A real API server over a real etcd, without controllers or a kubelet: tests write what those would.

Used by `conftest.py`. Both processes listen on loopback ports that nobody else takes, keep everything in one
directory, and are stopped by their own process ids. RBAC is on; the users and groups stand in a static token file.
"""

import json
import os
import signal
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any
from uuid import uuid4

import yaml
from finetune_operator.api.crd import DEFINITIONS
from paths import ROOT
from ports import free_port

READY_WITHIN = 180.0
# Seconds that anything is waited for which has to come. It costs nothing where it comes, and machines can be very busy.
PATIENCE = 120
ADMIN = "admin"
# A namespace whose writes stand in the audit log with their bodies.
RECORDED = "recorded"


def binary(name: str) -> Path:
    """The path of a test tool; a missing one fails the test with what to do."""
    cache = Path(os.environ.get("FINETUNE_CACHE", Path.home() / ".cache/finetune-operator"))
    path = cache / "bin" / name
    if not path.exists():
        raise FileNotFoundError(f"{name} is not in {path.parent}: run `make tools`")
    return path


@dataclass(frozen=True)
class User:
    """Somebody whom the API server knows by a token that is the name."""

    name: str
    groups: tuple[str, ...] = ()


class ControlPlane:
    """etcd and kube-apiserver; `start` returns once the API server is ready. `flags` are more of the API server's."""

    def __init__(self, directory: Path, users: Iterable[User] = (), **flags: object) -> None:
        self.directory = directory
        self.users = (User(ADMIN, ("system:masters",)), *users)
        self.port = free_port()
        self.etcd = f"http://127.0.0.1:{free_port()}"
        self.audit = directory / "audit.jsonl"
        self._flags = flags
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        """Start both; RuntimeError with the end of their logs when they aren't ready in time."""
        peer = free_port()
        self.spawn(
            "etcd",
            data_dir=self.directory / "etcd",
            quota_backend_bytes=8 * 2**30,
            listen_client_urls=self.etcd,
            advertise_client_urls=self.etcd,
            listen_peer_urls=f"http://127.0.0.1:{peer}",
            initial_advertise_peer_urls=f"http://127.0.0.1:{peer}",
            initial_cluster=f"default=http://127.0.0.1:{peer}",
            unsafe_no_fsync="true",
            log_level="warn",
        )
        self._write_tokens()
        key = self._service_account_key()
        self.spawn(
            "kube-apiserver",
            etcd_servers=self.etcd,
            bind_address="127.0.0.1",
            advertise_address="127.0.0.1",
            secure_port=self.port,
            cert_dir=self.directory / "certificates",
            authorization_mode="RBAC",
            token_auth_file=self.directory / "tokens.csv",
            anonymous_auth="false",
            service_cluster_ip_range="10.96.0.0/12",
            service_account_issuer="https://kubernetes.default.svc",
            service_account_key_file=key,
            service_account_signing_key_file=key,
            # Nobody runs the controller that gives each namespace its default service account.
            disable_admission_plugins="ServiceAccount",
            endpoint_reconciler_type="none",
            audit_policy_file=self._audit_policy(),
            audit_log_path=self.audit,
            audit_log_mode="blocking",
            **self._flags,
        )
        self._wait_until_ready()

    def restart(self) -> None:
        """Kill the API server and start it again: every connection and every watch breaks."""
        killed = self._processes.pop("kube-apiserver")
        killed.kill()
        killed.wait(PATIENCE)
        self._launch(list(killed.args))
        self._wait_until_ready()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """The API server takes connections and answers nothing, as behind a network that swallows packets."""
        process = self._processes["kube-apiserver"]
        process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            process.send_signal(signal.SIGCONT)
            self._wait_until_ready()

    def pid(self, program: str) -> int:
        """The process of a program that was started."""
        return self._processes[program].pid

    def stop(self) -> None:
        """Kill everything, etcd last: an API server that is asked to stop waits a minute for those who still watch."""
        for program in reversed(list(self._processes)):
            self._processes[program].kill()
            self.end(program)

    def spawn(self, program: str, **flags: object) -> None:
        """Start a program of the control plane; `stop` stops it."""
        arguments = [f"--{name.replace('_', '-')}={value}" for name, value in flags.items()]
        self._launch([str(binary(program)), *arguments])

    def end(self, program: str) -> None:
        """Stop one of them."""
        process = self._processes.pop(program)
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(PATIENCE)

    def kubeconfig(self, user: str = ADMIN, namespace: str = "default", through: str = "") -> Path:
        """A kubeconfig file for `user`; `through` is the URL of a proxy that stands before the API server."""
        path = self.directory / f"kubeconfig-{user}-{namespace}{'-proxied' if through else ''}"
        server = {"server": self.address, "certificate-authority": str(self._certificate)}
        if through:
            server = {"server": through}
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": server}],
            "users": [{"name": user, "user": {"token": _token(user)}}],
            "contexts": [{"name": user, "context": {"cluster": "test", "user": user, "namespace": namespace}}],
            "current-context": user,
        }
        # Whole at any time: a program that was started with it may be about to read it.
        draft = path.with_name(f"{path.name}.{uuid4()}")
        draft.write_text(yaml.safe_dump(document))
        return draft.replace(path)

    def request(self, method: str, path: str, document: object = None, *, user: str = ADMIN) -> dict[str, Any]:
        """The API server's answer as JSON: an object, or the Status that refuses it."""
        request = urllib.request.Request(
            f"{self.address}{path}",
            method=method,
            data=None if document is None else json.dumps(document).encode(),
            headers=self.headers(user) | {"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE, context=self.trust()) as answer:
                return dict(json.load(answer))
        except urllib.error.HTTPError as error:
            return dict(json.load(error))

    def watch(self, path: str) -> Iterator[dict[str, Any]]:
        """The events of a watch, until the API server ends it or is stopped."""
        request = urllib.request.Request(
            f"https://127.0.0.1:{self.port}{path}", headers={"Authorization": f"Bearer {_token(ADMIN)}"}
        )
        with urllib.request.urlopen(request, context=self._trust()) as answer, suppress(OSError, HTTPException):
            for line in answer:
                yield dict(json.loads(line))

    def calls(self, user: str) -> Iterator[dict[str, Any]]:
        """What `user` has asked for so far, as audit events."""
        for line in self.audit.read_text().splitlines(keepends=True):
            # The last one may be on its way still.
            if not line.endswith("\n"):
                break
            event = json.loads(line)
            # Whoever came with an unknown token has no name.
            if event["user"].get("username") == user:
                yield event

    def until_allowed(self, user: str, verb: str, resource: str, group: str = "", namespace: str = "") -> None:
        """Until the API server heeds a rule for somebody: it hears of it a moment after it was written.

        `resource` may have a subresource, as in `services/proxy`.
        """
        resource, _, subresource = resource.partition("/")
        attributes = {"verb": verb, "group": group, "resource": resource, "subresource": subresource}
        spec = {"user": user, "resourceAttributes": attributes | {"namespace": namespace}}
        review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
        deadline = time.monotonic() + PATIENCE
        while not self.request("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", review)["status"][
            "allowed"
        ]:
            assert time.monotonic() < deadline, f"{user} may not {verb} {resource} in {namespace or 'all namespaces'}"
            time.sleep(0.02)

    @property
    def address(self) -> str:
        """The API server's URL."""
        return f"https://127.0.0.1:{self.port}"

    def headers(self, user: str = ADMIN) -> dict[str, str]:
        """What tells the API server who calls."""
        return {"Authorization": f"Bearer {_token(user)}"}

    def trust(self) -> ssl.SSLContext:
        """What a client checks the API server's certificate with."""
        return ssl.create_default_context(cafile=str(self._certificate))

    def logs(self) -> str:
        """The end of both logs."""
        ends = {log.name: log.read_text(errors="replace").splitlines()[-12:] for log in self.directory.glob("*.log")}
        return "\n".join(line for name, lines in ends.items() for line in (f"--- {name}", *lines))

    @property
    def _certificate(self) -> Path:
        """The API server's own, self-signed for 127.0.0.1."""
        return self.directory / "certificates" / "apiserver.crt"

    def _trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self._certificate))

    def _launch(self, command: list[str]) -> None:
        program = Path(command[0]).name
        with (self.directory / f"{program}.log").open("ab") as log:
            self._processes[program] = subprocess.Popen(command, stdout=log, stderr=log)

    def _write_tokens(self) -> None:
        lines = [f'{_token(user.name)},{user.name},{user.name},"{",".join(user.groups)}"' for user in self.users]
        (self.directory / "tokens.csv").write_text("\n".join(lines) + "\n")

    def _audit_policy(self) -> Path:
        path = self.directory / "audit-policy.yaml"
        rules = [
            {"level": "None", "users": [ADMIN]},
            {"level": "Request", "namespaces": [RECORDED], "verbs": ["create", "patch"]},
            {"level": "Metadata"},
        ]
        policy = {"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"]}
        path.write_text(yaml.safe_dump(policy | {"rules": rules}))
        return path

    def _service_account_key(self) -> Path:
        path = self.directory / "service-account.key"
        subprocess.run(["openssl", "genrsa", "-out", path, "2048"], check=True, capture_output=True)
        return path

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + READY_WITHIN
        while not self._ready():
            dead = [program for program, process in self._processes.items() if process.poll() is not None]
            if dead or time.monotonic() > deadline:
                why = f"{', '.join(dead)} stopped" if dead else f"no readiness within {READY_WITHIN:.0f} s"
                raise RuntimeError(f"the API server did not start: {why}\n{self.logs()}")
            # The server offers nothing to watch before it answers.
            time.sleep(0.1)

    def _ready(self) -> bool:
        if not self._certificate.exists():
            return False
        request = urllib.request.Request(f"{self.address}/readyz", headers=self.headers())
        try:
            with urllib.request.urlopen(request, timeout=5, context=self.trust()) as answer:
                return bool(answer.status == 200)
        except (OSError, urllib.error.URLError):
            return False


class Kubectl:
    """kubectl as one user in one namespace."""

    def __init__(self, kubeconfig: Path) -> None:
        self.kubeconfig = kubeconfig

    def run(self, *arguments: str, document: object = None) -> subprocess.CompletedProcess[str]:
        """Run kubectl, `document` as JSON on its standard input; a failure is returned, not raised."""
        text = document if isinstance(document, str) else json.dumps(document)
        return subprocess.run(
            [binary("kubectl"), f"--kubeconfig={self.kubeconfig}", *arguments],
            input=None if document is None else text,
            capture_output=True,
            text=True,
            timeout=2 * PATIENCE,
            check=False,
        )

    def __call__(self, *arguments: str, document: object = None) -> str:
        """Run kubectl and return what it printed; AssertionError with its complaint when it failed."""
        done = self.run(*arguments, document=document)
        assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr}"
        return done.stdout


def until_established(kubectl: Kubectl, definition: str) -> None:
    """Until the API server serves what a definition defines."""
    # For a moment it has no conditions at all, which kubectl takes for a mistake.
    for condition in ("jsonpath={.status.acceptedNames.kind}", "condition=Established"):
        kubectl("wait", f"--for={condition}", f"--timeout={PATIENCE}s", f"crd/{definition}")


def with_crd(plane: ControlPlane) -> Kubectl:
    """kubectl as the administrator, once the API server serves our kinds."""
    kubectl = Kubectl(plane.kubeconfig())
    kubectl("apply", "--server-side", *(f"-f{ROOT / found.path}" for found in DEFINITIONS))
    for found in DEFINITIONS:
        until_established(kubectl, f"{found.plural}.finetune.dev")
        # Then it asks for patience (429) for a moment; kubectl has some.
        kubectl("get", found.plural)
    return kubectl


def _token(user: str) -> str:
    return f"token-of-{user}"
