"""Tool calls as what they are, a name and arguments: never compared by the letter of a template.

Called by `contenders`, `ask` and `result`. Pure. Arguments may be an object or its JSON (OpenAI's form), and stand in a
reply's tool_calls or in its text, as each template writes them: behind a tag, in a list, called parameters.
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from finetune_trainer.evaluation import normalise

Call = dict[str, Any]


def written(calls: Sequence[Any]) -> str:
    """Calls as one JSON text, the same for the same calls in whatever form and order."""
    found = [call for each in calls for call in _calls(each)]
    return json.dumps(sorted(found, key=json.dumps), ensure_ascii=False, sort_keys=True)


def message(answer: Call) -> Call | None:
    """A message that calls tools with its arguments as objects: a template would encode their JSON again."""
    made = answer.get("tool_calls")
    if not made:
        return None
    return {"content": "", **answer, "tool_calls": [{"type": "function", "function": call} for call in _calls(made)]}


def said(text: str) -> str:
    """The calls in an answer, as `written` writes them; the answer itself where it has none."""
    found = [call for value in _values(normalise.said(text)) for call in _calls(value)]
    return written(found) if found else text


def _calls(value: Any) -> Iterator[Call]:
    if isinstance(value, list):
        for each in value:
            yield from _calls(each)
    elif isinstance(value, dict):
        call = value["function"] if isinstance(value.get("function"), dict) else value
        arguments = call.get("arguments", call.get("parameters"))
        if isinstance(call.get("name"), str) and (call is not value or arguments is not None):
            yield {"name": call["name"], "arguments": _arguments(arguments)}


def _arguments(value: Any) -> Any:
    if isinstance(value, str):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return {} if value is None else value


def _values(text: str) -> Iterator[Any]:
    """The JSON objects and lists in a text."""
    decoder, at = json.JSONDecoder(), 0
    while starts := [place for mark in "{[" if (place := text.find(mark, at)) >= 0]:
        at = min(starts)
        try:
            value, at = decoder.raw_decode(text, at)
            yield value
        except (ValueError, RecursionError):
            at += 1
