"""A cluster rehearsed in memory: it keeps what a plan applies and lets a test play the controllers and the kubelet.

Nothing of the operator is replaced; only the API server is, by the little of it that decisions depend on. The contract
tests run the same stories against a real one.
"""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from finetune_operator import names
from finetune_operator.finetunejob.observe import Snapshot
from finetune_operator.finetunejob.plan import Plan, plan
from finetune_operator.finetunejob.stages.base import Apply, Delete, Suspend
from finetune_operator.settings import Settings
from finetune_trainer.config import EvaluationConfig
from finetune_trainer.outcome import Outcome

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
        "gradientAccumulation": 1,
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


def _interval(name: str, value: float, half: float) -> dict[str, Any]:
    return {name: value, "low": max(-1, value - half), "high": min(1, value + half)}


class Rehearsal:
    """One FineTuneJob named recipes in namespace kitchen, and everything made for it."""

    def __init__(self, **spec: Any) -> None:
        self.job: dict[str, Any] = {
            "metadata": {"name": "recipes", "namespace": "kitchen", "uid": "uid-recipes", "generation": 1},
            "spec": MANIFEST | spec,
        }
        self.objects: dict[tuple[str, str], dict[str, Any]] = {}
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self.extra: dict[str, Any] = {}
        self.uids = 0

    def edit(self, **spec: Any) -> None:
        """What `kubectl apply` of an edited manifest does."""
        self.job["spec"] = self.job["spec"] | spec
        self.job["metadata"]["generation"] += 1

    def annotate(self, key: str, value: str) -> None:
        self.job["metadata"].setdefault("annotations", {})[key] = value

    def snapshot(self) -> Snapshot:
        children: dict[str, list[Any]] = {}
        for (kind, _), raw in self.objects.items():
            if raw["metadata"].get("labels", {}).get(names.JOB) == "recipes":
                children.setdefault(kind, []).append(raw)
        stable = self.objects.get(("Service", "recipes"))
        return Snapshot(job=self.job, children=children, stable_service=stable, **self.extra)

    def look(self) -> Plan:
        """Plan once, without carrying it out."""
        return plan(self.snapshot(), Settings(), self.now)

    def reconcile(self) -> Plan:
        """Plan and carry out, as the shell does, until nothing changes; a plan that never settles fails the test."""
        for _ in range(10):
            before = json.dumps([self.job, list(self.objects.values())], default=str)
            planned = self.look()
            self._carry_out(planned)
            self.now += timedelta(seconds=1)
            if json.dumps([self.job, list(self.objects.values())], default=str) == before:
                return planned
        raise AssertionError("the plan does not settle")

    def _carry_out(self, planned: Plan) -> None:
        for action in planned.actions:
            match action:
                case Apply(manifest):
                    self._apply(manifest)
                case Suspend(ref, suspend):
                    self.objects[ref.kind, ref.name]["spec"]["suspend"] = suspend
                case Delete(ref):
                    self.delete(ref.kind, ref.name)
        self.job["status"] = planned.status.model_dump(mode="json", by_alias=True, exclude_none=True)

    def _apply(self, manifest: dict[str, Any]) -> None:
        raw = json.loads(json.dumps(manifest))
        key = raw["kind"], raw["metadata"]["name"]
        old = self.objects.get(key)
        self.uids += old is None
        metadata = {"uid": old["metadata"]["uid"] if old else f"uid-{self.uids}", "generation": 1}
        raw["metadata"] |= metadata
        if old:
            raw["status"] = old.get("status", {})
        self.objects[key] = raw

    def delete(self, kind: str, name: str) -> None:
        """Delete an object, and the pods of a Job or Deployment with it."""
        self.objects.pop((kind, name), None)
        if kind in ("Job", "Deployment"):
            self.objects = {k: raw for k, raw in self.objects.items() if raw["metadata"].get("owner") != name}

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
        return (kind, f"recipes-{revision or self.revision}{suffix}") in self.objects

    def get(self, kind: str, suffix: str = "") -> dict[str, Any]:
        return self.objects[kind, f"recipes-{self.revision}{suffix}"]

    # What the controllers and the kubelet do.

    def pod(self, stage: str, status: dict[str, Any], name: str = "", **metadata: Any) -> None:
        """The pod of a stage of the current revision, in the given status."""
        owner = f"recipes-{self.revision}" + ("" if stage == "host" else f"-{stage}")
        template = self.objects["Deployment" if stage == "host" else "Job", owner]["spec"]["template"]
        name = name or f"{owner}-x"
        labels = names.labels("recipes", self.revision, stage)
        self.objects["Pod", name] = {
            "metadata": {"name": name, "uid": name, "labels": labels, "owner": owner} | metadata,
            "spec": template["spec"],
            "status": status,
        }

    def container(self, stage: str, state: dict[str, Any], phase: str = "Pending", **more: Any) -> None:
        """A pod whose main container is in the given state."""
        owner = f"recipes-{self.revision}" + ("" if stage == "host" else f"-{stage}")
        template = self.objects["Deployment" if stage == "host" else "Job", owner]["spec"]["template"]
        container = {"name": template["spec"]["containers"][0]["name"], "state": state} | more
        self.pod(stage, {"phase": phase, "podIP": "10.0.0.7", "containerStatuses": [container]})

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

    def job_failed(self, stage: str, reason: str, message: str = "") -> None:
        self._job_condition(stage, "Failed", reason, message)

    def roll_out(self) -> None:
        raw = self.get("Deployment")
        replicas = raw["spec"].get("replicas", 1)
        raw["status"] = {
            "observedGeneration": 1,
            "replicas": replicas,
            "updatedReplicas": replicas,
            "availableReplicas": replicas,
        }

    def train(self) -> None:
        """The path to an artifact."""
        self.reconcile()
        self.complete("prepare", PREPARED)
        self.reconcile()
        self.complete("train", TRAINED)
        self.reconcile()

    def measure(self, **scores: float) -> None:
        """The candidate answers, and the evaluate Job ends with these scores."""
        self.roll_out()
        self.reconcile()
        told = self.objects["ConfigMap", f"recipes-{self.revision}-evaluate"]["data"]["evaluation.json"]
        self.complete("evaluate", evaluated(EvaluationConfig.model_validate_json(told).id, **scores))
        self.reconcile()

    def serve(self) -> None:
        """The whole path to Ready, without an evaluation."""
        self.train()
        self.roll_out()
        self.reconcile()
