"""The FineTuneJobs of a namespace, as `jobs.Place` has them, and a file of a revision's volume, for `finetune report`.

A file is read by a pod made for that (`pods`), with the template of the revision's own evaluate Job, or of its engine.
"""

import json
import re
import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from finetune_operator import names
from finetune_operator.api.v1alpha1 import GROUP, PLURAL
from finetune_operator.finetunejob.desired.volumes import WORKSPACE
from finetune_operator.finetunejob.record import evaluated_key
from finetune_operator.finetunejob.shared import engine_named_in
from finetune_operator.finetunejob.stages import HOST, STAGES
from finetune_operator.finetunejob.stages.evaluate import Evaluate
from finetune_operator.finetunejob.stages.train import Train
from finetune_operator.pods.state import INDEX
from finetune_trainer.contract.schemes import within

from finetune_cli.errors import UserError
from finetune_cli.jobs import Job, ReachableModel, before, job_of
from finetune_cli.kubectl import Kubectl, Raw
from finetune_cli.pods import container_like, pod_like
from finetune_cli.volume import FETCH, archived, holder, unpack

RESOURCE = f"{PLURAL}.{GROUP}"
# What port-forward says first, of IPv4.
FORWARDED = re.compile(r"Forwarding from 127\.0\.0\.1:(\d+) ")
# To pull the image, which the evaluate Job's node has.
READ_SECONDS = 180


