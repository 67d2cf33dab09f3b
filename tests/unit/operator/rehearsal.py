"""A cluster rehearsed in memory: it keeps what a plan applies and lets a test play the controllers and the kubelet.

Nothing of the operator is replaced; only the API server is, by the little of it that decisions depend on. The contract
tests run the same stories against a real one.
"""

import itertools
import json
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

from finetune_operator import names
from finetune_operator.api.engine import KIND as ENGINE
from finetune_operator.api.v1alpha1 import API_VERSION, KIND
from finetune_operator.finetunejob.plan import plan, refused
from finetune_operator.kinds.actions import Action, Apply, Create, Delete, Patch, Ref, Scale
from finetune_operator.kinds.plan import Plan, Purpose, in_the_way, refusal_of
from finetune_operator.kinds.snapshot import Snapshot
from finetune_operator.pods.metadata import controller_of
from finetune_operator.settings import Settings
from finetune_operator.shell.errors import InTheWay
from finetune_trainer.contract.config import EvaluationConfig
from finetune_trainer.contract.outcome import Outcome
from finetune_trainer.contract.results import Progress

MANIFEST = {
    "model": {"source": "s3://models/base", "credentials": {"secretRef": {"name": "bucket"}}},
    "dataset": {"train": {"source": "s3://data/train.jsonl"}},
    "training": {"maxSteps": 40, "resources": {"limits": {"nvidia.com/gpu": 1, "memory": "8Gi"}}},
    "evaluation": {"enabled": False},
    "hosting": {"resources": {"limits": {"nvidia.com/gpu": 1}}},
}
PREPARED = {
    "model": {"commit": "abc123", "parameters": 135_000_000, "contextLength": 8192},
    "dataset": {
        "format": "chat",
        "rows": {"train": 270, "validation": 30, "test": 0},
        "tokens": 25_000,
        "longest": 140,
        "longerThanMaxLength": 0,
        "digest": "sha256:aa",
    },
    "plan": {
        "batchSize": 8,
        "tokensPerPass": 2048,
        "maxLength": 256,
        "learningRate": 0.0005,
        "totalSteps": 40,
        "contextLength": 2048,
        "estimatedMemoryBytes": 2 * 2**30,
        "estimatedTrainedTokens": 30_000,
        "reasons": {"learningRate": "small models learn at a higher rate"},
    },
}
TRAINED = {
    "artifact": {"digest": "sha256:bb", "bytes": 19_000_000},
    "usage": {"trainedTokens": 30_000, "seconds": 120.4, "acceleratorSeconds": 120.4},
    "steps": 40,
    "loss": 0.31,
    "validationLoss": 0.36,
}
# What a training may have kept, the artifact first.
CHECKPOINTS = [
    {"step": 20, "validationLoss": 0.31, "digest": "sha256:bb", "bytes": 19_000_000},
    {"step": 30, "validationLoss": 0.33, "digest": "sha256:cc", "bytes": 19_000_000},
    {"step": 40, "validationLoss": 0.36, "digest": "sha256:dd", "bytes": 19_000_000},
]

# The stages of pods that Deployments make, and what stands behind a revision in their names.
ENGINES = {"host": "", "base": "-base"}
TEST = {"train": {"source": "s3://data/train.jsonl"}, "test": {"source": "s3://data/test.jsonl"}}


def evaluated(evaluation: str, tuned: float = 0.67, retrieval: float = 0.61) -> dict[str, Any]:
    """The result of an evaluation by exact_match on 200 rows; differences are known to 0.04."""

    def contender(score: float, tokens: float) -> dict[str, Any]:
        requests = {
            "promptTokens": tokens,
            "completionTokens": 20.5,
            "latencyP50": 1.25,
            "latencyP95": 2.5,
            "requestsPerSecond": 4.0,
        }
        return {"scores": {"exact_match": _interval("score", score, 0.06)}, "requests": requests}

    def baseline(score: float, tokens: float) -> dict[str, Any]:
        difference = tuned - score
        bounds = {
            "0.8": difference - 0.02,
            "0.9": difference - 0.03,
            "0.95": difference - 0.04,
            "0.99": difference - 0.05,
        }
        compared = _interval("difference", difference, 0.05) | {"bounds": bounds}
        return contender(score, tokens) | {"comparisons": {"exact_match": compared}}

    return {
        "evaluation": evaluation,
        "rows": 200,
        "leaked": 3,
        "nearDuplicates": 1,
        "metrics": ["exact_match"],
        "reason": "Answers are short, 5 words on average.",
        "tuned": contender(tuned, 73),
        "baselines": {
            "zero-shot": baseline(0.0, 73),
            "few-shot": baseline(0.23, 173),
            "retrieval": baseline(retrieval, 203),
        },
        "drift": _interval("score", 0.31, 0.1),
    }


