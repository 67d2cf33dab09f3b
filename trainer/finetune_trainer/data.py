"""Rows as users write them become rows as TRL takes them; every row is checked on the way.

Called by `prepare`. A dataset with bad rows is refused whole, with the first twenty of them and how many more there are:
nothing is dropped or repaired in silence.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from finetune_trainer.config import DatasetConfig, Format
from finetune_trainer.formats import Line
from finetune_trainer.outcome import Outcome, StageError

Row = dict[str, Any]
ROLES = ("system", "user", "assistant", "tool")
SHOWN = 20

# The columns that a format must have, and those that it may have.
COLUMNS: dict[Format, tuple[tuple[str, ...], tuple[str, ...]]] = {
    Format.CHAT: (("messages",), ("tools",)),
    Format.PROMPT_COMPLETION: (("prompt", "completion"), ()),
    Format.INSTRUCTION: (("instruction", "output"), ("input",)),
    Format.TEXT: (("text",), ()),
}


@dataclass(frozen=True)
class Shape:
    """What a row is turned into. `chat`: questions and answers become messages, since the model has a chat template."""

    format: Format
    columns: Mapping[str, str]
    system_prompt: str | None
    chat: bool


def recognise(config: DatasetConfig, first: Row) -> Format:
    """The format of a dataset, from its first row's columns unless the manifest names it. Raises StageError."""
    if config.format != Format.AUTO:
        return config.format
    there = set(first) | {ours for ours, theirs in config.columns.items() if theirs in first}
    for format, (needed, _) in COLUMNS.items():
        if there.issuperset(needed):
            return format
    wanted = "; ".join(f"{format.value}: {', '.join(needed)}" for format, (needed, _) in COLUMNS.items())
    raise StageError(
        Outcome.DATA_INVALID,
        f"The format of {config.train.uri} can't be told from its columns ({', '.join(sorted(first))}). Name the "
        f"columns in dataset.columns so that they make one of these: {wanted}.",
    )


def shape_of(config: DatasetConfig, format: Format, chat: bool) -> Shape:
    """How this dataset's rows are read. Raises StageError for a mapping or a system prompt that can't apply."""
    needed, possible = COLUMNS[format]
    if strange := sorted(set(config.columns) - {*needed, *possible}):
        raise StageError(
            Outcome.CONFIG_INVALID,
            f"dataset.columns names {', '.join(strange)}, which format {format.value} does not have; it has "
            f"{', '.join((*needed, *possible))}.",
        )
    if config.system_prompt and (format == Format.TEXT or not chat):
        why = "format text has no messages" if format == Format.TEXT else "the model has no chat template"
        raise StageError(Outcome.CONFIG_INVALID, f"dataset.systemPrompt can't be used: {why}.")
    return Shape(format, config.columns, config.system_prompt, chat)


def check(lines: Iterable[Line], shape: Shape, name: str) -> list[Row]:
    """Every row of a file, normalised. Raises StageError (DATA_INVALID) when any is wrong, or none is there."""
    rows: list[Row] = []
    problems: list[str] = []
    for line in lines:
        found = [line.problem] if line.row is None else []
        row = line.row and rename(line.row, shape)
        found = found or list(_CHECKS[shape.format](row or {}))
        problems += [f"{line.place} {problem}" for problem in found]
        if row and not found:
            rows.append(normalise(row, shape))
    if problems:
        raise StageError(Outcome.DATA_INVALID, _report(problems, name))
    if not rows:
        raise StageError(Outcome.DATA_INVALID, f"{name} has no rows.")
    return rows


def _report(problems: list[str], name: str) -> str:
    more = f"\nand {len(problems) - SHOWN} more." if len(problems) > SHOWN else ""
    return f"{name} has {len(problems)} faults:\n" + "\n".join(problems[:SHOWN]) + more


def rename(row: Row, shape: Shape) -> Row:
    """The row with the format's column names, and without columns that the format does not have."""
    needed, possible = COLUMNS[shape.format]
    found = {ours: row.get(shape.columns.get(ours, ours)) for ours in (*needed, *possible)}
    return {ours: value for ours, value in found.items() if value is not None or ours in needed}


def _check_strings(row: Row, *columns: str) -> Iterator[str]:
    for column in columns:
        value = row.get(column)
        if value is None:
            yield f"has no {column}"
        elif not isinstance(value, str):
            yield f"has a {column} that is no string"
        elif not value.strip():
            yield f"has an empty {column}"


def _check_text(row: Row) -> Iterator[str]:
    return _check_strings(row, "text")


def _check_prompt_completion(row: Row) -> Iterator[str]:
    return _check_strings(row, "prompt", "completion")


def _check_instruction(row: Row) -> Iterator[str]:
    yield from _check_strings(row, "instruction", "output")
    if not isinstance(row.get("input", ""), str):
        yield "has an input that is no string"


def _check_chat(row: Row) -> Iterator[str]:
    messages = row.get("messages")
    if messages is None:
        yield "has no messages"
    elif not isinstance(messages, list) or not messages:
        yield "has messages that are no list of objects"
    else:
        for number, message in enumerate(messages, 1):
            yield from _check_message(number, message)
        roles = [message.get("role") for message in messages if isinstance(message, dict)]
        if "assistant" not in roles:
            yield "has no message of the assistant, so there is nothing to learn"
        elif roles[-1] != "assistant":
            yield "does not end with a message of the assistant"


def _check_message(number: int, message: Any) -> Iterator[str]:
    if not isinstance(message, dict):
        yield f"message {number} is no object"
        return
    role, content = message.get("role"), message.get("content")
    if role not in ROLES:
        yield f'message {number} has the role "{role}"; allowed are {", ".join(ROLES)}'
    if content is None and not message.get("tool_calls"):
        yield f"message {number} has no content"
    elif content is not None and not isinstance(content, str):
        yield f"message {number} has content that is no string"
    elif content is not None and not content.strip() and not message.get("tool_calls"):
        yield f"message {number} has empty content"


_CHECKS: dict[Format, Callable[[Row], Iterator[str]]] = {
    Format.CHAT: _check_chat,
    Format.PROMPT_COMPLETION: _check_prompt_completion,
    Format.INSTRUCTION: _check_instruction,
    Format.TEXT: _check_text,
}


def normalise(row: Row, shape: Shape) -> Row:
    """A checked row in TRL's columns: `messages`, `prompt` and `completion`, or `text`."""
    if shape.format == Format.TEXT:
        return {"text": row["text"]}
    if shape.format == Format.CHAT:
        messages = [{key: value for key, value in message.items() if value is not None} for message in row["messages"]]
        kept = {"tools": row["tools"]} if row.get("tools") else {}
        return {"messages": _with_system(messages, shape), **kept}
    prompt, completion = _question(row)
    if not shape.chat:
        return {"prompt": prompt, "completion": completion}
    asked = [{"role": "user", "content": prompt}, {"role": "assistant", "content": completion}]
    return {"messages": _with_system(asked, shape)}


def _question(row: Row) -> tuple[str, str]:
    """Prompt and completion; an instruction and its input are joined by an empty line."""
    if "instruction" not in row:
        return row["prompt"], row["completion"]
    asked = [row["instruction"], row.get("input", "")]
    return "\n\n".join(part for part in asked if part.strip()), row["output"]


def _with_system(messages: list[Row], shape: Shape) -> list[Row]:
    if shape.system_prompt is None or any(message["role"] == "system" for message in messages):
        return messages
    return [{"role": "system", "content": shape.system_prompt}, *messages]