@dataclass(frozen=True)
class Cluster:
    """kubectl, pointed at one namespace. `namespace` and `context` None: its own defaults. `everywhere`: of all."""

    namespace: str | None = None
    context: str | None = None
    everywhere: bool = False

    def names(self) -> list[str]:
        """The names of the FineTuneJobs in the namespace."""
        return [job.name for job in self.jobs()]

    def jobs(self) -> list[Job]:
        """The FineTuneJobs in the namespace, or in all."""
        scope = ["--all-namespaces"] if self.everywhere else []
        found = self._kubectl.json("get", RESOURCE, *scope, "-o", "json")["items"]
        return sorted((job_of(raw) for raw in found), key=lambda job: (job.namespace, job.name))

    def job(self, name: str) -> Job:
        """The FineTuneJob; UserError when there is none, or kubectl can't ask."""
        return job_of(self._kubectl.json("get", RESOURCE, name, "-o", "json"))

    def watch(self, name: str, seconds: float | None) -> Generator[Job, None, None]:
        """It as it is now and after each change, as the API server tells it."""
        deadline = None if seconds is None else time.monotonic() + seconds
        # The API server ends a watch now and then.
        while deadline is None or time.monotonic() < deadline:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            lines = self._kubectl.lines("get", RESOURCE, name, "--watch", "-o", "json", seconds=left)
            yield from map(job_of, documents(lines))

    def apply(self, manifest: str) -> Job:
        """Create the FineTuneJob of a manifest, or change it to what that says, as `kubectl apply` does."""
        return job_of(self._kubectl.json("apply", "-f", "-", "-o", "json", stdin=manifest))

    def logs(self, job: Job, stage: str, follow: bool) -> Iterator[str]:
        """What the newest pod of a stage has written; of several nodes that of the first, which reports."""
        selector = ",".join(f"{key}={value}" for key, value in _labels(job, stage).items())
        pods = self._kubectl.json("get", "pods", "-l", selector, "-o", "json")["items"]
        first = [pod for pod in pods if pod["metadata"].get("annotations", {}).get(INDEX, "0") == "0"]
        if not first:
            raise UserError(f"{job.name} has no pod of {stage}: {_without_pod(job, stage)}")
        newest = max(first, key=lambda pod: str(pod["metadata"]["creationTimestamp"]))["metadata"]["name"]
        return self._kubectl.lines("logs", f"pod/{newest}", *(["--follow"] if follow else []))

    def asked(self, job: Job) -> Raw:
        """Its spec."""
        return dict(job.document["spec"])

    def suspend(self, name: str, suspended: bool) -> None:
        """By spec.suspend."""
        patch = json.dumps({"spec": {"suspend": suspended}})
        self._kubectl("patch", RESOURCE, name, "--type=merge", f"--patch={patch}")

    def remove(self, name: str) -> None:
        """Its owner references take along what was made for it."""
        self._kubectl("delete", RESOURCE, name)

    def remove_earlier(self, job: Job) -> list[str]:
        """The operator does."""
        raise UserError(
            f"Earlier revisions of {job.name} go by themselves: hosting.revisionHistoryLimit says how many are kept."
        )

    def retry(self, name: str) -> None:
        """By the annotation that the operator looks at."""
        self._annotate(name, f"{names.RETRY}={datetime.now(UTC).isoformat(timespec='seconds')}")

    def promote(self, name: str, address: str | None) -> None:
        """By the annotation that the operator looks at; it takes no notice of a revision whose record is gone."""
        if address is None:
            return self._annotate(name, f"{names.PROMOTE}-")
        record = names.of_revision(name, names.revision_and_step(address)[0])
        if not self._kubectl("get", "configmap", record, "-o", "name", "--ignore-not-found"):
            raise UserError(
                f"{address} of {name} is not kept any more (hosting.revisionHistoryLimit): it has to be trained again."
            )
        return self._annotate(name, f"{names.PROMOTE}={address}")

    def rollback(self, job: Job) -> str:
        """By the annotation, to what answered before."""
        address = before(job)
        self.promote(job.name, address)
        return address

    def _annotate(self, name: str, annotation: str) -> None:
        self._kubectl("annotate", RESOURCE, name, annotation, "--overwrite")

    @contextmanager
    def reach(self, job: Job) -> Iterator[ReachableModel]:
        """By kubectl's port-forward to the Service that its endpoint names, on a port of kubectl's choosing."""
        endpoint = job.status.endpoint
        if endpoint is None:
            raise UserError(f"Nothing of {job.name} serves; `finetune describe {job.name}` says why.")
        address = urlsplit(endpoint.url)
        service, port = (address.hostname or "").partition(".")[0], address.port or 80
        with closing(self._kubectl.lines("port-forward", f"service/{service}", f":{port}")) as lines:
            opened = FORWARDED.match(next(lines, ""))
            if opened is None:
                forward = f"kubectl port-forward service/{service}"
                raise UserError(f"{forward} ended without a word; try `{forward} {port}` yourself: it says why.")
            url = f"http://127.0.0.1:{opened[1]}{address.path}"
            yield ReachableModel(endpoint.model_copy(update={"url": url}))

    def measured(self, name: str, revision: str) -> list[str]:
        """The ids of what was measured of a revision, from its record; UserError where nothing was."""
        record = self._kubectl.json("get", "configmap", names.of_revision(name, revision), "-o", "json").get("data", {})
        start, end = evaluated_key("|").split("|")
        found = sorted(key.removeprefix(start).removesuffix(end) for key in record if key.startswith(start))
        if not found:
            raise UserError(
                f"Revision {revision} of {name} was not evaluated: name one that was, or set evaluation.enabled."
            )
        return found

    def read(self, name: str, revision: str, path: str, newest: str) -> str:
        """A text file of a revision's workspace; UserError when it can't be had.

        An earlier revision's Job is gone, and its volume may be kept: the newest revision's Job shows how to read it.
        """
        report = (
            f"If PersistentVolumeClaim {names.of_revision(name, newest)} still is, its directory evaluations has it."
        )
        text = json.dumps(self._template(name, newest, f"the report. {report}"))
        template = json.loads(text.replace(names.of_revision(name, newest), names.of_revision(name, revision)))
        with self._pod(reader(template, name, revision, path)) as pod:
            self._kubectl(
                *("wait", f"pod/{pod}", "--for=jsonpath={.status.phase}=Succeeded", f"--timeout={READ_SECONDS}s")
            )
            return self._kubectl("logs", f"pod/{pod}")

    def copy(self, name: str, newest: str, uri: str, directory: Path) -> None:
        """Bring what lies at a claim's address to a directory, by a pod made for that; UserError or StageError when it
        can't be had. `newest`: the revision whose pods show how.
        """
        claim, _, path = within(uri).partition("/")
        mount = f"PersistentVolumeClaim {claim}. Have a pod of yours mount it, and copy {path} from there."
        with self._pod(holder(self._template(name, newest, mount), name, newest, claim)) as pod:
            self._kubectl("wait", f"pod/{pod}", "--for=condition=Ready", f"--timeout={READ_SECONDS}s")
            with self._kubectl.bytes("exec", pod, f"--container={FETCH}", "--", *archived(path)) as stream:
                unpack(stream, directory, uri)

    def _template(self, name: str, revision: str, otherwise: str) -> Raw:
        """The spec of pods of a revision. `otherwise`: what they would show, and what to do without them."""
        for kind, found in (
            ("job", names.of_stage(name, revision, Evaluate.name)),
            ("deployment", names.of_revision(name, revision)),
            ("job", names.of_stage(name, revision, Train.name)),
        ):
            raw = self._kubectl("get", kind, found, "-o", "json", "--ignore-not-found")
            if raw.strip():
                return dict(json.loads(raw)["spec"]["template"]["spec"])
        raise UserError(
            f"The Jobs of revision {revision} are gone (ttlAfterFinished), and no engine of it is there whose pods "
            f"could show how to read {otherwise}"
        )

    @contextmanager
    def _pod(self, manifest: Raw) -> Iterator[str]:
        made = self._kubectl.json("create", "-f", "-", "-o", "json", stdin=json.dumps(manifest))
        pod = str(made["metadata"]["name"])
        try:
            yield pod
        finally:
            self._kubectl("delete", f"pod/{pod}", "--wait=false", "--ignore-not-found")

    @property
    def _kubectl(self) -> Kubectl:
        return Kubectl(self.namespace, self.context)


