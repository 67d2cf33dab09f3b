"""How a verb prints what it has found: for people, or the whole of it for programs."""

import json
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

import yaml
from pydantic import BaseModel
from rich.console import Console


class OutputFormat(StrEnum):
    """What `-o` takes."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


def document(found: BaseModel) -> dict[str, Any]:
    """A model as a file or an object has it."""
    return found.model_dump(mode="json", by_alias=True)


def written(found: Mapping[str, Any] | Sequence[Any], output: OutputFormat) -> str:
    """A document as JSON or YAML."""
    if output == OutputFormat.JSON:
        return json.dumps(found, indent=2, ensure_ascii=False)
    return yaml.safe_dump(found, sort_keys=False, allow_unicode=True).rstrip()


def dump(found: Mapping[str, Any] | Sequence[Any], output: OutputFormat, console: Console) -> None:
    """Print it, and nothing else."""
    console.print(written(found, output), markup=False, highlight=False, soft_wrap=True)
