"""prepare: the model and the rows are fetched, checked, split and made what is trained; what was left out is chosen.

Called by the program's `prepare` command, on a pod without an accelerator: what can be wrong with a dataset is found
here. `prepared.json` is written last: a run for the same revision that finds it ends at once.
"""

import hashlib
import logging
import os
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from finetune_trainer.contract.config import (
    EvaluationConfig,
    Format,
    Metric,
    RunConfig,
    Source,
    Workspace,
)
from finetune_trainer.contract.outcome import Outcome, StageError
from finetune_trainer.contract.report import DatasetReport, ModelReport, PrepareResult, Rows
from finetune_trainer.data import base, examples, fetch, formats, split, trained
from finetune_trainer.data.base import Base
from finetune_trainer.data.examples import Example
from finetune_trainer.data.line import Line
from finetune_trainer.data.notices import DataReport, Finding, Notices
from finetune_trainer.data.trained import Trained
from finetune_trainer.evaluation import testset
from finetune_trainer.server import Reporter
from finetune_trainer.training import hyperparameters, schedule

logger = logging.getLogger(__name__)

# A test split is cut before the others, so that adding a validation split leaves it as it was.
SPLITS = ("test", "validation")
# What is trained, and what is asked: evaluation takes its examples from train.
LEARNED, ASKED = ("train", "validation"), ("train", "test")


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
    splits, shape, noticed = _examples(config, workspace, found, reporter)
    learned, longest, max_length = _learned(config, splits, found)
    for name, content in learned.items():
        noticed += trained.findings(name, content, max_length)
    reporter.update(activity="writing the rows")
    digest = _store(splits, learned, workspace)
    if evaluation is not None and _measured(evaluation, shape):
        testset.chosen(evaluation, testset.questions(workspace, "test"))
        testset.check_baselines(evaluation, workspace)
        _probe(evaluation, workspace, reporter)
    workspace.data_report.write_text(DataReport(findings=noticed).model_dump_json(by_alias=True, indent=2) + "\n")
    plan = hyperparameters.choose(config.training, _counted(learned["train"], longest), found.model, devices)
    result = PrepareResult(
        revision=config.revision,
        model=ModelReport(commit=commit, parameters=found.model.parameters, context_length=found.model.context_length),
        dataset=_report(shape, splits, learned, longest, digest),
        plan=plan,
        warnings=tuple(finding.sentence for finding in noticed),
    )
    _mark(workspace, result.model_dump_json(by_alias=True, exclude_none=True, indent=2).encode())
    logger.info("%s", result.model_dump_json(by_alias=True, exclude_none=True))
    return result


def _measured(evaluation: EvaluationConfig, shape: examples.Shape) -> bool:
    """Rows of text are not measured, unless somebody counts on it."""
    return shape.format != Format.TEXT or bool(evaluation.metrics) or evaluation.gate is not None


def _probe(evaluation: EvaluationConfig, workspace: Workspace, reporter: Reporter) -> None:
    """Hours of training are of no use to a judge or a baseline that can't be asked."""
    elsewhere = any(baseline.endpoint for baseline in evaluation.baselines)
    if elsewhere or Metric.JUDGE in evaluation.metrics:
        # The openai client takes a second to import, and most jobs ask nobody else.
        from finetune_trainer.evaluation.others import probed

        probed(evaluation, workspace, reporter)


def _examples(
    config: RunConfig, workspace: Workspace, found: Base, reporter: Reporter
) -> tuple[dict[str, list[Example]], examples.Shape, list[Finding]]:
    """The rows by split, checked, normalised and tokenized; and what is odd about them."""
    dataset = config.dataset
    wanted = {"train": dataset.train}
    given = {name: getattr(dataset, name) for name in SPLITS if getattr(dataset, name) is not None}
    wanted |= {name: choice.source for name, choice in given.items() if choice.source is not None}
    files: dict[str, list[tuple[Source, Path]]] = {}
    for name, source in wanted.items():
        reporter.update(activity=f"fetching {source.uri}")
        files[name] = [(each, fetch.file(each, workspace.root / "downloads")) for each in fetch.each(source)]
    shape = _shape(config, files["train"], found)
    splits: dict[str, list[Example]] = {}
    noticed: list[Finding] = []
    for name, source in wanted.items():
        reporter.update(activity=f"checking {source.uri}", step=0)
        notices = Notices(Path(source.uri).name, shape, found.special)
        splits[name] = examples.check(
            notices.lines(_lines(files[name])),
            shape,
            source.uri,
            found,
            learn=name in LEARNED,
            told=lambda rows: reporter.update(step=rows),
        )
        noticed += notices.findings(splits[name])
    fractions = {name: choice.fraction for name, choice in given.items() if choice.fraction is not None}
    splits |= split.cut(splits["train"], fractions, config.training.seed, dataset.train.uri)
    return splits, shape, noticed


