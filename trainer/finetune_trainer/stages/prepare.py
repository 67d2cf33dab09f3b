"""prepare: the model and the rows are fetched, checked, split and made what is trained; what was left out is chosen.

Called by the program's `prepare` command, on a pod without an accelerator: what can be wrong with a dataset is found
here. `prepared.json` is written last: a run for the same revision that finds it ends at once.
"""

import logging
import shutil
from collections.abc import Collection, Iterator
from functools import partial
from itertools import chain
from pathlib import Path

from finetune_trainer.contract.config import (
    EvaluationConfig,
    Format,
    Metric,
    OnSensitive,
    RunConfig,
    Sharding,
    Source,
    Workspace,
)
from finetune_trainer.contract.outcome import Outcome, StageError
from finetune_trainer.contract.published import ModelFormat
from finetune_trainer.contract.results import DatasetInfo, ModelInfo, PrepareResult, Rows
from finetune_trainer.data import base, batch, examples, fetch, formats, gather, licenses, sensitive, split, trained
from finetune_trainer.data.base import Base
from finetune_trainer.data.batch import Reading
from finetune_trainer.data.disk import fsync, write_whole
from finetune_trainer.data.findings import DataReport, Finding
from finetune_trainer.data.line import Line
from finetune_trainer.data.spool import Spool
from finetune_trainer.data.stored import ASKED, LEARNED, Stored, store
from finetune_trainer.evaluation import benchmarks, foreseen, testset
from finetune_trainer.evaluation.foreseen import ContextLength
from finetune_trainer.server import Reporter
from finetune_trainer.training import gguf, hyperparameters, inherit, methods, plans, reward_head, schedule, targets
from finetune_trainer.training.memory import UNKNOWN, Device

logger = logging.getLogger(__name__)

# A test split is cut before the others, so that adding a validation split leaves it as it was.
SPLITS = ("test", "validation")


def prepare(
    config: RunConfig,
    workspace: Workspace,
    reporter: Reporter,
    evaluation: EvaluationConfig | None = None,
    device: Device = UNKNOWN,
    on_sensitive: OnSensitive = OnSensitive.WARN,
    sharding: Sharding = Sharding.AUTO,
    formats: Collection[ModelFormat] = (),
) -> PrepareResult:
    """Fill the workspace with the model and the rows; what was found. Raises StageError.

    `evaluation`: what the result will be measured by, which has to fit the rows before anything is trained. `device`:
    what will train it, with its weights divided or not (`sharding`). `on_sensitive`: what becomes of secrets and
    personal data. `formats`: what the model is to be published as, too.
    """
    workspace.prepared.unlink(missing_ok=True)
    for training in plans.trainings(config):
        if training.batch_size:
            schedule.check_shared(training.batch_size, device.processes)
    if evaluation is not None and evaluation.lm_eval is not None:
        benchmarks.check(evaluation.lm_eval)
    reporter.update(activity=f"fetching {config.model.source.uri}")
    commit = _model(config, workspace)
    found = base.read(workspace.base_model(config), config.model)
    reward_head.check(config.training.method, workspace.base_model(config), config.model)
    _check_adapter(config, workspace.base_model(config), found)
    _check_formats(config, workspace.base_model(config), formats, reporter)
    splits, shape, noticed = _examples(config, workspace, found, reporter, on_sensitive)
    reporter.update(activity="writing the rows")
    longest = splits["train"].longest()
    max_length = hyperparameters.longest_trained(config.training, longest, found.model)
    stored = store(splits, max_length, workspace)
    for name, content in stored.learned.items():
        if not content.rows:
            raise StageError(Outcome.DATA_INVALID, _nothing(config, name, splits[name], max_length))
        base.check_tokens(found, content.highest, config.model.source.uri)
        noticed += trained.findings(name, content, max_length)
    train = stored.learned["train"]
    counted = hyperparameters.TrainCounts(train.rows, train.tokens, train.learned, longest)
    planned = plans.choose(config, counted, found.model, device, sharding, validated="validation" in stored.learned)
    plan = plans.of_all(config, planned)
    if evaluation is not None and _measured(evaluation, shape):
        _check_asked(stored)
        asked = foreseen.asked(splits.get("test", ()))
        testset.chosen(evaluation, [row.question for row in asked], config.training.method)
        testset.check_baselines(evaluation, workspace)
        context = ContextLength(plan.context_length, found.model.context_length)
        method = config.training.method
        noticed += foreseen.findings(asked, splits["train"].asked(), context, found, evaluation, method)
        _probe(evaluation, workspace, reporter)
    # A laptop's page may be reading it.
    write_whole(workspace.data_report, DataReport(findings=noticed).model_dump_json(by_alias=True, indent=2) + "\n")
    result = PrepareResult(
        revision=config.revision,
        on_sensitive=on_sensitive,
        formats=tuple(formats),
        model=_told(config, commit, found.model),
        dataset=_dataset_info(shape, stored, longest),
        plan=plan,
        warnings=tuple(finding.sentence for finding in noticed),
    )
    shutil.rmtree(workspace.spool)
    if config.training.sweep:
        plans.keep(workspace, result, planned)
    _mark(workspace, result.model_dump_json(by_alias=True, exclude_none=True, indent=2).encode())
    logger.info("%s", result.model_dump_json(by_alias=True, exclude_none=True))
    return result


def _model(config: RunConfig, workspace: Workspace) -> str | None:
    """Bring the base model to the workspace; the commit that a hub's revision stood for."""
    if config.model.origin is None:
        return fetch.model(config.model, workspace.model)
    inherit.model(config.model.source.uri, config.model.origin, workspace.model)
    return None


