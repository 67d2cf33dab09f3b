"""prepare: the model and the rows are fetched, checked, split and counted, and what was left out is chosen.

Called by the program's `prepare` command, on a pod without an accelerator. Everything that can be wrong with a dataset is
found here. `prepared.json` is written last: a run that finds it ends at once.
"""

import hashlib
import json
import logging
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from safetensors import safe_open
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerBase

from finetune_trainer import data, fetch, formats, hyperparameters, split
from finetune_trainer.config import Format, RunConfig, Source, SplitConfig, Workspace
from finetune_trainer.data import Row
from finetune_trainer.outcome import Outcome, StageError
from finetune_trainer.report import DatasetReport, ModelReport, PrepareResult, Rows
from finetune_trainer.server import Reporter

logger = logging.getLogger(__name__)

REPORT_EVERY = 500


def prepare(config: RunConfig, workspace: Workspace, reporter: Reporter) -> PrepareResult:
    """Fill the workspace with the model and the rows; what was found. Raises StageError."""
    if workspace.prepared.exists():
        logger.info("The workspace is prepared already.")
        return PrepareResult.model_validate_json(workspace.prepared.read_bytes())
    reporter.update(activity=f"fetching {config.model.source.uri}")
    commit = fetch.model(config.model, workspace.model)
    model, tokenizer = _open(config, workspace)
    reporter.update(activity=f"checking {config.dataset.train.uri}")
    shape = _shape(config, workspace, tokenizer.chat_template is not None)
    splits = _splits(config, workspace, shape)
    lengths = _count(splits["train"], tokenizer, reporter)
    facts = hyperparameters.Rows(len(lengths), sum(lengths), max(lengths))
    plan = hyperparameters.choose(config.training, facts, model)
    result = PrepareResult(
        model=ModelReport(commit=commit, parameters=model.parameters, context_length=model.context_length),
        dataset=DatasetReport(
            format=shape.format,
            rows=Rows(**{name: len(rows) for name, rows in splits.items()}),
            tokens=facts.tokens,
            longest=facts.longest,
            longer_than_max_length=sum(length > plan.max_length for length in lengths),
            digest=_store(splits, workspace),
        ),
        plan=plan,
    )
    _write(workspace.prepared, result.model_dump_json(by_alias=True, exclude_none=True, indent=2).encode())
    logger.info("%s", result.model_dump_json(by_alias=True, exclude_none=True))
    return result


def _open(config: RunConfig, workspace: Workspace) -> tuple[hyperparameters.Model, PreTrainedTokenizerBase]:
    """The model's figures and its tokenizer; the weights stay on disk."""
    directory, uri = workspace.base_model(config), config.model.source.uri
    code = {"trust_remote_code": config.model.trust_remote_code, "local_files_only": True}
    try:
        found = AutoConfig.from_pretrained(directory, **code).get_text_config()
        tokenizer = AutoTokenizer.from_pretrained(directory, **code)
    except (OSError, ValueError, KeyError) as error:
        raise StageError(
            Outcome.CONFIG_INVALID,
            f"{uri} can't be used: it has no config.json and tokenizer that transformers can load"
            f"{' (it may need model.trustRemoteCode)' if not config.model.trust_remote_code else ''}: {error}",
        ) from error
    parameters = _parameters(directory)
    if parameters == 0:
        raise StageError(Outcome.CONFIG_INVALID, f"{uri} has no weights in safetensors.")
    longest = getattr(found, "max_position_embeddings", None) or tokenizer.model_max_length
    model = hyperparameters.Model(parameters, longest, found.hidden_size, found.num_hidden_layers, found.vocab_size)
    return model, tokenizer


def _parameters(directory: Path) -> int:
    """Counted from the headers of the safetensors files."""
    count = 0
    for path in sorted(directory.glob("*.safetensors")):
        with safe_open(path, framework="np") as tensors:
            for name in tensors.keys():  # noqa: SIM118  # it is no mapping
                size = 1
                for dimension in tensors.get_slice(name).get_shape():
                    size *= dimension
                count += size
    return count


def _shape(config: RunConfig, workspace: Workspace, chat: bool) -> data.Shape:
    """How the rows are read, by a model with or without a chat template."""
    format = data.recognise(config.dataset, _first(config, workspace))
    if format == Format.CHAT and not chat:
        raise StageError(
            Outcome.CONFIG_INVALID,
            f"The tokenizer of {config.model.source.uri} has no chat template, which chat rows need: choose an "
            "instruction-tuned model, or write the rows as prompt and completion.",
        )
    return data.shape_of(config.dataset, format, chat)


def _splits(config: RunConfig, workspace: Workspace, shape: data.Shape) -> dict[str, list[Row]]:
    """The rows by split, checked and normalised."""
    splits = {"train": _rows(config.dataset.train, workspace, shape)}
    for name, wanted in (("test", config.dataset.test), ("validation", config.dataset.validation)):
        if wanted is not None:
            splits["train"], splits[name] = _split(splits["train"], wanted, name, config, workspace, shape)
    return splits


def _split(
    train: list[Row], wanted: SplitConfig, name: str, config: RunConfig, workspace: Workspace, shape: data.Shape
) -> tuple[list[Row], list[Row]]:
    if wanted.source is not None:
        return train, _rows(wanted.source, workspace, shape)
    return split.cut(train, wanted.fraction or 0.0, config.training.seed, name)


def _rows(source: Source, workspace: Workspace, shape: data.Shape) -> list[Row]:
    return data.check(_lines(source, workspace), shape, source.uri)


def _lines(source: Source, workspace: Workspace) -> Iterator[formats.Line]:
    path = fetch.file(source, workspace.root / "downloads")
    return formats.read(path, Path(source.uri).name)


def _first(config: RunConfig, workspace: Workspace) -> Row:
    """The first row of train, for the format."""
    for line in _lines(config.dataset.train, workspace):
        if line.row is None:
            raise StageError(Outcome.DATA_INVALID, f"{line.place} {line.problem}.")
        return line.row
    raise StageError(Outcome.DATA_INVALID, f"{config.dataset.train.uri} has no rows.")


def _count(rows: list[Row], tokenizer: PreTrainedTokenizerBase, reporter: Reporter) -> list[int]:
    """Tokens of each row, by the model's own tokenizer and chat template."""
    reporter.update(activity="counting tokens", total_steps=len(rows))
    lengths = []
    for number, row in enumerate(rows, 1):
        lengths.append(len(_tokens(row, tokenizer)))
        if number % REPORT_EVERY == 0:
            reporter.update(step=number)
    return lengths


def _tokens(row: Row, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    if "messages" in row:
        text = tokenizer.apply_chat_template(row["messages"], tools=row.get("tools"), tokenize=False)
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])
    text = row.get("text") or row["prompt"] + row["completion"]
    return list(tokenizer(text)["input_ids"])


def _store(splits: dict[str, list[Row]], workspace: Workspace) -> str:
    """Write the splits; a digest over their bytes, names included."""
    digest = hashlib.sha256()
    workspace.data.mkdir(parents=True, exist_ok=True)
    for name, rows in sorted(splits.items()):
        content = b"".join(_encoded(rows))
        digest.update(f"{name} {len(content)}\n".encode() + content)
        _write(workspace.data / f"{name}.jsonl", content)
    return f"sha256:{digest.hexdigest()}"


def _encoded(rows: Iterable[Row]) -> Iterator[bytes]:
    return (json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)


def _write(path: Path, content: bytes) -> None:
    """Complete or absent."""
    partial = path.with_name(f"{path.name}.partial")
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.rename(path)
