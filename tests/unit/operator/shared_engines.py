"""Engines that several FineTuneJobs share, played: what their controllers would tell of the adapters that are wanted.

Used by the plan's tests on a rehearsed cluster, and by the contract tests on a real API server.
"""

from collections.abc import Iterable
from typing import Any

from finetune_operator import names
from rehearsal import TRAINED, Rehearsal

Raw = dict[str, Any]

PLACE = "s3://artifacts/recipes"
ENGINE = "chat"
SHARED: Raw = {
    "model": {"source": "s3://models/base", "credentials": {"secretRef": {"name": "bucket"}}},
    "hosting": {"engine": {"name": ENGINE}},
    "output": {"destination": PLACE, "credentials": {"secretRef": {"name": "artifacts"}}},
}
SPEC: Raw = {"model": {"source": "s3://models/base"}, "lora": {}}


def published(name: str) -> Raw:
    """What publish ends with, of a revision by its name."""
    return {"uri": f"{PLACE}/{name.rpartition('-')[2]}", "artifact": TRAINED["artifact"]}


def adapters(objects: Iterable[Raw], engine: str = ENGINE, pods: int = 1, failed: str = "") -> list[Raw]:
    """What an Engine tells once all its pods have done what these objects ask for; with `failed`, none could."""
    asked = [raw for raw in objects if raw["metadata"].get("labels", {}).get(names.LOADED_ON) == engine]
    services = [raw for raw in asked if raw["kind"] == "Service"]
    told = []
    for name in (revision(raw) for raw in asked if raw["kind"] == "ConfigMap"):
        asking = (raw["metadata"] for raw in services if revision(raw) == name)
        aliases = sorted({each["ownerReferences"][0]["name"] for each in asking})
        no = [{"pod": f"{engine}-0", "message": failed}] if failed else []
        loaded = {"pods": pods, "loaded": 0 if failed else pods}
        told.append({"name": name, **loaded, "failed": no, "answersAs": [] if no else aliases})
    return told


def revision(raw: Raw) -> str:
    """The name of the adapter that an object is about."""
    labels = raw["metadata"]["labels"]
    return names.of_revision(labels[names.JOB], labels[names.REVISION])


class Lodger(Rehearsal):
    """A FineTuneJob on an Engine, and Engines that are played."""

    def __init__(self, **spec: Any) -> None:
        super().__init__(**SHARED | spec)
        self.engine()

    def engine(self, name: str = ENGINE, spec: Raw | None = None, **status: Any) -> None:
        """An Engine as it is applied, and what it tells."""
        replicas = (spec or SPEC).get("replicas", 1)
        told = {"replicas": replicas, "availableReplicas": replicas, "model": {"name": name}, **status}
        metadata = {"name": name, "uid": name, "resourceVersion": "1"}
        self.engines[name] = {"metadata": metadata, "spec": spec or SPEC, "status": told}

    def load(self, name: str = ENGINE, pods: int = 1, failed: str = "") -> None:
        """The Engine's pods do what they are asked to."""
        told = self.engines[name]["status"]
        told |= {"replicas": pods, "adapters": adapters(self.objects.values(), name, pods, failed)}

    def publish(self) -> None:
        """Up to the artifact at its destination."""
        self.train()
        if self.exists("Job", "-publish"):
            self.complete("publish", published(self.revision))
        self.reconcile()

    def serve(self) -> None:
        """The whole path to Ready, without an evaluation."""
        self.publish()
        for _ in range(2):
            self.load()
            self.reconcile()

    def asked(self) -> set[str]:
        """The ConfigMaps that ask Engines for adapters, without the FineTuneJob's name."""
        maps = (raw for (kind, _), raw in self.objects.items() if kind == "ConfigMap")
        found = (raw["metadata"] for raw in maps if names.LOADED_ON in raw["metadata"]["labels"])
        return {each["name"].removeprefix(f"{self.name}-") for each in found}

    def stable(self) -> tuple[Raw, str | None, str | None]:
        """The stable Service's selector, and which Engine it asks to take its name for what."""
        raw = self.objects["Service", self.name]
        labels = raw["metadata"]["labels"]
        return raw["spec"]["selector"], labels.get(names.LOADED_ON), labels.get(names.REVISION)
