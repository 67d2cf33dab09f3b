"""Rows as users write them become rows as TRL takes them.

Called by `batch`, row by row, and by the API server's `files`. What a row becomes:

- chat and sharegpt: `messages` (and `tools`, as JSON). The assistant's messages are learned, but for those of weight 0.
- prompt-completion and instruction: `prompt` and `completion`, as messages where the model has a chat template and as
  strings where it has none. The loss falls on the completion.
- text: `text`, all of which is learned.
- preference: `prompt`, `chosen` and `rejected` (and `tools`), as messages or as strings likewise. Both answers become
  tokens, each behind the prompt.
- unpaired preference: `prompt`, `completion` and `label`, whether the completion is good.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from finetune_trainer.contract.config import DatasetConfig, Format
from finetune_trainer.contract.outcome import Outcome, StageError
from finetune_trainer.data import checks, tokens
from finetune_trainer.data.line import Line
from finetune_trainer.data.messages import unified
from finetune_trainer.data.preference import ANSWERS, from_openai, parted, whole
from finetune_trainer.data.tokens import CantRender, Rendered, Row, Tokenizer, Tokens

# The columns that a format must have, and those that it may have.
COLUMNS: dict[Format, tuple[tuple[str, ...], tuple[str, ...]]] = {
    Format.CHAT: (("messages",), ("tools",)),
    Format.PROMPT_COMPLETION: (("prompt", "completion"), ()),
    Format.INSTRUCTION: (("instruction", "output"), ("input",)),
    Format.TEXT: (("text",), ()),
    Format.SHAREGPT: (("conversations",), ("system", "tools")),
    Format.PREFERENCE: (("chosen", "rejected"), ("prompt", "tools")),
    Format.OPENAI_PREFERENCE: (("input", "preferred_output", "non_preferred_output"), ()),
    Format.UNPAIRED_PREFERENCE: (("prompt", "completion", "label"), ("tools",)),
}
LABEL = "label"
# Of one row; hardly anybody reads the hundredth.
MOST_FAULTS = 100
CHATS = (Format.CHAT, Format.SHAREGPT, Format.OPENAI_PREFERENCE)
PREFERENCES = (Format.PREFERENCE, Format.OPENAI_PREFERENCE)


@dataclass(frozen=True)
class Shape:
    """What a row is turned into. `columns`: ours to the user's. `chat`: the model has a chat template.

    `developer`: the template knows the role developer.
    """

    format: Format
    columns: Mapping[str, str]
    system_prompt: str | None
    chat: bool
    developer: bool = False

    @property
    def read(self) -> dict[str, str]:
        """The format's columns, and the user's they are read from: one that has another's name is not read twice."""
        needed, possible = COLUMNS[self.format]
        taken = set(self.columns.values())
        own = (name for name in (*needed, *possible) if name in self.columns or name not in taken)
        return {name: self.columns.get(name, name) for name in own}


@dataclass(frozen=True)
class Example:
    """A checked row in TRL's columns, as a line of JSON: a tenth of its size in memory; and as it is trained.

    `rejected`: of a row of preference the answer to avoid, behind the prompt as the other is. `desirable`: of a row of
    unpaired preference whether its answer is good. `asked`: a digest of what it asks (`evaluation.leakage`); a row of
    text asks nothing.
    """

    line: bytes
    place: str
    tokens: Tokens
    rejected: Tokens | None = None
    desirable: bool | None = None
    asked: bytes | None = None

    @property
    def sequences(self) -> tuple[Tokens, ...]:
        """All of it that is trained."""
        return (self.tokens,) if self.rejected is None else (self.tokens, self.rejected)


@dataclass(frozen=True)
class Checked:
    """A row without a fault in TRL's columns, as it is and as a line of JSON, before it is tokenized."""

    row: Row
    line: bytes
    place: str
    rendered: Rendered
    rejected: Rendered | None = None

    @property
    def desirable(self) -> bool | None:
        """Of a row of unpaired preference, whether its answer is good."""
        return self.row.get(LABEL)


def recognise(config: DatasetConfig, first: Row, likely: Sequence[Format] = ()) -> Format:
    """The format of a dataset, from its first row's columns unless the manifest names it. Raises StageError.

    Columns may make several formats: one of the `likely` ones, which the method learns from, comes first.
    """
    if config.format != Format.AUTO:
        return config.format
    there = set(first) | {ours for ours, theirs in config.columns.items() if theirs in first}
    for format in (*likely, *COLUMNS):
        if there.issuperset(COLUMNS[format][0]):
            return format
    wanted = "; ".join(f"{format.value}: {', '.join(needed)}" for format, (needed, _) in COLUMNS.items())
    raise StageError(
        Outcome.DATA_INVALID,
        f"The format of {config.train.uri} can't be told from its columns ({', '.join(map(str, first))}). Name them in "
        f"dataset.columns so that they make one of these: {wanted}.",
    )


