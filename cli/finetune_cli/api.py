"""For notebooks and scripts: the same functions as the command line's, typed.

    from finetune_cli import api as finetune

    finetune.apply("job.yaml")
    job = finetune.wait("recipes", timeout="6h")
    print(finetune.report("recipes").headline)

Which job is meant is decided as for the command line: one of this directory, else one of the cluster that kubectl
points at; with `namespace` or `context` one of a cluster. What can't be done raises `Error`, a sentence with the exit
code that the command would have ended with.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from finetune_operator.api.complaints import complaints
from finetune_operator.api.status import PlanStatus
from finetune_operator.api.v1alpha1 import FineTuneJob
from finetune_trainer.contract.config import Prices
from finetune_trainer.evaluation.decision import Decision, again
from pydantic import ValidationError
from rich.console import Console

from finetune_cli import follow, places
from finetune_cli.cluster import Cluster
from finetune_cli.differences import Difference
from finetune_cli.errors import ExitCode
from finetune_cli.errors import UserError as Error
from finetune_cli.extras import extra
from finetune_cli.job import read
from finetune_cli.jobs import Job, Logged
from finetune_cli.periods import period
from finetune_cli.plan import is_file, plan_of
from finetune_cli.reported import reported
from finetune_cli.side_by_side import differing

__all__ = ["Difference", "Error", "Job", "Logged", "apply", "compare", "job", "jobs", "logs", "plan", "report", "wait"]


def apply(manifest: str | Path | Mapping[str, Any], *, namespace: str | None = None, context: str | None = None) -> Job:
    """Apply a FineTuneJob, of a file or as a mapping, to a cluster; it goes on there by itself."""
    if isinstance(manifest, Mapping):
        found, text = _parsed(manifest), json.dumps(manifest)
    else:
        found, text = read(Path(manifest)), Path(manifest).read_text("utf-8")
    return Cluster(namespace or found.metadata.namespace, context).apply(text)


def wait(
    name: str | None = None,
    *,
    namespace: str | None = None,
    context: str | None = None,
    timeout: str | None = None,
    progress: bool = True,
) -> Job:
    """Wait until a job is Ready, and tell meanwhile how far it is. Error when it has failed, or `timeout` is over."""
    place, found = places.find(name, _cluster(namespace, context))
    ended, conclusion = follow.wait(place, found.name, period(timeout, "timeout"), Console() if progress else None)
    if conclusion.code != ExitCode.DONE:
        raise Error(conclusion.message, conclusion.code)
    return ended


def job(name: str | None = None, *, namespace: str | None = None, context: str | None = None) -> Job:
    """A job as it is now; without a name, the only one."""
    _, found = places.find(name, _cluster(namespace, context))
    return found


def jobs(*, namespace: str | None = None, context: str | None = None) -> list[Job]:
    """All jobs of this directory, or of a namespace."""
    return places.everything(_cluster(namespace, context))


def logs(
    name: str | None = None, stage: Logged | None = None, *, namespace: str | None = None, context: str | None = None
) -> Iterator[str]:
    """The lines that a stage has written so far; without `stage`, the one that is under way."""
    place, found = places.find(name, _cluster(namespace, context))
    return place.logs(found, stage.value if stage else found.current, follow=False)


def plan(
    what: str | Path | None = None, *, namespace: str | None = None, context: str | None = None, progress: bool = True
) -> PlanStatus:
    """How a job trains, and why: batch, learning rate, steps, memory. Of a job (NAME, or the only one) what was chosen;
    the data of a FILE is prepared here, which takes what `finetune check` does. Error where there is none yet, or the
    data can't be trained.
    """
    if what is None or (isinstance(what, str) and not is_file(what)):
        return plan_of(job(what, namespace=namespace, context=context))
    if namespace or context:
        raise Error(f"{what} is planned on this machine: leave namespace and context out.", ExitCode.USAGE)
    with extra("data"):
        from finetune_cli.check import plan_of_file

    return plan_of_file(Path(what), Console(quiet=not progress))


def compare(
    first: str, second: str, *, namespace: str | None = None, context: str | None = None
) -> tuple[Difference, ...]:
    """The fields in which what two jobs were asked for differs. Error where one is a run of this machine and the other
    a cluster's: they say the same in different fields.
    """
    there = _cluster(namespace, context)
    found = differing(places.find(first, there), places.find(second, there))
    if found is None:
        raise Error(
            f"{first} and {second} are not at one place: compare two runs of this machine, or two of a cluster's."
        )
    return found


def report(
    name: str | None = None,
    *,
    namespace: str | None = None,
    context: str | None = None,
    prices: Prices | None = None,
) -> Decision:
    """The report of NAME or NAME/REVISION: headline, scores, costs and rows worth a look, by other prices if given."""
    found = reported(name, _cluster(namespace, context)).decision
    return again(found, found.gate, prices) if prices else found


def _cluster(namespace: str | None, context: str | None) -> Cluster | None:
    return Cluster(namespace, context) if namespace or context else None


def _parsed(manifest: Mapping[str, Any]) -> FineTuneJob:
    try:
        return FineTuneJob.model_validate_json(json.dumps(manifest), strict=True)
    except ValidationError as error:
        raise Error(" ".join(complaints(error)), ExitCode.USAGE) from error