def ranked(evaluation: str, score: float) -> dict[str, Any]:
    """The result of a reward model's, which is compared with nothing."""
    requests = {"promptTokens": 90, "completionTokens": 0, "latencyP50": 0.1, "latencyP95": 0.2}
    tuned = {"scores": {"ranking_accuracy": _interval("score", score, 0.06)}}
    return {
        "evaluation": evaluation,
        "rows": 200,
        "leaked": 0,
        "nearDuplicates": 0,
        "metrics": ["ranking_accuracy"],
        "reason": "A reward model is measured by how it ranks answers.",
        "tuned": tuned | {"requests": requests | {"requestsPerSecond": 80}},
    }


def _interval(name: str, value: float, half: float) -> dict[str, Any]:
    return {name: value, "low": max(-1, value - half), "high": min(1, value + half)}


class Refusing(Exception):
    """What the API server says to a write that a rule of the cluster forbids."""


class Rehearsal:
    """One FineTuneJob in namespace kitchen, recipes by name, and everything made for it.

    Objects have uids and versions. What has a finalizer, or pods of its own, is Terminating until `collect` plays the
    garbage collector. `refuse` is what the cluster's rules forbid: (verb, kind, name) → the API server's sentence.
    `source`: the one whose artifact it starts from. `referred`: another one starts from this one's.
    """

    def __init__(self, name: str = "recipes", **spec: Any) -> None:
        self.name = name
        self.source: Rehearsal | None = None
        # Engines of the namespace, by name.
        self.engines: dict[str, dict[str, Any]] = {}
        self.referred = False
        # Others that publish to the same place.
        self.rivals: list[dict[str, Any]] = []
        self.uids = itertools.count(1)
        self.job: dict[str, Any] = self._job(MANIFEST | spec)
        self.objects: dict[tuple[str, str], dict[str, Any]] = {}
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self.progress: Progress | None = None
        # What engines' pods told of their load, by the questions' names.
        self.loads: dict[str, Any] = {}
        # Objects of the user's own in the namespace: all that a manifest names is there unless it is listed here.
        self.absent: set[tuple[str, str]] = set()
        self.refuse: dict[tuple[str, str, str], str] = {}
        self.settings = Settings()

    def _job(self, spec: dict[str, Any]) -> dict[str, Any]:
        metadata = {"name": self.name, "namespace": "kitchen", "uid": f"{self.name}-{next(self.uids)}", "generation": 1}
        return {"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "spec": spec}

    def edit(self, **spec: Any) -> None:
        """What `kubectl apply` of an edited manifest does."""
        self.job["spec"] = self.job["spec"] | spec
        self.job["metadata"]["generation"] += 1

    def annotate(self, key: str, value: str) -> None:
        self.job["metadata"].setdefault("annotations", {})[key] = value

    def replace_job(self, **spec: Any) -> None:
        """Delete the FineTuneJob and apply it again before the garbage collector has looked."""
        self.job = self._job(self.job["spec"] | spec)

    @property
    def uid(self) -> str:
        return str(self.job["metadata"]["uid"])

    def snapshot(self, named: dict[tuple[str, str], Any] | None = None) -> Snapshot:
        """What the operator's store would have: what the FineTuneJob controls, and what that controls."""
        children: dict[str, list[Any]] = {}
        owners = {self.uid}
        for _ in range(2):
            for (kind, _), raw in self.objects.items():
                if controller_of(raw) in owners and raw not in children.setdefault(kind, []):
                    children[kind].append(raw)
            owners |= {raw["metadata"]["uid"] for raws in children.values() for raw in raws}
        pods = [raw for (kind, _), raw in self.objects.items() if kind == "Pod"]
        strangers = [pod for pod in pods if pod not in children.get("Pod", [])]
        source = self.source and self.source.snapshot()
        answers = self.loads | ({"pod": self.progress} if self.progress else {})
        followed = {(ENGINE, raw["metadata"]["name"]): raw for raw in self.engines.values()}
        told = {"source": source, "followed": followed, "referred": self.referred, "rivals": self.rivals}
        return Snapshot(self.job, children, strangers, named or {}, answers, **told)

    def look(self) -> Plan:
        """Plan once, without carrying it out."""
        planned = plan(self.snapshot(), self.settings, self.now)
        return plan(self.snapshot(self._read(planned)), self.settings, self.now) if planned.reads else planned

    def _read(self, planned: Plan) -> dict[tuple[str, str], Any]:
        """What the operator reads of the user's own objects."""
        services = {found: raw for found, raw in self.objects.items() if found[0] == "Service"}
        return {
            found: services.get(found) if found[0] == "Service" else None if found in self.absent else {"metadata": {}}
            for found in planned.reads
        }

    def reconcile(self) -> Plan:
        """Plan and carry out, as the shell does, until nothing changes; a plan that never settles fails the test."""
        for _ in range(12):
            before = self._state()
            planned = self.look()
            told = self._carry_out(planned)
            self.now += timedelta(seconds=1)
            if self._state() == before:
                return told
        raise AssertionError(f"the plan does not settle: {planned.actions}")

    def _state(self) -> str:
        return json.dumps([self.job, list(self.objects.values())], default=str)

    def _carry_out(self, planned: Plan) -> Plan:
        refusals = []
        for purpose in get_args(Purpose):
            for action in getattr(planned, purpose):
                try:
                    self._act(action)
                except Refusing as error:
                    what, sentence = error.args
                    refusals.append(refusal_of(purpose, action, what, sentence))
                except InTheWay as error:
                    refusals.append(in_the_way(purpose, (KIND, self.name), error.kind, error.raw))
        if refusals:
            planned = refused(self.snapshot(), planned, refusals, self.now)
        self.job["status"] = planned.status.model_dump(mode="json", by_alias=True, exclude_none=True)
        return planned

    def _act(self, action: Action) -> None:
        match action:
            case Create(manifest):
                self._permit("create", manifest["kind"], manifest["metadata"]["name"])
                self._write(manifest)
            case Apply(manifest, uid):
                self._permit("patch", manifest["kind"], manifest["metadata"]["name"])
                self._write(manifest, uid, owned=True)
            case Patch(ref, body):
                self._permit("patch", ref.kind, ref.name)
                self._merge(ref, body)
            case Scale(ref, version, replicas):
                self._permit("patch", ref.kind, ref.name)
                raw = self.engines[ref.name]
                assert raw["metadata"]["resourceVersion"] == version
                raw["spec"] = raw["spec"] | {"replicas": replicas}
                raw["metadata"]["resourceVersion"] = f"{version}1"
            case Delete(ref):
                self._permit("delete", ref.kind, ref.name)
                found = self.objects.get((ref.kind, ref.name))
                if found and found["metadata"]["uid"] == ref.uid:
                    self.delete(ref.kind, ref.name)

    def _permit(self, verb: str, kind: str, name: str) -> None:
        if sentence := self.refuse.get((verb, kind, name)):
            raise Refusing(f"to delete {kind} {name}" if verb == "delete" else f"{kind} {name}", sentence)

    def _write(self, manifest: dict[str, Any], uid: str | None = None, owned: bool = False) -> None:
        raw = json.loads(json.dumps(manifest))
        key = raw["kind"], raw["metadata"]["name"]
        old = self.objects.get(key)
        if old and controller_of(old) != self.uid:
            raise InTheWay(raw["kind"], old)
        if old and not owned:
            return
        assert old is None or uid == old["metadata"]["uid"], "an apply that does not name the object it was meant for"
        number = next(self.uids)
        raw["metadata"] |= {
            "uid": old["metadata"]["uid"] if old else f"uid-{number}",
            "generation": 1,
            "resourceVersion": str(number),
            "creationTimestamp": old["metadata"]["creationTimestamp"] if old else self.now.isoformat(),
            "managedFields": [{"manager": "finetune-operator", "operation": "Apply", "fieldsV1": {}}],
        }
        if old:
            raw["status"] = old.get("status", {})
        self.objects[key] = raw

    def _merge(self, ref: Ref, body: Any) -> None:
        found = self.objects.get((ref.kind, ref.name))
        if found is None or found["metadata"]["uid"] != ref.uid:
            return
        version = body.get("metadata", {}).get("resourceVersion")
        assert version in (None, found["metadata"]["resourceVersion"]), "a patch of what is no longer there"
        if ref.kind == "ConfigMap":
            record = names.LOADED_ON not in found["metadata"]["labels"]
            assert not (record and set(body["data"]) & set(found["data"])), "an entry of a record is written twice"
        _merge(found, body)
        found["metadata"]["resourceVersion"] = str(next(self.uids))

    def delete(self, kind: str, name: str) -> None:
        """Delete an object and what it controls; a claim that a pod mounts, and what has pods, goes once they have."""
        found = self.objects.get((kind, name))
        if found is None:
            return
        pods = [pod for pod in self.live_pods() if _holds(pod, kind, found)]
        if pods:
            found["metadata"].setdefault("deletionTimestamp", self.now.isoformat())
        else:
            del self.objects[kind, name]
            for (child, called), raw in list(self.objects.items()):
                if controller_of(raw) == found["metadata"]["uid"]:
                    self.delete(child, called)

    def live_pods(self) -> list[dict[str, Any]]:
        pods = [raw for (kind, _), raw in self.objects.items() if kind == "Pod"]
        return [pod for pod in pods if pod["status"].get("phase") not in ("Succeeded", "Failed")]

    def end_pods(self) -> None:
        """Pods whose controller is going end, and so do their claims."""
        going = {raw["metadata"]["uid"] for raw in self.objects.values() if "deletionTimestamp" in raw["metadata"]}
        for pod in self.live_pods():
            if controller_of(pod) in going:
                del self.objects["Pod", pod["metadata"]["name"]]
        for (kind, name), raw in list(self.objects.items()):
            if "deletionTimestamp" in raw["metadata"]:
                self.delete(kind, name)

    def collect(self) -> None:
        """What the garbage collector does: what the FineTuneJob does not control any more goes, and its pods end."""
        uids = {raw["metadata"]["uid"] for raw in self.objects.values()} | {self.uid}
        for (kind, name), raw in list(self.objects.items()):
            if controller_of(raw) not in uids | {None}:
                self.delete(kind, name)
        self.end_pods()

    @property
    def status(self) -> dict[str, Any]:
        return self.job["status"]

    @property
    def revision(self) -> str:
        return self.status["revision"]

    def condition(self, kind: str) -> tuple[str, str, str]:
        found = next(found for found in self.status["conditions"] if found["type"] == kind)
        return found["status"], found["reason"], found["message"]

    def exists(self, kind: str, suffix: str = "", revision: str | None = None) -> bool:
        """Whether it is there, and not on its way out."""
        found = self.objects.get((kind, f"{self.name}-{revision or self.revision}{suffix}"))
        return found is not None and "deletionTimestamp" not in found["metadata"]

    def get(self, kind: str, suffix: str = "") -> dict[str, Any]:
        return self.objects[kind, f"{self.name}-{self.revision}{suffix}"]

    # What the controllers and the kubelet do.

    def owner(self, stage: str) -> tuple[str, str]:
        """Kind, and end of the name, of what makes a stage's pods."""
        if stage in ENGINES:
            return "Deployment", ENGINES[stage]
        return ("Deployment" if stage.startswith("checkpoint-") else "Job"), f"-{stage}"

    def pod(self, stage: str, status: dict[str, Any], name: str = "", **metadata: Any) -> None:
        """The pod of a stage of the current revision, in the given status."""
        kind, owner = self.owner(stage)
        raw = self.get(kind, owner)
        template = json.loads(json.dumps(raw["spec"]["template"]))
        name = name or f"{raw['metadata']['name']}-x"
        found = {
            "name": name,
            "uid": f"uid-{next(self.uids)}",
            "labels": template["metadata"]["labels"],
            "annotations": template["metadata"]["annotations"],
            "ownerReferences": [{"uid": raw["metadata"]["uid"], "controller": True}],
            "creationTimestamp": self.now.isoformat(),
        }
        self.objects["Pod", name] = {"metadata": found | metadata, "spec": template["spec"], "status": status}

    def container(self, stage: str, state: dict[str, Any], phase: str = "Pending", **more: Any) -> None:
        """A pod whose main container is in the given state."""
        container = {"name": "engine" if self.owner(stage)[0] == "Deployment" else stage, "state": state} | more
        self.pod(stage, {"phase": phase, "podIP": "10.0.0.7", "containerStatuses": [container]})

    def unschedulable(self, stage: str, message: str) -> None:
        """A pod that the scheduler finds no node for."""
        condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
        self.pod(stage, {"phase": "Pending", "conditions": [condition]})

    def running(self, stage: str) -> None:
        self.container(stage, {"running": {}}, phase="Running")

    def ended(self, stage: str, code: int, message: str, reason: str = "Error") -> None:
        self.container(
            stage,
            {"terminated": {"exitCode": code, "reason": reason, "message": message}},
            "Failed" if code else "Succeeded",
        )

    def complete(self, stage: str, result: dict[str, Any]) -> None:
        self.ended(stage, 0, json.dumps({"reason": "Succeeded", "result": result}), "Completed")
        self._job_condition(stage, "Complete", "")

    def fail(self, stage: str, outcome: Outcome, message: str) -> None:
        self.ended(stage, outcome.exit.code, json.dumps({"reason": outcome.exit.reason, "message": message}))
        self._job_condition(stage, "Failed", "PodFailurePolicy")

    def _job_condition(self, stage: str, kind: str, reason: str, message: str = "") -> None:
        conditions = [{"type": kind, "status": "True", "reason": reason, "message": message}]
        self.get("Job", f"-{stage}")["status"] = {"conditions": conditions}

    def pod_refused(self, stage: str, message: str) -> None:
        """The Job controller's Event about a pod that the API server would not have."""
        involved = {"kind": "Job", "uid": self.get("Job", f"-{stage}")["metadata"]["uid"]}
        owner = {"uid": involved["uid"], "controller": True}
        metadata = {"name": f"refused-{stage}", "uid": f"uid-{next(self.uids)}", "ownerReferences": [owner]}
        self.objects["Event", f"refused-{stage}"] = {
            "metadata": metadata,
            "involvedObject": involved,
            "message": message,
        }

    def job_failed(self, stage: str, reason: str, message: str = "") -> None:
        self._job_condition(stage, "Failed", reason, message)

    def roll_out(self, stage: str = "host") -> None:
        raw = self.get(*self.owner(stage))
        replicas = raw["spec"].get("replicas", 1)
        raw["status"] = {
            "observedGeneration": 1,
            "replicas": replicas,
            "updatedReplicas": replicas,
            "availableReplicas": replicas,
        }

    def train(self, result: dict[str, Any] = TRAINED) -> None:
        """The path to an artifact."""
        self.reconcile()
        self.complete("prepare", PREPARED)
        self.reconcile()
        self.complete("train", result)
        self.reconcile()

    def measure(self, **scores: float) -> None:
        """The candidate answers, and so does a base model of its own; the evaluate Job ends with these scores."""
        self.roll_out()
        self.reconcile()
        if self.exists("Deployment", "-base"):
            self.roll_out("base")
            self.reconcile()
        self.complete("evaluate", evaluated(self.evaluation().id, **scores))
        self.reconcile()

    def evaluation(self) -> EvaluationConfig:
        """What the evaluate Job is told."""
        volumes = self.get("Job", "-evaluate")["spec"]["template"]["spec"]["volumes"]
        (item,) = [
            item
            for volume in volumes
            for item in volume.get("configMap", {}).get("items", [])
            if item["path"] == "evaluation.json"
        ]
        return EvaluationConfig.model_validate_json(self.get("ConfigMap")["data"][item["key"]])

    def serve(self) -> None:
        """The whole path to Ready, without an evaluation."""
        self.train()
        self.roll_out()
        self.reconcile()


def _holds(pod: dict[str, Any], kind: str, raw: dict[str, Any]) -> bool:
    """Whether a pod keeps an object from going: it mounts the claim, or is controlled by the Job or Deployment."""
    if kind == "PersistentVolumeClaim":
        claims = (volume.get("persistentVolumeClaim", {}) for volume in pod["spec"]["volumes"])
        return any(claim.get("claimName") == raw["metadata"]["name"] for claim in claims)
    return controller_of(pod) == raw["metadata"]["uid"]


def _merge(found: dict[str, Any], patch: Any) -> None:
    """RFC 7386."""
    for key, value in patch.items():
        if value is None:
            found.pop(key, None)
        elif isinstance(value, dict):
            _merge(found.setdefault(key, {}), value)
        else:
            found[key] = value
