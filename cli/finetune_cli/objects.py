"""The runs of a directory as the FineTuneJobs that a cluster would have. `ground` asks for the API of a laptop.

What a cluster keeps in a spec is looked up where it is true here: whether a job is suspended is whether somebody runs
it. A model that has passed its gate sleeps when nothing serves it; its endpoint has no URL then.
"""

import json
import logging
from dataclasses import dataclass
from datetime import UTC, datetime

import yaml
from finetune_operator.api.status import Condition, Phase
from finetune_operator.api.v1alpha1 import API_VERSION, KIND
from finetune_operator.conditions import Reason, Type
from finetune_operator.finetunejob.stages import STAGES
from finetune_operator.names import RUN_CONFIG
from yaml import YAMLError

from finetune_cli.background import Background
from finetune_cli.errors import UserError
from finetune_cli.jobs import Job
from finetune_cli.kubectl import Raw
from finetune_cli.laptop import Laptop
from finetune_cli.state import GENERATION
from finetune_cli.store import ROOT

logger = logging.getLogger(__name__)
# The namespace of all that is here.
HERE = "local"
# Beside a run: the revision that has passed its gate.
_PASSED = "passed"
_NEVER = "1970-01-01T00:00:00Z"


@dataclass(frozen=True)
class Objects:
    """Those of the runs of a directory."""

    runs: Background

    def all(self) -> list[Raw]:
        """All, the newest first."""
        found = [*filter(None, map(self._readable, self.laptop.names()))]
        return sorted(found, key=lambda raw: (raw["metadata"]["creationTimestamp"], raw["metadata"]["name"]))[::-1]

    def get(self, name: str) -> Raw | None:
        """One. UserError where its status can't be read."""
        return self._seen(self.laptop.job(name)) if name in self.laptop.names() else None

    def _readable(self, name: str) -> Raw | None:
        """One of many: whose status can't be read hides no other."""
        try:
            return self._seen(self.laptop.job(name))
        except UserError as error:
            logger.warning("%s is left out: %s", name, error.message)
            return None

    def _seen(self, job: Job) -> Raw:
        """A run as a FineTuneJob of a cluster."""
        manifest = self.manifest(job.name)
        metadata, passed = manifest.get("metadata", {}), self._passed(job)
        told = job.document["status"]
        if passed:
            told = {**told, "conditions": [_since(each, passed) for each in told["conditions"]]}
            if not _serves(job):
                asked = manifest or not _disabled(job.condition(Type.HOSTED))
                told |= {"phase": Phase.SUCCEEDED, "endpoint": {"url": "", "model": job.name} if asked else None}
        return {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": {
                "name": job.name,
                "namespace": HERE,
                "uid": job.name,
                "creationTimestamp": min(
                    (each["lastTransitionTime"] for each in told.get("conditions", [])), default=_NEVER
                ),
                "generation": GENERATION,
                "annotations": metadata.get("annotations", {}),
                "labels": metadata.get("labels", {}),
            },
            "spec": {
                **(manifest.get("spec") or self._spec(job)),
                "suspend": job.idle and not passed and job.status.phase == Phase.SUSPENDED,
            },
            "status": told,
        }

    def _passed(self, job: Job) -> str | None:
        """When its revision had passed its gate; None before, and where it has missed one since.

        It is kept beside the run: one that serves it again goes through all that was done once more, and may fail.
        """
        revision, mark = job.status.revision or "", self.laptop.root / job.name / _PASSED
        if not mark.is_file() or mark.read_text() != revision:
            if not has_passed(job):
                return None
            mark.write_text(revision)
        if job.status.phase == Phase.REJECTED:
            return None
        return datetime.fromtimestamp(mark.stat().st_mtime, UTC).isoformat(timespec="seconds")

    def _spec(self, job: Job) -> Raw:
        """What is known of a manifest that lies elsewhere, from its run config."""
        path = self.laptop.store(job.name).workspace(job.status.revision or "").root / RUN_CONFIG
        config = json.loads(path.read_text()) if path.is_file() else {}
        return {
            "model": {"source": config.get("model", {}).get("source", {}).get("uri", "")},
            "dataset": {"train": {"source": config.get("dataset", {}).get("train", {}).get("uri", "")}},
            "training": {
                key: config["training"][key] for key in ("method", "seed") if key in config.get("training", {})
            },
        }

    def manifest(self, name: str) -> Raw:
        """What lies here as NAME.yaml; nothing where that is no FineTuneJob of the name."""
        try:
            found = yaml.safe_load(self.runs.manifest(name).read_text("utf-8"))
        except (OSError, UnicodeDecodeError, YAMLError):
            return {}
        named = isinstance(found, dict) and found.get("kind") == KIND and found.get("metadata", {}).get("name") == name
        return found if named and isinstance(found.get("spec"), dict) else {}

    @property
    def laptop(self) -> Laptop:
        """The directory."""
        return Laptop(self.runs.directory / ROOT)


def has_passed(job: Job) -> bool:
    """Whether there is nothing left to do but to serve it, or not even that. Pure."""
    before = [job.condition(stage.condition) for stage in STAGES if not (stage.hosts or stage.serves)]
    asked = [found for found in before if found and not _disabled(found)]
    ended = job.status.phase == Phase.SUSPENDED and bool(asked) and all(found.status == "True" for found in asked)
    return _serves(job) or ended or job.status.phase == Phase.SUCCEEDED


def _serves(job: Job) -> bool:
    return job.status.endpoint is not None


def _disabled(found: Condition | None) -> bool:
    return found is not None and found.reason == Reason.DISABLED


def _since(condition: Raw, passed: str) -> Raw:
    """What serves it again is no news."""
    return {**condition, "lastTransitionTime": passed} if condition["type"] == Type.PROMOTED else condition
