"""`finetune report`: whether it was worth it, as a table here and as a page to pass on.

The numbers are those that evaluate left in report.json; the gate is the manifest's as it is now, and the prices are
those given here, else those that the report was made with.
"""

from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from finetune_operator.api.status import EvaluationStatus, FineTuneJobStatus
from finetune_operator.api.v1alpha1 import FineTuneJobSpec
from finetune_operator.finetunejob.desired.evaluation import gate_config
from finetune_operator.finetunejob.desired.volumes import WORKSPACE
from finetune_trainer.contract.config import GateConfig, Prices
from finetune_trainer.evaluation.decision import Decision, again
from finetune_trainer.evaluation.inspection import TUNED
from finetune_trainer.evaluation.page import render
from pydantic import ValidationError
from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from finetune_cli.cluster import Cluster
from finetune_cli.errors import UserError
from finetune_cli.store import find

REPORT = "report.json"


def print_run(page: Path, console: Console) -> None:
    """Print the table of a report on this machine, and where its page is."""
    _print(_parsed(page.with_name(REPORT).read_text("utf-8")), page, console)


def report_on(name: str | None, cluster: Cluster | None, prices: Prices, save: Path | None, console: Console) -> None:
    """Print the table and say where the page is. `cluster` None: of a run on this machine. UserError without one."""
    decision, page = _from_cluster(name, cluster) if cluster else _from_run(name)
    decision = again(decision, decision.gate, _merged(decision.prices, prices))
    if save or page is None or prices != Prices():
        page = save or Path(f"{decision.name}-{decision.revision}.html")
        page.write_text(render(decision), encoding="utf-8")
    _print(decision, page, console)


def given_prices(
    currency: str | None, accelerator_hour: float | None, prompt: float | None, completion: float | None
) -> Prices:
    """The prices that were given, and no others; tokens' prices by the million."""
    given = {
        "currency": currency,
        "accelerator_hour": accelerator_hour,
        "million_prompt_tokens": prompt,
        "million_completion_tokens": completion,
    }
    return Prices.model_validate({name: value for name, value in given.items() if value is not None})


def _merged(before: Prices, given: Prices) -> Prices:
    return before.model_copy(update=given.model_dump(exclude_unset=True))


def _from_run(name: str | None) -> tuple[Decision, Path]:
    store = find(name)
    status = store.read() or FineTuneJobStatus()
    evaluation = _evaluation(store.name, status)
    page = Path(url2pathname(urlsplit(evaluation.report).path))
    return _parsed(page.with_name(REPORT).read_text("utf-8")), page


def _from_cluster(name: str | None, cluster: Cluster) -> tuple[Decision, None]:
    if name is None:
        raise UserError("Which FineTuneJob? `kubectl get ftj` lists them.")
    raw = cluster.job(name)
    status = FineTuneJobStatus.model_validate(raw.get("status", {}))
    evaluation = _evaluation(name, status)
    claim, _, path = evaluation.report.removeprefix("pvc://").partition("/")
    text = cluster.read(name, claim.removeprefix(f"{name}-"), str((WORKSPACE / path).with_name(REPORT)))
    decision = _parsed(text)
    return again(decision, _gate(FineTuneJobSpec.model_validate(raw["spec"])), decision.prices), None


def _gate(spec: FineTuneJobSpec) -> GateConfig | None:
    return gate_config(spec.evaluation.gate)


def _evaluation(name: str, status: FineTuneJobStatus) -> EvaluationStatus:
    if status.evaluation is None:
        found = next((each for each in status.conditions if each.type == "Evaluated"), None)
        raise UserError(f"{name} was not evaluated. {found.message if found else ''}".strip())
    return status.evaluation


def _parsed(text: str) -> Decision:
    try:
        return Decision.model_validate_json(text)
    except ValidationError as error:
        raise UserError("The report was written by another version of finetune; evaluate again.") from error


def _print(decision: Decision, page: Path, console: Console) -> None:
    console.print(summary(decision))
    console.print(f"The report: {page}", highlight=False, soft_wrap=True)


def summary(decision: Decision) -> RenderableType:
    """The answer, a line for each contender, and the gate's word."""
    return Group("", Text(decision.headline, "bold"), _table(decision), Text(decision.verdict.message))


def _table(decision: Decision) -> Table:
    result = decision.result
    decides = decision.metric
    others = [metric for metric in result.metrics if metric != decides]
    shown = Table(box=box.SIMPLE, pad_edge=False)
    shown.add_column("", no_wrap=True)
    shown.add_column(decides.value, justify="right", no_wrap=True)
    for column in (*(metric.value for metric in others), "tokens", "p50 s", "p95 s", "req/s"):
        shown.add_column(column, justify="right")
    for name, contender in {TUNED: result.tuned, **result.baselines}.items():
        score, took = contender.scores[decides], contender.requests
        shown.add_row(
            name,
            f"{score.score:.3f} ({score.low:.2f} to {score.high:.2f})",
            *(f"{contender.scores[metric].score:.3f}" for metric in others),
            f"{took.prompt_tokens:.0f}",
            f"{took.latency_p50:.2f}",
            f"{took.latency_p95:.2f}",
            f"{took.requests_per_second:.2f}",
            style="bold" if name == TUNED else "",
        )
    return shown
