"""`finetune check`: prepare, as `finetune run` and a cluster run it, and a look at what it made of the data.

No torch, no accelerator. What is prepared stays in the workspace: a run of the same manifest goes on from there.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from finetune_operator.api.status import PlanStatus
from finetune_operator.finetunejob.desired.run_config import run_config
from finetune_operator.finetunejob.stages import JOBS
from finetune_operator.finetunejob.stages.prepare import planned
from finetune_trainer.contract.results import PrepareResult
from finetune_trainer.data import base, seen
from finetune_trainer.data.findings import DataReport
from finetune_trainer.data.seen import Parts, Prepared, Seen
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from finetune_cli.ending import Done, after, failure
from finetune_cli.errors import UserError, code_of
from finetune_cli.job import LocalJob, localize, read
from finetune_cli.local import POLL_SECONDS
from finetune_cli.output import OutputFormat, dump
from finetune_cli.plan import plan_table
from finetune_cli.progress import View, view
from finetune_cli.report import table
from finetune_cli.store import Store
from finetune_cli.trainer import StageProcess, write_evaluation_config, write_run_config

STAGE = "prepare"
BINS, BAR = 8, 40
# Of a row that is shown: its beginning and its end, where what is learned stands.
SHOWN = 800


@dataclass(frozen=True)
class PreparedData:
    """What prepare made, as far as it is shown."""

    name: str
    result: PrepareResult
    found: DataReport
    train: Prepared
    rows: tuple[Seen, ...]


def check_manifest(path: Path, output: OutputFormat, console: Console, notes: Console) -> None:
    """Check the FineTuneJob of a file, and print what there is to know. UserError when its data can't be trained."""
    job, store, result = _prepared(path, notes)
    prepared = _look(job, store, result)
    if output == OutputFormat.TABLE:
        console.print(Group(*told(prepared)))
    else:
        dump({"prepared": _json(result), **_json(prepared.found)}, output, console)


def plan_of_file(path: Path, notes: Console) -> PlanStatus:
    """How the FineTuneJob of a file would be trained. UserError when its data can't be."""
    _, _, result = _prepared(path, notes)
    return planned(result.plan)


def _prepared(path: Path, notes: Console) -> tuple[LocalJob, Store, PrepareResult]:
    """Run prepare on the FineTuneJob of a file, while nobody else runs it."""
    manifest = read(path)
    job = localize(manifest.metadata.name, manifest.spec, path.parent)
    store = Store(job.name)
    shown = view(notes)
    with store.lock():
        for note in job.notes:
            shown.say(note)
        try:
            return job, store, _prepare(job, store, shown)
        finally:
            shown.close()


def _json(document: PrepareResult | DataReport) -> dict[str, object]:
    return document.model_dump(mode="json", by_alias=True, exclude_none=True)


def _prepare(job: LocalJob, store: Store, shown: View) -> PrepareResult:
    """Run prepare's process to its end; one that is complete ends at once."""
    write_run_config(job, store)
    write_evaluation_config(job, store)
    shown.begin(STAGE, "starting")
    with StageProcess(JOBS[STAGE], job, store) as process:
        while (ending := process.wait(POLL_SECONDS)) is None:
            if progress := process.progress():
                shown.update(progress)
    ended = after(ending, failures=0, retries=0)
    if isinstance(ended, Done):
        return PrepareResult.model_validate(ended.result)
    failed = failure(ending)
    raise UserError(f"{STAGE} failed ({failed.reason}): {failed.message}", code_of(failed.reason))


def _look(job: LocalJob, store: Store, result: PrepareResult) -> PreparedData:
    workspace = store.workspace(job.revision)
    config = run_config(job.name, job.revision, job.spec)
    model = base.read(workspace.base_model(config), config.model)
    train = seen.read(workspace.learned("train"))
    rows = tuple(train.rows(seen.examples(train.lengths), model))
    found = DataReport.model_validate_json(workspace.data_report.read_bytes())
    return PreparedData(job.name, result, found, train, rows)


def told(prepared: PreparedData) -> Iterator[RenderableType]:
    """Rows, lengths, what was found, some rows with what is learned of them, and the plan."""
    dataset = prepared.result.dataset
    yield Text(f"{prepared.name}: {dataset.rows.train} rows to train on, format {dataset.format.value}", "bold")
    yield _rows(prepared)
    yield Text("Lengths of train's rows, in tokens", "bold")
    yield _lengths(prepared.train)
    yield Text("What was found", "bold")
    sentences = [finding.sentence for finding in prepared.found.findings] or ["Nothing odd."]
    yield Text("\n".join(f"- {sentence}" for sentence in sentences) + "\n")
    yield Text("A short, a middling and a long row as the model sees them, «what is learned» marked", "bold")
    yield from (_row(row) for row in prepared.rows)
    yield Text("\nThe plan", "bold")
    yield plan_table(planned(prepared.result.plan))


def _rows(prepared: PreparedData) -> Table:
    dataset = prepared.result.dataset
    shown = table("", "rows", "tokens", "learned")
    shown.add_row("train", f"{dataset.rows.train:,}", f"{dataset.tokens:,}", f"{prepared.train.learned:,}")
    shown.add_row("validation", f"{dataset.rows.validation:,}", "", "")
    shown.add_row("test", f"{dataset.rows.test:,}", "", "")
    return shown


def _lengths(train: Prepared) -> Table:
    bins = seen.histogram(train.lengths, BINS)
    most = max(count for _, _, count in bins)
    shown = Table.grid(padding=(0, 2))
    for low, high, count in bins:
        shown.add_row(f" {low} to {high}", "█" * -(-count * BAR // most), f"{count:,}")
    shown.add_row("")
    return shown


def _row(row: Seen) -> Text:
    place = Text(f"{row.place}, {row.tokens} tokens:\n", "dim")
    avoided = [Text("rejected:\n", "dim"), _marked(row.rejected)] if row.rejected else []
    return Text.assemble(place, _marked(row.parts), *avoided)


def _marked(parts: Parts) -> Text:
    shown = Text()
    for part, learned in parts:
        shown.append(f"«{part}»" if learned else part, "bold green" if learned else "default")
    return shown if len(shown) <= SHOWN else Text.assemble(shown[: SHOWN // 2], (" … ", "dim"), shown[-SHOWN // 2 :])
