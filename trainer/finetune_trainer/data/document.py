"""A JSON file: one list of objects, or an object that holds one, each row at the line where it begins.

Called by `formats`.
"""

import json
from collections.abc import Iterator
from pathlib import Path

from finetune_trainer.data.compressed import opened
from finetune_trainer.data.line import BOM, Line, fault, row, unreadable

_WHITESPACE = " \t\r\n"
_DECODER = json.JSONDecoder()


def rows(path: Path, name: str) -> Iterator[Line]:
    """The objects of the list. Raises StageError."""
    text = _text(path, name)
    start = _start(text, name)
    position, number = start, text.count("\n", 0, start) + 1
    end = _skip(text, start + 1)
    while text[end : end + 1] != "]":
        number, position = number + text.count("\n", position, end), end
        try:
            value, end = _DECODER.raw_decode(text, end)
        except (ValueError, RecursionError) as error:
            raise unreadable(f"{_place(name, number, error)}: {fault(error)}.") from error
        yield row(f"{name}:{number}", value)
        end = _separated(text, end, name)
    # What follows in an object was read when the list was looked for.
    if start == _skip(text, 0) and _skip(text, end + 1) < len(text):
        raise unreadable(f"{name}:{text.count(chr(10), 0, end) + 1}: something stands behind the list's end.")


def _text(path: Path, name: str) -> str:
    with opened(path, name) as file:
        content = file.read()
    try:
        return content.removeprefix(BOM).decode()
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise unreadable(f"{name}:{line}: is not UTF-8; save the file as UTF-8.") from error


def _start(text: str, name: str) -> int:
    """Where the list begins."""
    position = _skip(text, 0)
    if text[position : position + 1] == "[":
        return position
    if text[position : position + 1] == "{":
        return _held(text, position, name)
    raise _no_list(name)


def _held(text: str, position: int, name: str) -> int:
    """Where the one list of objects begins that the object at `position` holds."""
    try:
        whole, end = _DECODER.raw_decode(text, position)
    except (ValueError, RecursionError) as error:
        raise unreadable(f"{_place(name, 1, error)}: {fault(error)}.") from error
    lists = [
        key for key, value in whole.items() if isinstance(value, list) and isinstance(next(iter(value), None), dict)
    ]
    if not lists or _skip(text, end) < len(text):
        raise _no_list(name)
    if len(lists) > 1:
        raise unreadable(f"{name} holds several lists of objects ({', '.join(lists)}): keep the one that has the rows.")
    return _value(text, position, lists[0])


def _value(text: str, position: int, wanted: str) -> int:
    """Where the value of a key begins, in an object that was read already. Of equal keys the last counts."""
    found, end = position, _skip(text, position + 1)
    while text[end] != "}":
        key, end = _DECODER.raw_decode(text, end)
        start = _skip(text, _skip(text, end) + 1)
        found = start if key == wanted else found
        _, end = _DECODER.raw_decode(text, start)
        end = _skip(text, end)
        end = _skip(text, end + 1) if text[end] == "," else end
    return found


def _no_list(name: str) -> Exception:
    return unreadable(
        f"{name} is no list of objects: it has to begin with [, or be an object that holds one such list. One object a "
        "line is JSON Lines, whose ending is .jsonl."
    )


def _skip(text: str, position: int) -> int:
    while text[position : position + 1] in _WHITESPACE and position < len(text):
        position += 1
    return position


def _separated(text: str, end: int, name: str) -> int:
    """Past the comma after an item, or at the bracket that ends the list."""
    end = _skip(text, end)
    if text[end : end + 1] == "]":
        return end
    after = _skip(text, end + 1)
    if text[end : end + 1] != "," or text[after : after + 1] in ("", "]"):
        line = text.count("\n", 0, end) + 1
        raise unreadable(f"{name}:{line}: is not JSON: the list's items are separated by commas and end with ].")
    return after


def _place(name: str, number: int, error: Exception) -> str:
    return f"{name}:{error.lineno if isinstance(error, json.JSONDecodeError) else number}"
