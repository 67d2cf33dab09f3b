"""Where `finetune report` finds what evaluate left: in .finetune on this machine, or in a cluster.

Without --namespace or --context a job of this directory is meant, and where there is none of that name, one of the
cluster that kubectl points at: what README says to type works for both.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeVar
from urllib.parse import urlsplit
from urllib.request import url2pathname

from finetune_operator.api.status import EvaluationStatus, FineTuneJobStatus
from finetune_operator.api.v1alpha1 import FineTuneJobSpec
from finetune_operator.conditions import Type
from finetune_operator.finetunejob.desired.evaluation import endpoint_prices, gate_config
from finetune_operator.finetunejob.desired.volumes import WORKSPACE
from finetune_trainer.contract.config import REPORT_PAGE, REPORT_ROWS
from finetune_trainer.evaluation.decision import REPORT, Decision, again
from finetune_trainer.evaluation.inspection import Row
from pydantic import ValidationError

from finetune_cli.cluster import Cluster
from finetune_cli.errors import UserError
from finetune_cli.jobs import only
from finetune_cli.places import elsewhere
from finetune_cli.store import Store, find, known

T = TypeVar("T")


@dataclass(frozen=True)
class Reported:
    """A report: `rows` reads every test row, `page` is the HTML where it lies on this machine."""

    decision: Decision
    rows: Callable[[], list[Row]]
    page: Path | None = None


def reported(target: str | None, cluster: Cluster | None) -> Reported:
    """The report of NAME or NAME/REVISION; without a name, of the only job. UserError where there is none."""
    name, _, revision = (target or "").partition("/")
    if cluster:
        return _from_cluster(name, revision, cluster)
    if name in known() or (not name and known()):
        return _from_run(find(name or None), revision)
    return elsewhere(name or None, None, lambda: _from_cluster(name, revision, Cluster()))


def _from_run(store: Store, revision: str) -> Reported:
    directory = _of_revision(store, revision) if revision else _newest(store)
    return Reported(
        decision_of((directory / REPORT).read_text("utf-8")),
        lambda: _rows((directory / REPORT_ROWS).read_text("utf-8")),
        directory / REPORT_PAGE,
    )


def _newest(store: Store) -> Path:
    evaluation = _evaluation(store.name, store.read() or FineTuneJobStatus())
    return Path(url2pathname(urlsplit(evaluation.report).path)).parent


def _of_revision(store: Store, revision: str) -> Path:
    found = sorted(store.workspace(revision).evaluations.glob(f"*/{REPORT}"), key=lambda path: path.stat().st_mtime)
    if not found:
        there = sorted({path.parts[-4] for path in store.directory.glob(f"*/evaluations/*/{REPORT}")})
        raise UserError(f"{store.name} has no report of revision {revision}; there is {', '.join(there) or 'none'}.")
    return found[-1].parent


def _from_cluster(name: str, revision: str, cluster: Cluster) -> Reported:
    job = cluster.job(name or only(cluster.names()))
    name = job.name
    evaluation = _evaluation(name, job.status)
    # On the revision's volume, or in its directory of a bucket.
    place, _, path = evaluation.report.rpartition("/evaluations/")
    newest = place.rpartition("/")[2].removeprefix(f"{name}-")
    if revision and revision != newest:
        measured = cluster.measured(name, revision)
        directory = PurePosixPath(
            WORKSPACE, "evaluations", evaluation.id if evaluation.id in measured else measured[-1]
        )
    else:
        directory = PurePosixPath(WORKSPACE, "evaluations", path).parent

    def read(file: str) -> str:
        return cluster.read(name, revision or newest, str(directory / file), newest)

    decision = decision_of(read(REPORT))
    if not revision or revision == newest:
        asked = FineTuneJobSpec.model_validate(job.document["spec"]).evaluation
        prices = decision.prices.model_copy(update={"endpoints": endpoint_prices(asked)})
        decision = again(decision, gate_config(asked.gate), prices)
    return Reported(decision, lambda: _whole(read(REPORT_ROWS), decision))


def _whole(text: str, decision: Decision) -> list[Row]:
    """The rows; UserError where the pod's log, in which they came, was begun anew on the way."""
    if text.count("\n") != decision.result.rows:
        raise UserError(
            f"{REPORT_ROWS} of {decision.name} is longer than its node keeps of a log (10 MiB, unless "
            "containerLogMaxSize says more); copy it from the revision's volume."
        )
    return _rows(text)


def _evaluation(name: str, status: FineTuneJobStatus) -> EvaluationStatus:
    if status.evaluation is None:
        found = next((each for each in status.conditions if each.type == Type.EVALUATED), None)
        said = f"{name} was not evaluated: set evaluation.enabled, wait for it, or name a revision that was."
        raise UserError(f"{said} {found.message if found else ''}".strip())
    return status.evaluation


def decision_of(text: str) -> Decision:
    """A report.json; UserError for another version's."""
    return _parsed(lambda: Decision.model_validate_json(text))


def _rows(text: str) -> list[Row]:
    # A row may have line ends of other kinds in it.
    return _parsed(lambda: [Row.model_validate_json(line) for line in text.split("\n") if line])


def _parsed(parse: Callable[[], T]) -> T:
    try:
        return parse()
    except ValidationError as error:
        raise UserError("The report was written by another version of finetune; evaluate again.") from error
