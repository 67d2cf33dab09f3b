"""`finetune compare`: two jobs side by side, as the web page has them: where they are, what is known, what differs.

What their models answer, row by row, is `finetune report A B`'s (`compare`).
"""

from collections.abc import Iterator
from datetime import UTC, datetime

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from finetune_cli.differences import Difference, differences
from finetune_cli.jobs import Job, Place
from finetune_cli.output import OutputFormat, dump
from finetune_cli.report import table
from finetune_cli.words import facts, where, why

Found = tuple[Place, Job]


def side_by_side(first: Found, second: Found, output: OutputFormat, console: Console) -> None:
    """Print both; `changed` is left out where one is a run of this machine and the other a cluster's."""
    (_, one), (_, other) = first, second
    changed = differing(first, second)
    if output == OutputFormat.TABLE:
        for part in _parts(one, other, changed):
            console.print(part)
        return
    fields = {each.field: [each.first or None, each.second or None] for each in changed or ()}
    told = {"jobs": [one.document, other.document]}
    dump(told if changed is None else told | {"changed": fields}, output, console)


def differing(first: Found, second: Found) -> tuple[Difference, ...] | None:
    """The fields in which what was asked for differs; None where one is a run of this machine and the other one of a
    cluster's: a run config and a spec say the same in different fields.
    """
    (place, one), (other_place, other) = first, second
    return differences(place.asked(one), other_place.asked(other)) if type(place) is type(other_place) else None


def _parts(one: Job, other: Job, changed: tuple[Difference, ...] | None) -> Iterator[RenderableType]:
    yield _told(one, other)
    yield _changes(one, other, changed)
    if one.status.evaluation and other.status.evaluation:
        line = f"`finetune report {one.name} {other.name}`"
        yield Text(f"{line} has the costs, and the test rows that one answers better.")


def _told(one: Job, other: Job) -> Table:
    now = datetime.now(UTC)
    both = [{"Where is it": where(job, now), "Why": why(job), **_facts(job), **_scores(job)} for job in (one, other)]
    shown = table("", one.name, other.name)
    for column in shown.columns[1:]:
        column.justify, column.overflow = "left", "fold"
    for name in dict.fromkeys([*both[0], *both[1]]):
        shown.add_row(name, *(Text(each.get(name, "-")) for each in both))
    return shown


def _facts(job: Job) -> dict[str, str]:
    found: dict[str, str] = {}
    name = ""
    for given, value in facts(job.status):
        name = given or name
        found[name] = f"{found[name]}\n{value}" if name in found else value
    return found


def _scores(job: Job) -> dict[str, str]:
    measured = job.status.evaluation
    if measured is None:
        return {}
    scores = {f"tuned, {measured.metric}": measured.tuned}
    scores |= {f"{name}, {measured.metric}": score for name, score in measured.baselines.items()}
    return scores | {"Gate": "passes" if measured.passed else "misses", "Test rows": f"{measured.rows}"}


def _changes(one: Job, other: Job, changed: tuple[Difference, ...] | None) -> RenderableType:
    if changed is None:
        return Text("What was asked for is not compared: one is a run of this machine, the other a cluster's.")
    if not changed:
        return Text("Nothing was asked for differently.")
    shown = table("asked for", one.name, other.name)
    for each in changed:
        shown.add_row(each.field, Text(each.first or "-"), Text(each.second or "-"))
    return shown