def _check_adapter(config: RunConfig, model: Path, found: Base) -> None:
    adapter, writes = config.training.adapter, config.training.method.writes
    targets.check(adapter, base.shapes(model, config.model.source.uri), writes)
    others = targets.not_both(adapter)
    if others and writes and base.is_tied(model, config.model, found):
        raise targets.refusal_of_one_matrix(others)


def _check_formats(config: RunConfig, model: Path, formats: Collection[ModelFormat], reporter: Reporter) -> None:
    if ModelFormat.GGUF in formats:
        reporter.update(activity="asking llama.cpp's converter whether it knows the model")
        gguf.check(config, model)


def _told(config: RunConfig, commit: str | None, model: base.ModelFigures) -> ModelInfo:
    origin = config.model.origin
    return ModelInfo(
        commit=commit,
        digest=origin and origin.digest,
        lineage=origin.lineage if origin else (),
        license=None if origin else licenses.of(config.model, commit),
        parameters=model.parameters,
        context_length=model.context_length,
    )


def _check_asked(stored: Stored) -> None:
    """Of labelled answers the good ones alone are right."""
    for name in ASKED:
        if stored.rows.get(name) == 0:
            raise StageError(
                Outcome.DATA_INVALID,
                f"No row of {name} has the label true, so there are no right answers to measure with: add some, or set "
                "evaluation.enabled to false.",
            )


def _measured(evaluation: EvaluationConfig, shape: examples.Shape) -> bool:
    """Rows of text are not measured, unless somebody counts on it."""
    counted_on = bool(evaluation.metrics) or evaluation.gate is not None or evaluation.lm_eval is not None
    return shape.format != Format.TEXT or counted_on


def _probe(evaluation: EvaluationConfig, workspace: Workspace, reporter: Reporter) -> None:
    """Hours of training are of no use to a judge or a baseline that can't be asked."""
    elsewhere = any(baseline.endpoint for baseline in evaluation.baselines)
    if elsewhere or Metric.JUDGE in evaluation.metrics:
        # The openai client takes a second to import, and most jobs ask nobody else.
        from finetune_trainer.evaluation.others import probed

        probed(evaluation, workspace, reporter)


def _examples(
    config: RunConfig, workspace: Workspace, found: Base, reporter: Reporter, on_sensitive: OnSensitive
) -> tuple[dict[str, Spool], examples.Shape, list[Finding]]:
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
    splits: dict[str, Spool] = {}
    noticed: list[Finding] = []
    for name, source in wanted.items():
        reporter.update(activity=f"checking {source.uri}", step=0)
        reading = Reading(shape, found.special, name in LEARNED, on_sensitive != OnSensitive.IGNORE)
        splits[name], odd = gather.gather(
            _lines(files[name]),
            source.uri,
            reading,
            partial(
                batch.each,
                reading=reading,
                found=found,
                model=(workspace.base_model(config), config.model),
                between=workspace.spool,
            ),
            workspace.spool / f"{name}.arrow",
            told=lambda rows: reporter.update(step=rows),
        )
        noticed += odd
    if on_sensitive == OnSensitive.FAIL and (held := sensitive.refusal(noticed)):
        raise StageError(Outcome.DATA_INVALID, held)
    fractions = {name: choice.fraction for name, choice in given.items() if choice.fraction is not None}
    if fractions:
        whole = splits["train"]
        homes = split.cut(whole.lines(), fractions, config.training.seed, dataset.train.uri)
        splits |= {name: whole.part(homes, name) for name in ("train", *fractions)}
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
    method = config.training.method
    format = examples.recognise(config.dataset, line.row, methods.RECIPES[method].formats)
    methods.check(method, format, source.uri)
    return examples.shape_of(config.dataset, format, found.chat, found.developer)


def _nothing(config: RunConfig, split: str, rows: Spool, max_length: int) -> str:
    """Why no row of a split teaches anything."""
    where = f"of {config.dataset.train.uri}" if split == "train" else f"for {split}"
    if not any(row.tokens.learned for row in rows):
        return f"In every row {where} all answers have the weight 0, so there is nothing to learn."
    if any(row.rejected for row in rows):
        return (
            f"No row {where} has two answers that differ within training.maxLength ({max_length} tokens), so there is "
            "no preference to learn: raise it, or give rows whose chosen and rejected answers differ."
        )
    return (
        f"In every row {where} the prompt alone fills training.maxLength ({max_length} tokens), so there is nothing to "
        "learn: raise it or shorten the prompts."
    )


def _dataset_info(shape: examples.Shape, stored: Stored, longest: int) -> DatasetInfo:
    train = stored.learned["train"]
    return DatasetInfo(
        format=shape.format,
        rows=Rows(**stored.rows | {name: content.rows for name, content in stored.learned.items()}),
        tokens=train.tokens,
        longest=longest,
        longer_than_max_length=train.cut.count,
        teaching_nothing=train.left_out,
        digest=stored.digest,
    )


def _mark(workspace: Workspace, content: bytes) -> None:
    """Write prepared.json, once all that it stands for would outlive a loss of power."""
    for directory in (workspace.model, workspace.data, workspace.trials):
        for path in directory.rglob("*"):
            if path.is_file():
                fsync(path)
    partial = workspace.prepared.with_name(f"{workspace.prepared.name}.partial")
    partial.write_bytes(content)
    fsync(partial)
    partial.rename(workspace.prepared)
