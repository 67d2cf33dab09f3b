"""`finetune report A B`: two runs or revisions side by side: scores, costs, the manifest, and the rows that flipped."""

from collections.abc import Iterator, Mapping, Sequence

from finetune_trainer.contract.config import Contract, Metric
from finetune_trainer.contract.results import TUNED
from finetune_trainer.evaluation.costs import amount
from finetune_trainer.evaluation.decision import Decision
from finetune_trainer.evaluation.inspection import Row
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from finetune_cli.cluster import Cluster
from finetune_cli.errors import ExitCode, UserError
from finetune_cli.output import OutputFormat, document, dump
from finetune_cli.report import table
from finetune_cli.reported import reported
from finetune_cli.words import shortened

SHOWN, SHOWN_LENGTH = 20, 100


class Flip(Contract):
    """A test row of both that one tuned model answers better than the other."""

    prompt: str
    reference: str
    before: str
    after: str
    gained: float


class Versus(Contract):
    """Two reports. `changed`: fields of the manifest, each with its value in both; `flips` by `metric`, worst first.

    `shared`: how many test rows both were asked; without any, scores don't compare.
    """

    before: Decision
    after: Decision
    metric: Metric
    shared: int
    changed: dict[str, tuple[str | None, str | None]]
    flips: tuple[Flip, ...]


def compare(first: str, second: str, cluster: Cluster | None, output: OutputFormat, console: Console) -> None:
    """Print both side by side; UserError where they have no metric in common."""
    before = reported(first, cluster)
    after = reported(second, cluster)
    found = versus(before.decision, after.decision, before.rows(), after.rows())
    if output == OutputFormat.TABLE:
        for part in _parts(found, first, second):
            console.print(part)
    else:
        dump(document(found), output, console)


def versus(before: Decision, after: Decision, old: Sequence[Row], new: Sequence[Row]) -> Versus:
    """What differs between them, by the metric that decides for `after`, else by one that both have."""
    both = [metric for metric in (after.metric, *after.result.metrics) if metric in before.result.metrics]
    if not both:
        raise UserError(
            f"{before.name} was measured by {_named(before)} and {after.name} by {_named(after)}: give both a metric "
            "in common with evaluation.metrics.",
            ExitCode.USAGE,
        )
    known = {_asked(row): row for row in old}
    pairs = [(known[_asked(row)], row) for row in new if _asked(row) in known]
    flips = [flip for pair in pairs if (flip := _flip(*pair, both[0])).gained]
    return Versus(
        before=before,
        after=after,
        metric=both[0],
        shared=len(pairs),
        changed=_changed(before.manifest, after.manifest),
        flips=tuple(sorted(flips, key=lambda flip: flip.gained)),
    )


def _named(decision: Decision) -> str:
    return ", ".join(metric.value for metric in decision.result.metrics)


def _asked(row: Row) -> tuple[str, str]:
    return str(row.prompt), row.reference


def _flip(old: Row, new: Row, metric: Metric) -> Flip:
    return Flip(
        prompt=new.asked,
        reference=new.reference,
        before=old.answers[TUNED],
        after=new.answers[TUNED],
        gained=round(new.scores[metric][TUNED] - old.scores[metric][TUNED], 4),
    )


def _changed(old: Mapping[str, str], new: Mapping[str, str]) -> dict[str, tuple[str | None, str | None]]:
    fields = sorted({*old, *new})
    return {field: (old.get(field), new.get(field)) for field in fields if old.get(field) != new.get(field)}


def _parts(found: Versus, first: str, second: str) -> Iterator[RenderableType]:
    yield _scores(found, first, second)
    lost = sum(flip.gained < 0 for flip in found.flips)
    better = f"{second} answers {len(found.flips) - lost} better and {lost} worse by {found.metric.value}"
    yield Text(f"Of {found.shared} test rows that both were asked, {better}.")
    yield _changes(found, first, second)
    for flip in found.flips[:SHOWN]:
        yield Text.assemble(
            (f"{flip.gained:+.2f} {shortened(flip.prompt, SHOWN_LENGTH)}", "italic"),
            *(
                f"\n  {name}: {shortened(text, SHOWN_LENGTH) or '(nothing)'}"
                for name, text in (("right answer", flip.reference), (first, flip.before), (second, flip.after))
            ),
        )


def _scores(found: Versus, first: str, second: str) -> Table:
    shown = table("", first, second)
    both = (found.before, found.after)
    shown.add_row("recommendation", *(each.recommendation.value for each in both))
    metrics = [metric for metric in found.after.result.metrics if metric in found.before.result.metrics]
    for metric in metrics:
        scores = (each.result.tuned.scores[metric] for each in both)
        shown.add_row(metric.value, *(f"{score.score:.3f} ({score.low:.2f} to {score.high:.2f})" for score in scores))
    for name in sorted({*found.before.result.baselines, *found.after.result.baselines}):
        shown.add_row(f"{name}, {found.metric.value}", *(_baseline(each, name, found.metric) for each in both))
    shown.add_row("test rows", *(str(each.result.rows) for each in both))
    shown.add_row("trained tokens", *(f"{each.making.trained_tokens:,}" for each in both))
    shown.add_row("to make it", *(amount(each.making.money, each.prices.currency) for each in both))
    for what, field in (("by tokens", "money_by_tokens"), ("by time", "money_by_time")):
        costs = (amount(getattr(each.costs[TUNED], field), each.prices.currency) for each in both)
        shown.add_row(f"1,000 requests {what}", *costs)
    shown.add_row("requests/s", *(f"{each.result.tuned.requests.requests_per_second:.2f}" for each in both))
    return shown


def _baseline(decision: Decision, name: str, metric: Metric) -> str:
    found = decision.result.baselines.get(name)
    return f"{found.scores[metric].score:.3f}" if found and metric in found.scores else "not asked"


def _changes(found: Versus, first: str, second: str) -> RenderableType:
    if not found.changed:
        return Text("Nothing in the manifest differs.")
    shown = table("changed", first, second)
    for field, values in found.changed.items():
        shown.add_row(field, *(shortened(value or "", SHOWN_LENGTH) for value in values))
    return shown
