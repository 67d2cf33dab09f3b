"""What controllers and the kubelet would write around one FineTuneJob, written by the tests through a real API server.

Used by the tests of the shell: there is no kubelet, so a test says what the pods do, and sees what the operator does.
"""

import json
from collections.abc import Iterator
from typing import Any

from control_plane import PATIENCE, Kubectl
from finetune_operator import names
from finetune_operator.api.v1alpha1 import FineTuneJobSpec
from finetune_operator.pods.template import MAIN_CONTAINER
from finetune_trainer.contract.config import EvaluationConfig
from rehearsal import ENGINES, MANIFEST, PREPARED, TRAINED, evaluated, ranked

Raw = dict[str, Any]

NAME = "recipes"
KINDS = ("jobs", "pods", "deployments", "services", "persistentvolumeclaims", "configmaps")


class Played:
    """A FineTuneJob of a namespace, `recipes` by name, and everything that is made for it."""

    def __init__(self, kubectl: Kubectl, name: str = NAME) -> None:
        self.kubectl = kubectl
        self.name = name
        # A container that a webhook puts before the stage's own, as meshes do.
        self.sidecar: Raw | None = None

    def create(self, **spec: Any) -> None:
        """Apply the manifest; sections of the spec given here replace the example's."""
        metadata = {"name": self.name}
        document = {"apiVersion": "finetune.dev/v1alpha1", "kind": "FineTuneJob", "metadata": metadata}
        self.kubectl("apply", "-f-", document=document | {"spec": MANIFEST | spec})

    def wait(self, what: str, condition: str, seconds: int = PATIENCE) -> None:
        """Wait on the API server; a timeout shows the status."""
        done = self.kubectl.run("wait", what, f"--for={condition}", f"--timeout={seconds}s")
        assert done.returncode == 0, f"{what} {condition}: {done.stderr}\n{json.dumps(self.job(), indent=1)}"

    def wait_reason(self, kind: str, reason: str, seconds: int = PATIENCE) -> None:
        """Wait until a condition has a reason."""
        self.wait(f"ftj/{self.name}", f'jsonpath={{.status.conditions[?(@.type=="{kind}")].reason}}={reason}', seconds)

    def get(self, kind: str, name: str) -> Raw:
        return dict(json.loads(self.kubectl("get", kind, name, "-o", "json")))

    def job(self) -> Raw:
        """The FineTuneJob."""
        return self.get("ftj", self.name)

    def condition(self, kind: str) -> Raw:
        return next(found for found in self.job()["status"]["conditions"] if found["type"] == kind)

    @property
    def revision(self) -> str:
        """The manifest's, whether the operator has seen it yet or not."""
        return names.revision_of(FineTuneJobSpec.model_validate(self.job()["spec"]))

    def objects(self) -> Iterator[Raw]:
        """The FineTuneJob and everything that carries its label."""
        yield self.job()
        listed = self.kubectl("get", ",".join(KINDS), "-l", f"{names.JOB}={self.name}", "-o", "json")
        yield from json.loads(listed)["items"]

    def versions(self) -> dict[str, str]:
        """Kind/name → resourceVersion of all of it."""
        return {
            f"{raw['kind']}/{raw['metadata']['name']}": raw["metadata"]["resourceVersion"] for raw in self.objects()
        }

    def owner(self, stage: str) -> tuple[str, str]:
        """Kind and name of the stage's object for the current revision."""
        if stage in ENGINES:
            return "deployment", names.of_revision(self.name, self.revision) + ENGINES[stage]
        return "job", names.of_stage(self.name, self.revision, stage)

    def start(self, stage: str, address: str = "10.0.0.7") -> None:
        """The stage's pod runs."""
        self.wait("/".join(self.owner(stage)), "create")
        self._pod(stage, {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]}, {"running": {}})

    def complete(self, stage: str, result: Raw | None = None) -> None:
        """The stage's pod ends well and leaves its result, and so does its Job."""
        self.wait("/".join(self.owner(stage)), "create")
        result = result or {"prepare": PREPARED, "train": TRAINED}[stage]
        message = json.dumps({"reason": "Succeeded", "result": result})
        ended = {"exitCode": 0, "reason": "Completed", "message": message}
        self._pod(stage, {"phase": "Succeeded"}, {"terminated": ended})
        times = {"startTime": "2026-01-01T00:00:00Z", "completionTime": "2026-01-01T00:01:00Z"}
        conditions = [_condition("SuccessCriteriaMet"), _condition("Complete")]
        counts = {"succeeded": 1, "uncountedTerminatedPods": {}}
        self._status(*self.owner(stage), {**times, **counts, "conditions": conditions})

    def roll_out(self, revision: str = "", stage: str = "host") -> None:
        """The pods of a revision's Deployment answer; the manifest's own when none is given."""
        name = names.of_revision(self.name, revision or self.revision) + ENGINES[stage]
        self.wait(f"deployment/{name}", "create")
        raw = self.get("deployment", name)
        counts = dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas", "availableReplicas"), 1)
        self._status("deployment", name, {"observedGeneration": raw["metadata"]["generation"], **counts})

    def measure(self, **scores: float) -> None:
        """The evaluate Job ends with these scores."""
        self.complete("evaluate", evaluated(self._evaluation().id, **scores))

    def rank(self, score: float) -> None:
        """That of a reward model does."""
        self.complete("evaluate", ranked(self._evaluation().id, score))

    def serve(self) -> None:
        """The whole path, to Ready, without an evaluation."""
        self.complete("prepare")
        self.complete("train")
        self.roll_out()
        self.wait(f"ftj/{self.name}", "condition=Ready")

    def collect(self, what: str) -> None:
        """The garbage collector lets an object go that is being deleted, since what it owned is gone."""
        self.wait(what, "jsonpath={.metadata.deletionTimestamp}")
        self.kubectl("patch", what, "--type=merge", "-p", '{"metadata": {"finalizers": null}}')

    def delete(self) -> None:
        """The FineTuneJob goes, and what the garbage collector would remove with it."""
        self.kubectl("delete", "ftj", self.name)
        self.kubectl("delete", ",".join(KINDS), "-l", f"{names.JOB}={self.name}", "--cascade=orphan")

    def _evaluation(self) -> EvaluationConfig:
        """What the evaluate Job is told."""
        self.wait("/".join(self.owner("evaluate")), "create")
        data = self.get("configmap", names.of_revision(self.name, self.revision))["data"]
        (told,) = (text for key, text in data.items() if key.startswith("evaluation-"))
        return EvaluationConfig.model_validate_json(told)

    def _pod(self, stage: str, status: Raw, state: Raw) -> None:
        kind, owner = self.owner(stage)
        raw = self.get(kind, owner)
        template = raw["spec"]["template"]
        container = template["spec"]["containers"][0]
        own = {"name": container["name"], "image": container["image"]}
        # What a ServiceAccount, a volume or a node would be needed for is not what these tests are about.
        spec = {"containers": [*([self.sidecar] if self.sidecar else []), own], "restartPolicy": "Never"}
        metadata = {
            "name": f"{owner}-pod",
            "labels": template["metadata"]["labels"],
            "annotations": {MAIN_CONTAINER: template["metadata"]["annotations"][MAIN_CONTAINER]},
            "ownerReferences": [_reference(raw)],
        }
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
        self.kubectl("apply", "--server-side", "-f-", document=pod)
        given = {"image": "i", "imageID": "i", "ready": False, "restartCount": 0}
        statuses = [given | {"name": own["name"], "state": state}]
        if self.sidecar:
            ended = {"terminated": {"exitCode": 0, "reason": "Completed"}}
            statuses.insert(0, given | {"name": self.sidecar["name"], "state": ended})
        self._status("pod", metadata["name"], status | {"containerStatuses": statuses})

    def _status(self, kind: str, name: str, status: Raw) -> None:
        patch = json.dumps({"status": status})
        self.kubectl("patch", kind, name, "--subresource=status", "--type=merge", "-p", patch)


def _reference(owner: Raw) -> Raw:
    identity = {key: owner["metadata"][key] for key in ("name", "uid")}
    return {"apiVersion": owner["apiVersion"], "kind": owner["kind"], "controller": True, **identity}


def _condition(kind: str) -> Raw:
    moment = "2026-01-01T00:01:00Z"
    return {"type": kind, "status": "True", "lastProbeTime": moment, "lastTransitionTime": moment}