# How the trainer is told of a bucket.
_BUCKET = "--bucket"


def _labels(job: Job, stage: str) -> dict[str, str]:
    """Those of a stage's pods: a shared engine's are its own."""
    engine = engine_named_in(job.document.get("spec", {}))
    if engine and stage == HOST.name:
        return names.engine_labels(engine)
    return names.labels(job.name, job.status.revision, stage)


def _without_pod(job: Job, stage: str) -> str:
    found = next((job.condition(each.condition) for each in STAGES if each.name == stage), None)
    told = f"{found.type} is {found.status} ({found.reason})" if found else "the operator has not looked at it yet"
    return f"{told}. Pods go with ttlAfterFinished, with another revision, and as soon as an engine is not needed."


def documents(lines: Iterable[str]) -> Iterator[Raw]:
    """The objects that kubectl prints one behind the other: each ends with a line that is a brace alone."""
    text = ""
    for line in lines:
        text += line
        if line.rstrip() == "}":
            yield dict(json.loads(text))
            text = ""


def reader(template: Raw, name: str, revision: str, path: str) -> Raw:
    """A pod that prints a file of the revision's volume."""
    containers = (*template.get("initContainers", ()), *template["containers"])
    like = next((each for each in containers if _BUCKET in each.get("args", ())), template["containers"][0])
    return pod_like(
        *(template, name, revision, "report", READ_SECONDS),
        # A node may fail to start a container.
        restartPolicy="OnFailure",
        **_bringing(like, path),
        containers=[container_like(like, "report", "cat", path, kept=("volumeMounts",))],
    )


def _bringing(like: Raw, path: str) -> Raw:
    """What brings the file, where the workspace is kept in a bucket: the trainer, as that container is told of it."""
    told = like.get("args", [])
    if _BUCKET not in told:
        return {}
    within = PurePosixPath(path).relative_to(WORKSPACE).as_posix()
    args = [_BUCKET, told[told.index(_BUCKET) + 1], "--workspace", str(WORKSPACE), "--only", within]
    brings = container_like(
        *(like, "bring", "python", "-m", "finetune_trainer", "bring"), kept=("volumeMounts", "env"), args=args
    )
    return {"initContainers": [brings]}
