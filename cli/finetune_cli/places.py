"""Where a job is that a verb names: on this machine, or in a cluster.

Without --namespace or --context a job of this directory is meant, and where there is none of that name, one of the
cluster that kubectl points at: what README says to type works for both. `kubectl finetune` always means a cluster.
"""

from collections.abc import Callable
from typing import TypeVar

from finetune_cli.cluster import Cluster
from finetune_cli.errors import ExitCode, UserError
from finetune_cli.jobs import Job, Place, only
from finetune_cli.laptop import Laptop

T = TypeVar("T")


def find(name: str | None, cluster: Cluster | None) -> tuple[Place, Job]:
    """The job and where it is; without a name, the only one. UserError where there is none, or several."""
    here = Laptop()
    if cluster is None and (name in here.names() if name else here.names()):
        return here, here.job(here.store(name).name)
    there = cluster or Cluster()
    return there, elsewhere(name, cluster, lambda: there.job(name or only(there.names())))


def everything(cluster: Cluster | None) -> list[Job]:
    """All jobs of a place."""
    here = Laptop()
    if cluster is None and here.names():
        return here.jobs()
    return elsewhere(None, cluster, (cluster or Cluster()).jobs)


def elsewhere(name: str | None, cluster: Cluster | None, ask: Callable[[], T]) -> T:
    """What the cluster says. Where nobody has named one, what it refuses is only a part of what went wrong."""
    try:
        return ask()
    except UserError as error:
        if cluster:
            raise
        missing = f"No job {name} was run in this directory" if name else "No job was run in this directory yet"
        raise UserError(f"{missing}, and in a cluster: {error.message}", ExitCode.USAGE) from error
