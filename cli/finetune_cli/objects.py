"""The runs of a directory as the FineTuneJobs that a cluster would have. `ground` asks for the API of a laptop.

What a cluster keeps in a spec is looked up where it is true here: whether a job is suspended is whether somebody runs
it. A model that has passed its gate sleeps when nothing serves it; its endpoint has no URL then.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from finetune_operator.api.status import Condition, Phase
from finetune_operator.api.v1alpha1 import API_VERSION, KIND
from finetune_operator.conditions import Reason, Type
from finetune_operator.finetunejob.stages import STAGES
from finetune_operator.names import RUN_CONFIG

from finetune_cli.background import Background
from finetune_cli.errors import UserError
from finetune_cli.job import written
from finetune_cli.jobs import Job
from finetune_cli.kubectl import Raw
from finetune_cli.laptop import Laptop
from finetune_cli.state import GENERATION
from finetune_cli.store import ROOT

logger = logging.getLogger(__name__)
# The namespace of all that is here.
HERE = "local"
# Beside a run: the revision that has passed its gate, and when.
_PASSED = "passed"
_NEVER = "1970-01-01T00:00:00Z"


@dataclass(frozen=True)
class Objects:
    """Those of the runs of a directory. `unread`: the annotations of one whose manifest can't be read now."""

    runs: Background
    unread: Mapping[str, str]

    def all(self) -> list[Raw]:
        """All, the newest first."""
        found = [*filter(None, map(self._readable, self.laptop.names()))]
        return sorted(found, key=lambda raw: (raw["metadata"]["creationTimestamp"], raw["metadata"]["name"]))[::-1]

    def get(self, name: str) -> Raw | None:
        """The run of a name; None where there is none. UserError where its status can't be read."""
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
        manifest = self._manifest(job.name)
        metadata, passed = manifest.get("metadata", {}), self._passed(job)
        told = job.document["status"]
        if passed is not None:
            told = {**told, "conditions": [_since(each, passed) for each in told["conditions"]]}
            if not _serves(job):
                asked = "spec" in manifest or not _disabled(job.condition(Type.HOSTED))
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
                "suspend": job.idle and passed is None and job.status.phase == Phase.SUSPENDED,
            },
            "status": told,
        }

    def _passed(self, job: Job) -> Raw | None:
        """When what led its revision past its gate came about, by condition; None before, and once it has missed one.

        It is kept beside the run: one that serves it again goes through all that was done once more, and may fail.
        """
        revision, path = job.status.revision or "", self.laptop.root / job.name / _PASSED
        mark = _read(path)
        if mark.get("revision") != revision:
            if not has_passed(job):
                return None
            mark = {"revision": revision, "since": _times(job)}
            path.write_text(json.dumps(mark))
        return None if job.status.phase == Phase.REJECTED else dict(mark["since"])

    def _manifest(self, name: str) -> Raw:
        """The same, whatever has become of it."""
        try:
            return self.manifest(name)
        except UserError:
            return {"metadata": {"annotations": dict(self.unread)}}

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
        """What lies here as NAME.yaml; nothing where that is another job's or not there. UserError with its faults."""
        path = self.runs.manifest(name)
        if not path.is_file():
            return {}
        job, found = written(path)
        return found if job.metadata.name == name else {}

    @property
    def laptop(self) -> Laptop:
        """The directory."""
        return Laptop(self.runs.directory / ROOT)


def has_passed(job: Job) -> bool:
    """Whether there is nothing left to do but to serve it, or not even that. Pure."""
    before = [job.condition(stage.condition) for stage in STAGES if not (stage.hosts or stage.serves)]
    asked = [found for found in before if found and not _disabled(found)]
    ended = job.status.phase == Phase.SUSPENDED and bool(asked) and all(map(_done, asked))
    return _serves(job) or ended or job.status.phase == Phase.SUCCEEDED


def _serves(job: Job) -> bool:
    return job.status.endpoint is not None


def _disabled(found: Condition | None) -> bool:
    return found is not None and found.reason == Reason.DISABLED


def _done(found: Condition) -> bool:
    # Where a merged model answers otherwise, the adapter is served in its place.
    return found.status == "True" or found.reason == Reason.ANSWERS_DIFFER


def _times(job: Job) -> Raw:
    """When it was trained, measured and promoted; of one that is not promoted now, when it could have been. Pure."""
    found = {each["type"]: each for each in job.document["status"].get("conditions", [])}
    since = {kind: found[kind]["lastTransitionTime"] for kind in (Type.TRAINED, Type.EVALUATED) if kind in found}
    promoted = found.get(Type.PROMOTED, {})
    if promoted.get("status") == "True":
        return since | {Type.PROMOTED: promoted["lastTransitionTime"]}
    return since | ({Type.PROMOTED: max(since.values())} if since else {})


def _since(condition: Raw, passed: Raw) -> Raw:
    """What serves it again is no news."""
    return {**condition, "lastTransitionTime": passed.get(condition["type"], condition["lastTransitionTime"])}


def _read(path: Path) -> Raw:
    """A mark; nothing where there is none, or half of one."""
    try:
        return dict(json.loads(path.read_text()))
    except (FileNotFoundError, ValueError):
        return {}
