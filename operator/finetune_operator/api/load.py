"""Reads a manifest for the local backend: YAML as kubectl reads it, checked as the API server checks it.

The command line calls `load_manifest`, or `document` and `checked` where it writes back what it has read. All that is
wrong with a manifest comes back at once, one sentence a line.
"""

import json
import re
from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from finetune_operator.api.complaints import complaints
from finetune_operator.api.v1alpha1 import FineTuneJob


class ManifestError(Exception):
    """A manifest that can't be used: `problems` has a sentence for each thing to mend, its field first."""

    def __init__(self, path: Path, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        separator = " " if len(self.problems) == 1 else "\n  "
        super().__init__(separator.join([f"{path}:", *self.problems]))


def load_manifest(path: Path) -> FineTuneJob:
    """Read the FineTuneJob in a file; ManifestError when there is none, or it breaks a rule."""
    return checked(path, document(path))


def checked(path: Path, found: Any) -> FineTuneJob:
    """The FineTuneJob that a document is; ManifestError when it is none, or breaks a rule."""
    try:
        return FineTuneJob.model_validate_json(json.dumps(found, default=str), strict=True)
    except ValidationError as error:
        raise ManifestError(path, complaints(error)) from error


def document(path: Path) -> Any:
    """The one document in a file, without what was left empty; ManifestError when it can't be read."""
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
    return _without_nulls(documents[0])


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
