"""Rows of an uploaded file as the page shows them, before any model's template: who says what, and what is learned.

`api` calls it: the rows as the model sees them lie on the job's volume, which the server has no right to read. Pure.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from finetune_server.ui.place import Parts, Row

# Characters of a message.
_SHOWN = 2000


def uploaded(lines: Iterable[bytes], name: str) -> tuple[Row, ...]:
    """The rows of these lines, which were checked as they were uploaded."""
    return tuple(_row(json.loads(line), f"{name}:{number}") for number, line in enumerate(lines, 1))


def _row(row: Mapping[str, Any], place: str) -> Row:
    if "preferred_output" in row:
        asked = tuple(_said(each, False) for each in row["input"]["messages"])
        good, bad = (tuple(_said(each, True) for each in row[f"{kind}preferred_output"]) for kind in ("", "non_"))
        return Row(place, "", (*asked, *good), bad)
    if "messages" in row:
        return Row(place, "", tuple(_said(each, _is_learned(each)) for each in row["messages"]))
    return Row(place, "", _plain(row))


def _is_learned(message: Mapping[str, Any]) -> bool:
    """An answer is, unless its weight says otherwise."""
    return message.get("role") == "assistant" and message.get("weight") != 0


def _said(message: Mapping[str, Any], learned: bool) -> tuple[str, bool]:
    rest = {key: value for key, value in message.items() if key not in ("role", "content", "weight")}
    content = message.get("content")
    text = content if isinstance(content, str) else json.dumps(content or rest, ensure_ascii=False)
    return f"{message.get('role', '')}: {text[:_SHOWN]}\n", learned


def _plain(row: Mapping[str, Any]) -> Parts:
    return tuple((f"{key}: {str(value)[:_SHOWN]}\n", key == "completion") for key, value in row.items())
