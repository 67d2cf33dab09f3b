"""What is wrong with a manifest, a sentence for each field: for `load`, and for `plan`, which meets a manifest that an
older schema let through.
"""

import json
import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from finetune_operator.api.crd import FINETUNEJOB, Definition, Schema, schema

Location = tuple[int | str, ...]
# As much of a wrong value as finds it again.
SHOWN = 80


def complaints(error: ValidationError, *above: str, of: Definition = FINETUNEJOB) -> list[str]:
    """`spec.training.epochs: must be …`: a sentence for each fault; `above` is where the validated part stands."""
    return [_sentence(above, each, of) for each in error.errors()]


def _sentence(above: tuple[str, ...], error: ErrorDetails, of: Definition) -> str:
    field = str(error.get("ctx", {}).get("field", ""))
    location = (*above, *error["loc"])
    return f"{_path([*location, *filter(None, field.split('.'))]) or 'the document'}: {_complaint(location, error, of)}"


def _path(location: Iterable[int | str]) -> str:
    """`spec.training.pod.env[0].name`."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return "".join(parts).removeprefix(".")


def _complaint(location: Location, error: ErrorDetails, of: Definition) -> str:
    given = error["input"]
    match error["type"]:
        case "missing":
            return "is required"
        case "extra_forbidden":
            return f"is not a field{_suggestion(location, of)}"
        case "model_type" | "model_attributes_type" | "dict_type":
            return f"must be an object (it is {_shown(given)})"
    said = re.sub("^(Input|String|List|Dictionary) should ", "must ", error["msg"])
    said = said.replace("a valid integer", "an integer").replace("a valid array", "a list").replace("a valid ", "a ")
    return f"{said} (it is {_shown(given)})" if isinstance(given, str | int | float) or given is None else said


def _shown(given: Any) -> str:
    text = json.dumps(given)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def _suggestion(location: Location, of: Definition) -> str:
    """The name that was probably meant, or all that there are."""
    *parents, wrong = location
    known = list(_fields(parents, of))
    close = get_close_matches(str(wrong), known, n=1)
    return f"; did you mean {close[0]}?" if close else f"; the fields here are {', '.join(known)}"


def _fields(location: Iterable[int | str], of: Definition) -> Schema:
    here = {"properties": {"apiVersion": {}, "kind": {}, **schema(of)["properties"]}}
    for part in location:
        here = here["items"] if isinstance(part, int) else here["properties"][part]
    return dict(here["properties"])