def _lines(files: list[tuple[Source, Path]]) -> Iterator[Line]:
    return chain.from_iterable(formats.read(path, Path(source.uri).name) for source, path in files)


def _shape(config: RunConfig, train: list[tuple[Source, Path]], found: Base) -> examples.Shape:
    """How the rows are read: the first one of train tells the format."""
    source = config.dataset.train
    line = next(_lines(train), None)
    if line is None:
        raise StageError(Outcome.DATA_INVALID, f"{source.uri} has no rows.")
    if line.row is None:
        raise StageError(Outcome.DATA_INVALID, f"{line.place}: {line.problem}.")
    return examples.shape_of(config.dataset, examples.recognise(config.dataset, line.row), found.chat, found.developer)


def _learned(config: RunConfig, splits: dict[str, list[Example]], found: Base) -> tuple[dict[str, Trained], int, int]:
    """What is trained of each split; the tokens of train's longest row, and those that a row may have."""
    longest = max((len(row.tokens) for row in splits["train"] if row.tokens.learned), default=1)
    max_length = hyperparameters.longest_trained(config.training, longest, found.model)
    learned = {name: trained.fit(splits[name], max_length) for name in LEARNED if name in splits}
    for name, content in learned.items():
        if not content.rows:
            raise StageError(Outcome.DATA_INVALID, _nothing(config, name, splits[name], max_length))
    return learned, longest, max_length


def _nothing(config: RunConfig, split: str, rows: list[Example], max_length: int) -> str:
    """Why no row of a split teaches anything."""
    where = f"of {config.dataset.train.uri}" if split == "train" else f"for {split}"
    if not any(row.tokens.learned for row in rows):
        return f"In every row {where} all answers have the weight 0, so there is nothing to learn."
    return (
        f"In every row {where} the prompt alone fills training.maxLength ({max_length} tokens), so there is nothing to "
        "learn: raise it or shorten the prompts."
    )


def _counted(train: Trained, longest: int) -> hyperparameters.Rows:
    return hyperparameters.Rows(len(train.rows), train.tokens, longest)


def _report(
    shape: examples.Shape,
    splits: dict[str, list[Example]],
    learned: dict[str, Trained],
    longest: int,
    digest: str,
) -> DatasetReport:
    train = learned["train"]
    counts = {name: len(rows) for name, rows in splits.items()} | {
        name: len(content.rows) for name, content in learned.items()
    }
    return DatasetReport(
        format=shape.format,
        rows=Rows(**counts),
        tokens=train.tokens,
        longest=longest,
        longer_than_max_length=len(train.cut),
        teaching_nothing=len(train.teaching_nothing),
        digest=digest,
    )


def _store(splits: dict[str, list[Example]], learned: dict[str, Trained], workspace: Workspace) -> str:
    """Write what is trained, as tokens, and what is asked, as text; a digest over the splits' names and rows."""
    digest = hashlib.sha256()
    workspace.data.mkdir(parents=True, exist_ok=True)
    for left in workspace.data.iterdir():
        left.unlink()
    for name, rows in sorted(splits.items()):
        content = b"".join(example.line for example in rows)
        digest.update(f"{name} {len(content)}\n".encode() + content)
        if name in ASKED:
            (workspace.data / f"{name}.jsonl").write_bytes(content)
    for name, found in learned.items():
        trained.write(workspace.learned(name), found.rows)
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