def shape_of(config: DatasetConfig, format: Format, chat: bool, developer: bool = False) -> Shape:
    """How this dataset's rows are read. Raises StageError for what doesn't go together."""
    needed, possible = COLUMNS[format]
    if strange := sorted(set(config.columns) - {*needed, *possible}):
        raise StageError(
            Outcome.CONFIG_INVALID,
            f"dataset.columns names {', '.join(strange)}, which format {format.value} does not have; it has "
            f"{', '.join((*needed, *possible))}.",
        )
    if format in CHATS and not chat:
        raise StageError(Outcome.CONFIG_INVALID, f"{config.train.uri} holds chats, and {checks.NO_TEMPLATE}.")
    if config.system_prompt and (format == Format.TEXT or not chat):
        why = "rows of format text have no messages" if format == Format.TEXT else "the model has no chat template"
        raise StageError(Outcome.CONFIG_INVALID, f"dataset.systemPrompt can't be used: {why}. Remove it.")
    return Shape(format, config.columns, config.system_prompt, chat, developer)


def unused(row: Row, shape: Shape) -> list[str]:
    """The user's columns that the format does not have."""
    return sorted(set(row) - set(shape.read.values()))


def check(line: Line, shape: Shape, tokenizer: Tokenizer, learn: bool) -> tuple[list[str], Checked | None]:
    """What is wrong with a row, or else what it is. `learn`: it is trained, not only asked."""
    found, row = faults(line, shape)
    if found:
        return found, None
    normal = normalise(row, shape)
    asked = tokens.without_weights(normal)
    try:
        return [], Checked(asked, encode(asked), line.place, *_rendered(normal, tokenizer, learn))
    except UnicodeEncodeError:
        return ["has half of a surrogate pair, which is no character"], None
    except CantRender as error:
        return [str(error)], None
    except (TypeError, ValueError) as error:
        return [f"has a value that JSON can't hold: {error}"], None


def faults(line: Line, shape: Shape) -> tuple[list[str], Row]:
    """What is wrong with a row, as far as it shows without a model; and the row in our columns and form."""
    if line.row is None:
        return [line.problem], {}
    row = rename(line.row, shape)
    row = unified(from_openai(row) if shape.format == Format.OPENAI_PREFERENCE else row, shape.developer)
    return list(islice(checks.faults(row, shape.format, shape.columns, shape.chat), MOST_FAULTS)), row


def _rendered(row: Row, tokenizer: Tokenizer, learn: bool) -> Iterator[Rendered]:
    """The row, or both answers of a row of preference. Raises CantRender."""
    if "chosen" not in row:
        yield tokens.render(row, tokenizer, learn)
        return
    asked = {name: value for name, value in row.items() if name not in ANSWERS}
    for name in ANSWERS:
        try:
            yield tokens.render(asked | {"completion": row[name]}, tokenizer, learn)
        except CantRender as error:
            raise CantRender(f"{name}: {error}") from error


def rename(row: Row, shape: Shape) -> Row:
    """The row with the format's column names, and without columns that the format does not have or that are null."""
    found = {ours: row.get(theirs) for ours, theirs in shape.read.items()}
    return {ours: value for ours, value in found.items() if value is not None}


def normalise(row: Row, shape: Shape) -> Row:
    """A checked row in TRL's columns."""
    if shape.format == Format.TEXT:
        return row
    if shape.format in PREFERENCES:
        return _preference(row, shape)
    if shape.format in CHATS:
        return {"messages": _with_system(_without_nulls(row["messages"]), shape), **_tools(row)}
    prompt, completion = _question(row)
    label = {LABEL: bool(row[LABEL])} if LABEL in row else {}
    if not shape.chat:
        return {"prompt": prompt, "completion": completion, **label}
    return {
        "prompt": _with_system(_messages(prompt, "user"), shape),
        "completion": _messages(completion, "assistant"),
        **_tools(row),
        **label,
    }


def _tools(row: Row) -> Row:
    """As a string: the keys of different tools would otherwise become one another's."""
    tools = row.get("tools")
    return {"tools": tools if isinstance(tools, str) else json.dumps(tools, ensure_ascii=False)} if tools else {}


def _preference(row: Row, shape: Shape) -> Row:
    prompt, *answers = parted(row)
    if not shape.chat:
        return {"prompt": prompt, **dict(zip(ANSWERS, answers, strict=True))}
    if whole(row) and isinstance(prompt, str):
        # What parts a word from the text before it is no part of a message.
        answers = [answer.lstrip(" ") for answer in answers]
    told = {name: _messages(answer, "assistant") for name, answer in zip(ANSWERS, answers, strict=True)}
    return {"prompt": _with_system(_messages(prompt, "user"), shape), **told, **_tools(row)}


def _question(row: Row) -> tuple[Any, Any]:
    """Prompt and completion; an instruction and its input are joined by an empty line."""
    if "instruction" not in row:
        return row["prompt"], row["completion"]
    asked = [row["instruction"], row.get("input", "")]
    return "\n\n".join(part for part in asked if part.strip()), row["output"]


def _messages(content: Any, role: str) -> list[Row]:
    return [{"role": role, "content": content}] if isinstance(content, str) else _without_nulls(content)


def _without_nulls(messages: list[Row]) -> list[Row]:
    """Parquet gives every message the keys of all."""
    return [{key: value for key, value in message.items() if value is not None} for message in messages]


def _with_system(messages: list[Row], shape: Shape) -> list[Row]:
    if shape.system_prompt is None or any(message["role"] in ("system", "developer") for message in messages):
        return messages
    return [{"role": "system", "content": shape.system_prompt}, *messages]


def encode(row: Row) -> bytes:
    """A row as a line of JSON. Raises UnicodeEncodeError, TypeError or ValueError for what JSON can't hold."""
    return json.dumps(row, ensure_ascii=False, allow_nan=False).encode() + b"\n"
