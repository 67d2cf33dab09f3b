"""An Engine rehearsed in memory: what a plan asks for is made, and a test plays the controllers and the kubelet."""

import itertools
import json
from datetime import UTC, datetime
from typing import Any

from finetune_operator.api.engine import KIND, EngineSpec, EngineStatus
from finetune_operator.engine.desired import Target
from finetune_operator.engine.plan import plan, refused
from finetune_operator.kinds.actions import Apply, Create, Patch, Scale
from finetune_operator.kinds.plan import Plan, Refusal
from finetune_operator.kinds.snapshot import Snapshot
from finetune_operator.settings import Settings

SETTINGS = Settings(trainer_image="trainer:1", hosting_image="vllm-gpu:1", hosting_cpu_image="vllm-cpu:1")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
GPUS = {"limits": {"nvidia.com/gpu": 1, "memory": "16Gi"}}


def target(settings: Settings = SETTINGS, **spec: Any) -> Target:
    """A target of the smallest spec, with the given fields in place of its own."""
    parsed = EngineSpec.model_validate({"model": {"source": "hf://org/model"}} | spec)
    return Target("chat", "team", "the-uid", parsed, settings)


class Cluster:
    """What is there of one Engine, `chat`. `named`: what of others stands in the namespace."""

    def __init__(self, **spec: Any) -> None:
        self.settings = SETTINGS
        self.engine: dict[str, Any] = {
            "metadata": {
                "name": "chat",
                "namespace": "team",
                "uid": "the-uid",
                "generation": 1,
                "resourceVersion": "1",
            },
            "spec": {"model": {"source": "hf://org/model"}} | spec,
        }
        self.objects: dict[tuple[str, str], dict[str, Any]] = {}
        self.pods: list[dict[str, Any]] = []
        self.named: dict[tuple[str, str], Any] = {}
        # What FineTuneJobs want loaded, and what the pods tell.
        self.loads: dict[str, list[dict[str, Any]]] = {"ConfigMap": [], "Service": []}
        self.answers: dict[str, Any] = {}
        self.now = NOW
        self._versions = itertools.count(1)

    def edit(self, **spec: Any) -> None:
        """Apply another manifest."""
        self.engine["spec"] |= spec
        self.engine["metadata"]["generation"] += 1

    def snapshot(self) -> Snapshot:
        children: dict[str, list[Any]] = {"Pod": self.pods}
        for (kind, _), raw in self.objects.items():
            children.setdefault(kind, []).append(raw)
        return Snapshot(self.engine, children, named=self.named, loads=self.loads, answers=self.answers)

    def look(self) -> Plan[EngineStatus]:
        """Plan once; what it has to read is read."""
        planned = plan(self.snapshot(), self.settings, self.now)
        if planned.reads:
            self.named = {found: self.named.get(found) for found in planned.reads}
            planned = plan(self.snapshot(), self.settings, self.now)
        return planned

    def reconcile(self) -> Plan[EngineStatus]:
        """Carry out what is planned until nothing is left, and write the status."""
        while (planned := self.look()).actions:
            for action in planned.actions:
                self._carry_out(action)
        self._write(planned)
        return planned

    def refuse(self, *refusals: Refusal) -> None:
        """Write the status that an operator writes whose actions were refused."""
        self._write(refused(self.snapshot(), self.look(), refusals, NOW))

    def roll_out(self, available: int | None = None) -> None:
        """As many pods as are asked for, of which some answer; all of them when it is not said."""
        raw = self.objects["Deployment", "chat"]
        wanted = raw["spec"]["replicas"]
        counts = {"replicas": wanted, "updatedReplicas": wanted}
        answering = wanted if available is None else available
        raw["status"] = counts | {"availableReplicas": answering, "observedGeneration": raw["metadata"]["generation"]}

    def pod(self, name: str = "chat-1", fetch: dict[str, Any] | None = None, **status: Any) -> None:
        """A pod; `fetch`: the state of the container that fetches the model."""
        spec = self.objects["Deployment", "chat"]["spec"]["template"]["spec"]
        found = {"phase": "Pending"} | status
        if fetch:
            found["initContainerStatuses"] = [{"name": "fetch", "restartCount": 3, "state": fetch}]
        metadata = {"name": name, "namespace": "team", "uid": name, "labels": {"finetune.dev/engine": "chat"}}
        self.pods = [raw for raw in self.pods if raw["metadata"]["name"] != name]
        self.pods.append({"metadata": metadata, "spec": spec, "status": found})

    def condition(self, kind: str) -> tuple[str, str, str]:
        """Status, reason and message."""
        told = self.engine["status"]["conditions"]
        found = next(each for each in told if each["type"] == kind)
        return found["status"], found["reason"], found["message"]

    @property
    def deployment(self) -> dict[str, Any]:
        return self.objects["Deployment", "chat"]

    def _write(self, planned: Plan[EngineStatus]) -> None:
        self.engine["status"] = planned.status.model_dump(mode="json", by_alias=True, exclude_none=True)

    def _carry_out(self, action: Any) -> None:
        match action:
            case Create(manifest) | Apply(manifest):
                self._put(json.loads(json.dumps(manifest)))
            case Scale(ref, version, replicas):
                assert (ref.uid, version) == ("the-uid", self.engine["metadata"]["resourceVersion"])
                self.edit(replicas=replicas)
            case Patch(ref, body) if ref.kind == "Pod":
                raw = next(each for each in self.pods if each["metadata"]["uid"] == ref.uid)
                raw["metadata"].setdefault("annotations", {}).update(body["metadata"]["annotations"])
            case Patch(ref, body) if "metadata" not in body:
                self.objects[ref.kind, ref.name]["data"] |= body["data"]
            case Patch(ref, body):
                raw = self.objects[ref.kind, ref.name]
                assert body["metadata"]["resourceVersion"] == raw["metadata"]["resourceVersion"]
                raw["metadata"]["annotations"] |= body["metadata"]["annotations"]
                raw["data"] |= body["data"]
                raw["metadata"]["resourceVersion"] = str(next(self._versions))
            case _:
                raise AssertionError(f"{KIND}: {action}")

    def _put(self, manifest: dict[str, Any]) -> None:
        where = manifest["kind"], manifest["metadata"]["name"]
        before = self.objects.get(where, {"metadata": {"uid": f"uid-{next(self._versions)}", "generation": 0}})
        identity = {"uid": before["metadata"]["uid"], "resourceVersion": str(next(self._versions))}
        changed = manifest.get("spec") != before.get("spec")
        identity["generation"] = before["metadata"].get("generation", 0) + changed
        applied = {"manager": "finetune-operator", "operation": "Apply", "fieldsV1": {}}
        metadata = manifest["metadata"] | identity | {"managedFields": [applied]}
        self.objects[where] = manifest | {"metadata": metadata, "status": before.get("status", {})}
