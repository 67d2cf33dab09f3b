"""The rows as the trainer takes them: prepare's files, with the loss on what the model is to answer.

Called by `train`. TRL masks the prompt of prompt/completion rows by itself; chats are brought into that form, or masked
by their template, so that of them too only the assistant's words are learned.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import PreTrainedTokenizerBase
from trl.chat_template_utils import get_training_chat_template

from finetune_trainer.contract.config import Workspace
from finetune_trainer.contract.outcome import Outcome, StageError
from finetune_trainer.data.examples import single_answer

MESSAGES = "messages"


@dataclass(frozen=True)
class Splits:
    """The rows. `assistant_only`: they are chats with several answers, whose prompts their template has to mask."""

    train: Dataset
    validation: Dataset | None
    assistant_only: bool


def load(workspace: Workspace) -> Splits:
    """Read prepare's files, memory-mapped from the workspace's cache."""
    train = _read(workspace.data / "train.jsonl", workspace.cache)
    path = workspace.data / "validation.jsonl"
    validation = _read(path, workspace.cache) if path.exists() else None
    if MESSAGES not in train.column_names:
        return Splits(train, validation, assistant_only=False)
    splits = [train] if validation is None else [train, validation]
    if not all(single_answer(messages) for split in splits for messages in split[MESSAGES]):
        return Splits(train, validation, assistant_only=True)
    return Splits(_as_completions(train), _as_completions(validation) if validation else None, assistant_only=False)


def check_template(tokenizer: PreTrainedTokenizerBase) -> None:
    """Chats with several answers need a template that marks them. Raises StageError (CONFIG_INVALID)."""
    try:
        get_training_chat_template(tokenizer)
    except ValueError as error:
        raise StageError(
            Outcome.CONFIG_INVALID,
            "The dataset has chats with several answers, and this model's chat template doesn't mark the assistant's "
            "words, so they can't be told from the user's. Split these chats into rows that end with their one answer, "
            "or choose a model whose template has {% generation %}.",
        ) from error


def _read(path: Path, cache: Path) -> Dataset:
    return Dataset.from_json(str(path), cache_dir=str(cache))


def _as_completions(rows: Dataset) -> Dataset:
    return rows.map(_ask_and_answer, remove_columns=[MESSAGES])


def _ask_and_answer(row: dict[str, Any]) -> dict[str, Any]:
    return {"prompt": row[MESSAGES][:-1], "completion": row[MESSAGES][-1:]}
