"""`finetune fetch`: a published artifact comes to this machine, verified."""

import re
import shutil
from pathlib import Path

from finetune_operator.api.status import ArtifactStatus, FineTuneJobStatus
from finetune_operator.names import of_revision
from finetune_trainer.contract.outcome import StageError
from finetune_trainer.contract.published import without_base
from finetune_trainer.data import signing
from finetune_trainer.data.parts import bring as bring_from
from finetune_trainer.data.places import published_to
from finetune_trainer.data.published import bring
from rich.console import Console

from finetune_cli.cluster import Cluster
from finetune_cli.errors import ExitCode, UserError
from finetune_cli.store import find, known

FILE = "file://"
# Where it lies in a workspace.
ARTIFACT = "artifact"


def fetch_artifact(
    what: str, to: Path | None, cluster: Cluster | None, console: Console, key: Path | None = None
) -> None:
    """Bring the artifact of NAME, of a run here or in a cluster, or what was published at an address. `key`: the public
    one of whoever has to have signed it. UserError where it can't be had.
    """
    artifact = None if published_to(what) else _artifact(what, cluster)
    uri = artifact.uri if artifact else what
    if uri.startswith(FILE):
        console.print(f"The artifact of {what} is on this machine: {uri.removeprefix(FILE)}", soft_wrap=True)
        return
    workspace = re.fullmatch(f"(.+/{re.escape(what)}-([0-9a-f]{{8}}))/{ARTIFACT}", uri)
    target = to or Path(workspace[2] if workspace else re.split("[/@:]", uri.rstrip("/"))[-1])
    if target.exists():
        raise UserError(f"{target} exists: name another directory with --to.", ExitCode.USAGE)
    if artifact and workspace:
        _from_workspace(workspace[1], artifact, target, key)
        size = artifact.bytes / 1e6
        told = f"{target} is revision {workspace[2]} of {what}, {size:.1f} MB, as it was trained: {artifact.digest}"
        console.print(told, highlight=False, soft_wrap=True)
        return
    try:
        manifest = bring(uri, target, lambda name: console.print(f"  {name}", highlight=False), key)
    except StageError as error:
        raise UserError(error.message, error.outcome.exit.code) from error
    digest, size = manifest.artifact.digest, manifest.artifact.bytes / 1e6
    told = f"{target} is revision {manifest.revision} of {manifest.name}, {size:.1f} MB, as published: {digest}"
    told += f", and signed with the key of {key}" if key else ""
    console.print(told, highlight=False, soft_wrap=True)
    if manifest.base_model:
        base = without_base(manifest.lineage) if manifest.lineage else f"Its base model is {manifest.base_model}."
        console.print(base, highlight=False, soft_wrap=True)


def _from_workspace(uri: str, artifact: ArtifactStatus, target: Path, key: Path | None) -> None:
    """Bring the artifact of a workspace that is kept in a bucket, held to the digest in its FineTuneJob's status."""
    partial = target.with_name(f"{target.name}.partial")
    try:
        if key:
            raise signing.unsigned(f"{uri}/{ARTIFACT}")
        bring_from(uri, partial, [f"{ARTIFACT}={artifact.digest}"])
    except StageError as error:
        raise UserError(error.message, error.outcome.exit.code) from error
    (partial / ARTIFACT).rename(target)
    shutil.rmtree(partial)


def _artifact(name: str, cluster: Cluster | None) -> ArtifactStatus:
    """What a FineTuneJob has made, and where it lies."""
    if cluster is None and name in known():
        status = find(name).read() or FineTuneJobStatus()
    else:
        status = (cluster or Cluster()).job(name).status
    if status.artifact is None:
        raise UserError(f"{name} has no artifact yet.")
    uri = status.artifact.uri
    if uri.startswith(f"pvc://{of_revision(name, str(status.revision))}/"):
        raise UserError(
            f"The artifact of {name} is {uri}, on the workspace's volume: set output.destination, and it is published "
            "where it can be fetched from."
        )
    return status.artifact
