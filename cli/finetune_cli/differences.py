"""In which fields two manifests differ: what `finetune compare` and the web page tell of two jobs. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml


@dataclass(frozen=True)
class Difference:
    """A field of the manifest that two jobs have different values in; empty where one does not have it."""

    field: str
    first: str
    second: str


def differences(first: Mapping[str, object], second: Mapping[str, object]) -> tuple[Difference, ...]:
    """The fields in which two manifests differ."""
    old, new = (dict(_leaves(each)) for each in (first, second))
    fields = [each for each in {**old, **new} if old.get(each) != new.get(each)]
    return tuple(Difference(each, old.get(each, ""), new.get(each, "")) for each in sorted(fields))


def _leaves(value: Any, path: str = "") -> list[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        return [leaf for key, inner in value.items() for leaf in _leaves(inner, f"{path}.{key}" if path else str(key))]
    return [
        (
            path,
            value
            if isinstance(value, str)
            else yaml.safe_dump(value, default_flow_style=True).removesuffix("...\n").strip(),
        )
    ]
