"""A FineTuneJob in a cluster, as far as `finetune report` needs it: its object, and a file of a revision's volume.

Everything goes through kubectl, which knows its user's clusters, contexts and logins. A file is read by a pod made for
that, with the template of the revision's own evaluate Job: same image, same place, same Pod Security.
"""

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from finetune_operator import names
from finetune_operator.api.v1alpha1 import GROUP, PLURAL
from finetune_operator.finetunejob.record import evaluated_key
from finetune_operator.finetunejob.stages.evaluate import Evaluate

from finetune_cli.errors import UserError

Raw = dict[str, Any]
RESOURCE = f"{PLURAL}.{GROUP}"

# To pull the image, which the evaluate Job's node has.
READ_SECONDS = 180
# Lines of klog (E1126 20:00:00.000000 ...) and of the API server's warnings, and the words before a complaint.
_NOISE = re.compile(r"[IWEF]\d{4} \d\d:\d\d:\d\d|Warning: |Flag --|Defaulted container")
_LABEL = re.compile(r"^(error: |Error from server( \(\w+\))?: )")


@dataclass(frozen=True)
class Cluster:
    """kubectl, pointed at one namespace. `namespace` and `context` None: its own defaults."""

    namespace: str | None = None
    context: str | None = None

    def job(self, name: str) -> Raw:
        """The FineTuneJob; UserError when there is none, or kubectl can't ask."""
        return self._json("get", RESOURCE, name, "-o", "json")

    def jobs(self) -> list[str]:
        """The names of the FineTuneJobs in the namespace."""
        return sorted(each["metadata"]["name"] for each in self._json("get", RESOURCE, "-o", "json")["items"])

    def measured(self, name: str, revision: str) -> list[str]:
        """The ids of what was measured of a revision, from its record; UserError where nothing was."""
        record = self._json("get", "configmap", names.of_revision(name, revision), "-o", "json").get("data", {})
        start, end = evaluated_key("|").split("|")
        found = sorted(key.removeprefix(start).removesuffix(end) for key in record if key.startswith(start))
        if not found:
            raise UserError(f"Revision {revision} of {name} was not evaluated.")
        return found

    def read(self, name: str, revision: str, path: str, newest: str) -> str:
        """A text file of a revision's workspace; UserError when it can't be had.

        An earlier revision's Job is gone, and its volume may be kept: the newest revision's Job shows how to read it.
        """
        job = self._json("get", "job", names.of_stage(name, newest, Evaluate.name), "-o", "json")
        text = json.dumps(job["spec"]["template"]["spec"])
        template = json.loads(text.replace(names.of_revision(name, newest), names.of_revision(name, revision)))
        with self._pod(reader(template, name, revision, path)) as pod:
            self._kubectl(
                *("wait", f"pod/{pod}", "--for=jsonpath={.status.phase}=Succeeded", f"--timeout={READ_SECONDS}s")
            )
            return self._kubectl("logs", f"pod/{pod}")

    @contextmanager
    def _pod(self, manifest: Raw) -> Iterator[str]:
        made = json.loads(self._kubectl("create", "-f", "-", "-o", "json", stdin=json.dumps(manifest)))
        pod = str(made["metadata"]["name"])
        try:
            yield pod
        finally:
            self._kubectl("delete", f"pod/{pod}", "--wait=false", "--ignore-not-found")

    def _json(self, *arguments: str) -> Raw:
        return dict(json.loads(self._kubectl(*arguments)))

    def _kubectl(self, *arguments: str, stdin: str = "") -> str:
        where = [
            *([f"--namespace={self.namespace}"] if self.namespace else []),
            *([f"--context={self.context}"] if self.context else []),
        ]
        try:
            done = subprocess.run(  # noqa: S603  (a name and a namespace, each an argument of its own)
                ["kubectl", *where, *arguments],  # noqa: S607  (the user's own kubectl)
                input=stdin,
                capture_output=True,
                text=True,
            )
        except FileNotFoundError as error:
            raise UserError("kubectl is not on PATH; it is what `finetune report` asks the cluster with.") from error
        if done.returncode:
            raise UserError(f"kubectl {' '.join(arguments[:2])}: {complaint(done.stderr)}")
        return done.stdout


def complaint(said: str) -> str:
    """What kubectl says went wrong, without its log and what it only warns of."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    told = [line for line in lines if not _NOISE.match(line)] or lines[-1:] or ["it ended without a word."]
    return _LABEL.sub("", " ".join(told))


def reader(template: Raw, name: str, revision: str, path: str) -> Raw:
    """A pod that prints a file of the revision's volume, made from its evaluate Job's pod template.

    It carries none of the operator's labels, which would make it a stage's pod; so the term that keeps a revision's
    pods together, which it could not match itself, is a preference here.
    """
    (container,) = template["containers"]
    kept = ("image", "imagePullPolicy", "securityContext", "volumeMounts")
    together = {
        "weight": 100,
        "podAffinityTerm": {
            "labelSelector": {"matchLabels": {names.JOB: name, names.REVISION: revision}},
            "topologyKey": "kubernetes.io/hostname",
        },
    }
    spec = {key: value for key, value in template.items() if key not in ("containers", "affinity", "schedulerName")}
    node = {key: value for key, value in template.get("affinity", {}).items() if key == "nodeAffinity"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"generateName": f"{names.of_revision(name, revision)}-report-"},
        "spec": {
            **spec,
            "affinity": {**node, "podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [together]}},
            "restartPolicy": "Never",
            "containers": [
                {
                    "name": "report",
                    "command": ["cat", path],
                    **{key: container[key] for key in kept if key in container},
                }
            ],
        },
    }
