"""prepare: the model and the rows are fetched, checked, split and counted, and what was left out is chosen.

Called by the program's `prepare` command, on a pod without an accelerator: what can be wrong with a dataset is found
here. `prepared.json` is written last: a run for the same revision that finds it ends at once.
"""

import hashlib
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from finetune_trainer.contract.config import EvaluationConfig, Format, RunConfig, Source, Workspace
from finetune_trainer.contract.outcome import Outcome, StageError
from finetune_trainer.contract.report import DatasetReport, ModelReport, PrepareResult, Rows
from finetune_trainer.data import base, examples, fetch, formats, split
from finetune_trainer.data.base import Base
from finetune_trainer.data.examples import Example, Row
from finetune_trainer.evaluation import testset
from finetune_trainer.server import Reporter
from finetune_trainer.training import hyperparameters, schedule

logger = logging.getLogger(__name__)

REPORT_EVERY = 500
# A test split is cut before the others, so that adding a validation split leaves it as it was.
SPLITS = ("test", "validation")


def prepare(
    config: RunConfig,
    workspace: Workspace,
    reporter: Reporter,
    evaluation: EvaluationConfig | None = None,
    devices: int = 1,
) -> PrepareResult:
    """Fill the workspace with the model and the rows; what was found. Raises StageError.

    `evaluation`: what the result will be measured by, which has to fit the rows before anything is trained. `devices`:
    how many will train it.
    """
    workspace.prepared.unlink(missing_ok=True)
    if config.training.batch_size:
        schedule.check_shared(config.training.batch_size, devices)
    reporter.update(activity=f"fetching {config.model.source.uri}")
    commit = fetch.model(config.model, workspace.model)
    found = base.read(workspace.base_model(config), config.model)
    splits, shape = _examples(config, workspace, found, reporter)
    reporter.update(activity="writing the rows")
    digest = _store(splits, workspace)
    if evaluation is not None and _measured(evaluation, shape):
        testset.chosen(evaluation, testset.questions(workspace, "test"))
    result = _result(config, commit, found, shape, splits, digest, devices)
    _mark(workspace, result.model_dump_json(by_alias=True, exclude_none=True, indent=2).encode())
    logger.info("%s", result.model_dump_json(by_alias=True, exclude_none=True))
    return result


def _measured(evaluation: EvaluationConfig, shape: examples.Shape) -> bool:
    """Rows of text are not measured, unless somebody counts on it."""
    return shape.format != Format.TEXT or bool(evaluation.metrics) or evaluation.gate is not None


def _examples(
    config: RunConfig, workspace: Workspace, found: Base, reporter: Reporter
) -> tuple[dict[str, list[Example]], examples.Shape]:
    """The rows by split, checked, normalised and counted."""
    dataset = config.dataset
    wanted = {"train": dataset.train}
    given = {name: getattr(dataset, name) for name in SPLITS if getattr(dataset, name) is not None}
    wanted |= {name: choice.source for name, choice in given.items() if choice.source is not None}
    files: dict[str, Path] = {}
    for name, source in wanted.items():
        reporter.update(activity=f"fetching {source.uri}")
        files[name] = fetch.file(source, workspace.root / "downloads")
    shape = _shape(config, files["train"], found)
    splits: dict[str, list[Example]] = {}
    for name, source in wanted.items():
        reporter.update(activity=f"checking {source.uri}", step=0)
        splits[name] = examples.check(_lines(source, files[name]), shape, source.uri, _counted(found, reporter))
    fractions = {name: choice.fraction for name, choice in given.items() if choice.fraction is not None}
    splits |= split.cut(splits["train"], fractions, config.training.seed, dataset.train.uri)
    _check_answers(splits, found)
    return splits, shape


def _lines(source: Source, path: Path) -> Iterator[formats.Line]:
    return formats.read(path, Path(source.uri).name)


def _shape(config: RunConfig, train: Path, found: Base) -> examples.Shape:
    """How the rows are read: the first one of train tells the format."""
    source = config.dataset.train
    line = next(_lines(source, train), None)
    if line is None:
        raise StageError(Outcome.DATA_INVALID, f"{source.uri} has no rows.")
    if line.row is None:
        raise StageError(Outcome.DATA_INVALID, f"{line.place}: {line.problem}.")
    shape = examples.shape_of(config.dataset, examples.recognise(config.dataset, line.row), found.chat)
    if unused := examples.unused(line.row, shape):
        logger.info("Columns that format %s has no use for: %s.", shape.format.value, ", ".join(unused))
    return shape


def _counted(found: Base, reporter: Reporter) -> Callable[[Row], int]:
    """Counts a row's tokens and tells how many rows were counted."""
    rows = 0

    def tokens(row: Row) -> int:
        nonlocal rows
        rows += 1
        if rows % REPORT_EVERY == 0:
            reporter.update(step=rows)
        return found.tokens(row)

    return tokens


def _check_answers(splits: dict[str, list[Example]], found: Base) -> None:
    """Chats with several answers need a template that marks them, which train would find out on an accelerator."""
    learned = [*splits["train"], *splits.get("validation", [])]
    if any(example.many_answers for example in learned):
        # Costly to import, and needed by such chats alone.
        from finetune_trainer.training.rows import check_template

        check_template(found.tokenizer)


def _result(
    config: RunConfig,
    commit: str | None,
    found: Base,
    shape: examples.Shape,
    splits: dict[str, list[Example]],
    digest: str,
    devices: int,
) -> PrepareResult:
    lengths = [example.tokens for example in splits["train"]]
    facts = hyperparameters.Rows(len(lengths), sum(lengths), max(lengths))
    plan = hyperparameters.choose(config.training, facts, found.model, devices)
    return PrepareResult(
        revision=config.revision,
        model=ModelReport(commit=commit, parameters=found.model.parameters, context_length=found.model.context_length),
        dataset=DatasetReport(
            format=shape.format,
            rows=Rows(**{name: len(rows) for name, rows in splits.items()}),
            tokens=facts.tokens,
            longest=facts.longest,
            longer_than_max_length=sum(length > plan.max_length for length in lengths),
            digest=digest,
        ),
        plan=plan,
    )


def _store(splits: dict[str, list[Example]], workspace: Workspace) -> str:
    """Write the splits; a digest over their names and bytes."""
    digest = hashlib.sha256()
    workspace.data.mkdir(parents=True, exist_ok=True)
    for left in workspace.data.glob("*.jsonl"):
        left.unlink()
    for name, rows in sorted(splits.items()):
        content = b"".join(example.line for example in rows)
        digest.update(f"{name} {len(content)}\n".encode() + content)
        (workspace.data / f"{name}.jsonl").write_bytes(content)
    return f"sha256:{digest.hexdigest()}"


def _mark(workspace: Workspace, content: bytes) -> None:
    """Write prepared.json, once all that it stands for would outlive a loss of power."""
    for directory in (workspace.model, workspace.data):
        for path in directory.rglob("*"):
            if path.is_file():
                _flush(path)
    partial = workspace.prepared.with_name(f"{workspace.prepared.name}.partial")
    partial.write_bytes(content)
    _flush(partial)
    partial.rename(workspace.prepared)


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
