"""Reads a manifest for the local backend: YAML as kubectl reads it, checked as the API server checks it.

The command line calls `load_manifest`. All that is wrong with a manifest comes back at once, one sentence a line.
"""

import json
import re
from collections.abc import Hashable, Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from finetune_operator.api.crd import Schema, schema
from finetune_operator.api.v1alpha1 import FineTuneJob


class ManifestError(Exception):
    """A manifest that can't be used: `problems` has a sentence for each thing to mend, its field first."""

    def __init__(self, path: Path, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        separator = " " if len(self.problems) == 1 else "\n  "
        super().__init__(separator.join([f"{path}:", *self.problems]))


def load_manifest(path: Path) -> FineTuneJob:
    """Read the FineTuneJob in a file; ManifestError when there is none, or it breaks a rule."""
    try:
        return FineTuneJob.model_validate_json(json.dumps(_without_nulls(_document(path)), default=str), strict=True)
    except ValidationError as error:
        raise ManifestError(path, [_sentence(each) for each in error.errors()]) from error


def _document(path: Path) -> Any:
    try:
        documents = parse_yaml(path.read_text("utf-8"))
    except OSError as error:
        raise ManifestError(path, [f"can't be read ({error.strerror})."]) from error
    except UnicodeDecodeError as error:
        raise ManifestError(path, ["is not a text file in UTF-8."]) from error
    except yaml.YAMLError as error:
        raise ManifestError(path, [f"is not YAML: {' '.join(str(error).split())}"]) from error
    if len(documents) != 1:
        raise ManifestError(path, [f"has {len(documents)} documents; put one FineTuneJob in a file of its own."])
    return documents[0]


def _without_nulls(value: Any) -> Any:
    """`value` without fields that were left empty: to the API server, too, they are left out."""
    if isinstance(value, dict):
        return {key: _without_nulls(inner) for key, inner in value.items() if inner is not None}
    return [_without_nulls(inner) for inner in value] if isinstance(value, list) else value


def parse_yaml(text: str) -> list[Any]:
    """The documents in `text` but for empty ones, read as kubectl reads them; yaml.YAMLError when it is no YAML."""
    return [found for found in yaml.load_all(text, _Loader) if found is not None]


class _Loader(yaml.SafeLoader):
    """YAML in the dialect of kubectl's parser: 2e-4 is a number, 1:30 and dates are text, a key stands once."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}
    bool_values = yaml.SafeLoader.bool_values | {"y": True, "n": False}

    def construct_number(self, node: yaml.ScalarNode) -> int | float:
        """A number with a fraction part of zero is an integer, as in JSON."""
        value = self.construct_yaml_float(node)
        return int(value) if value.is_integer() else value

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [key.value for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        twice = next((key for index, key in enumerate(keys) if key in keys[:index]), None)
        if twice is not None:
            raise yaml.constructor.ConstructorError(None, None, f"{twice} stands twice", node.start_mark)
        return super().construct_mapping(node, deep)


# Scalars without quotes, the first match wins: kubectl's parser, but for numbers too long for 64 bits.
for _tag, _pattern, _first in (
    ("null", "~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", "y|Y|yes|Yes|YES|n|N|no|No|NO|on|On|ON|off|Off|OFF|true|True|TRUE|false|False|FALSE", "yYnNoOtTfF"),
    ("int", "[-+]?(0|[1-9][0-9_]*|0b[01_]+|0o?[0-7_]+|0x[0-9a-fA-F_]+)", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9_]+|[0-9][0-9_]*(\.[0-9_]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)", "-+.0123456789"),
    ("merge", "<<", "<"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list(_first))
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_number)


def _sentence(error: ErrorDetails) -> str:
    """`spec.training.epochs: must be …`: what is wrong with a field, in the manifest's own words."""
    context = error.get("ctx", {})
    location = [*error["loc"], *(part for part in str(context.get("field", "")).split(".") if part)]
    return f"{_path(location) or 'the document'}: {_complaint(error)}"


def _path(location: Iterable[int | str]) -> str:
    """`spec.training.pod.env[0].name`."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return "".join(parts).removeprefix(".")


def _complaint(error: ErrorDetails) -> str:
    given = error["input"]
    match error["type"]:
        case "missing":
            return "is required"
        case "extra_forbidden":
            return f"is not a field{_suggestion(error['loc'])}"
        case "model_type" | "model_attributes_type" | "dict_type":
            return f"must be an object (it is {json.dumps(given)})"
    said = re.sub("^(Input|String|List|Dictionary) should ", "must ", error["msg"])
    said = said.replace("a valid integer", "an integer").replace("a valid array", "a list").replace("a valid ", "a ")
    return f"{said} (it is {json.dumps(given)})" if isinstance(given, str | int | float) or given is None else said


def _suggestion(location: tuple[int | str, ...]) -> str:
    """The name that was probably meant, or all that there are."""
    *parents, wrong = location
    known = list(_fields(parents))
    close = get_close_matches(str(wrong), known, n=1)
    return f"; did you mean {close[0]}?" if close else f"; the fields here are {', '.join(known)}"


def _fields(location: Iterable[int | str]) -> Schema:
    here = {"properties": {"apiVersion": {}, "kind": {}, **schema()["properties"]}}
    for part in location:
        here = here["items"] if isinstance(part, int) else here["properties"][part]
    return dict(here["properties"])
