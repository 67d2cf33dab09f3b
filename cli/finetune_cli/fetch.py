"""`finetune fetch`: an artifact comes to this machine, verified: from where it was published, or from its workspace.

What lies on a volume is read through a pod (`Cluster.copy`).
"""

import re
from pathlib import Path
from tempfile import TemporaryDirectory

from finetune_operator.api.status import ArtifactStatus, FineTuneJobStatus
from finetune_trainer.contract.outcome import DISK_FULL, Outcome, StageError
from finetune_trainer.contract.published import Manifest, without_base
from finetune_trainer.data import digests, signing
from finetune_trainer.data.parts import bring as bring_from
from finetune_trainer.data.places import published_to
from finetune_trainer.data.published import bring, drafted, hold
from rich.console import Console

from finetune_cli.cluster import Cluster
from finetune_cli.errors import ExitCode, UserError
from finetune_cli.jobs import Job
from finetune_cli.store import find, known

FILE, PVC = "file://", "pvc://"
# Where it lies in a workspace.
ARTIFACT = "artifact"


def fetch_artifact(what: str, to: Path | None, cluster: Cluster | None, console: Console, key: Path | None) -> None:
    """Bring the artifact of NAME, of a run here or in a cluster, or what was published at an address. `key`: the public
    one of whoever has to have signed it. UserError where it can't be had; then nothing is left.
    """
    job = None if published_to(what) else _job(what, cluster)
    uri = _artifact(job).uri if job else what
    if uri.startswith(FILE):
        console.print(f"The artifact of {what} is on this machine: {uri.removeprefix(FILE)}", soft_wrap=True)
        return
    target = to or Path(_revision(what, uri) or re.split("[/@:]", uri.rstrip("/"))[-1])
    if target.exists():
        raise UserError(f"{target} exists: name another directory with --to.", ExitCode.USAGE)
    try:
        told = _of_job(job, uri, target, cluster or Cluster(), key) if job else None
        if told is None:
            manifest = bring(uri, target, lambda name: console.print(f"  {name}", highlight=False), key)
            told = _as_published(manifest, target, key)
    except StageError as error:
        raise UserError(error.message, error.outcome.exit.code) from error
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        full = f"The disk with {target.absolute()} is full, and nothing was left there"
        raise UserError(f"{full}: make room, or name another directory with --to.") from error
    for sentence in told:
        console.print(sentence, highlight=False, soft_wrap=True)


def _revision(name: str, uri: str) -> str | None:
    """The revision in whose workspace an address is."""
    found = re.fullmatch(f".+/{re.escape(name)}-([0-9a-f]{{8}})/{ARTIFACT}", uri)
    return found[1] if found else None


def _of_job(job: Job, uri: str, target: Path, cluster: Cluster, key: Path | None) -> list[str] | None:
    """Bring what is nowhere else than in a cluster or a workspace; None for what was published elsewhere."""
    if revision := _revision(job.name, uri):
        return _as_trained(job, revision, target, cluster, key)
    if uri.startswith(PVC):
        return _as_published(_through(cluster, job, uri, target, key), target, key)
    return None


def _as_trained(job: Job, revision: str, target: Path, cluster: Cluster, key: Path | None) -> list[str]:
    """Bring what lies in a workspace, on its volume or in a bucket, held to the digest in its FineTuneJob's status."""
    artifact, uri = _artifact(job), _artifact(job).uri
    if key:
        raise signing.unsigned(uri)
    with drafted(target) as partial:
        if uri.startswith(PVC):
            _copy(cluster, job, uri, partial)
        else:
            _bring_from_bucket(uri.removesuffix(f"/{ARTIFACT}"), partial, artifact.digest)
        if (digest := digests.digest(partial)) != artifact.digest:
            told = f"{uri} is not what was trained: its digest is {digest}, and status has {artifact.digest}."
            raise StageError(Outcome.DATA_INVALID, told)
    size = artifact.bytes / 1e6
    return [f"{target} is revision {revision} of {job.name}, {size:.1f} MB, as it was trained: {artifact.digest}"]


def _bring_from_bucket(uri: str, partial: Path, digest: str) -> None:
    with TemporaryDirectory(dir=partial.absolute().parent, prefix=f"{partial.name}.") as directory:
        bring_from(uri, Path(directory), [f"{ARTIFACT}={digest}"])
        (Path(directory) / ARTIFACT).rename(partial)


def _through(cluster: Cluster, job: Job, uri: str, target: Path, key: Path | None) -> Manifest:
    """Bring what was published to a claim, by a pod that mounts it."""
    with drafted(target) as partial:
        _copy(cluster, job, uri, partial)
        return hold(partial, uri, key, _artifact(job).digest)


def _copy(cluster: Cluster, job: Job, uri: str, partial: Path) -> None:
    partial.mkdir()
    cluster.copy(job.name, str(job.status.revision), uri, partial)


def _as_published(manifest: Manifest, target: Path, key: Path | None) -> list[str]:
    digest, size = manifest.artifact.digest, manifest.artifact.bytes / 1e6
    told = f"{target} is revision {manifest.revision} of {manifest.name}, {size:.1f} MB, as published: {digest}"
    signed = f", and signed with the key of {key}" if key else ""
    if not manifest.base_model:
        return [f"{told}{signed}"]
    base = without_base(manifest.lineage) if manifest.lineage else f"Its base model is {manifest.base_model}."
    return [f"{told}{signed}", base]


def _job(name: str, cluster: Cluster | None) -> Job:
    """The FineTuneJob of that name, of a run here or in the cluster."""
    if cluster is None and name in known():
        return Job(name, find(name).read() or FineTuneJobStatus(), {})
    return (cluster or Cluster()).job(name)


def _artifact(job: Job) -> ArtifactStatus:
    """What a FineTuneJob has made, and where it lies."""
    if job.status.artifact is None:
        raise UserError(f"{job.name} has no artifact yet; `finetune wait {job.name}` waits for it.")
    return job.status.artifact
