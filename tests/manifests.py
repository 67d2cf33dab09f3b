"""Manifests made from the smallest one, for `bad_manifests` and `good_manifests`: tables that the API server (contract
tests) and the local backend (unit tests) both obey.
"""

import copy
from dataclasses import dataclass, field
from typing import Any

LONGEST = 45
SMALLEST: dict[str, Any] = {
    "apiVersion": "finetune.dev/v1alpha1",
    "kind": "FineTuneJob",
    "metadata": {"name": "recipes"},
    "spec": {
        "model": {"source": "hf://org/model"},
        "dataset": {"train": {"source": "s3://bucket/train.jsonl"}},
    },
}


@dataclass(frozen=True)
class Bad:
    """A change to the smallest manifest: `fields` (path → value), the field that errors name, and what they allow.

    `allowed` is in both errors; `server` and `local` where the two say it in words of their own. `cluster_only`: the
    local backend accepts it. `of`: the smallest manifest of its kind.
    """

    name: str
    fields: dict[str, Any]
    names: str
    allowed: str = ""
    server: str = ""
    local: str = ""
    cluster_only: bool = False
    of: dict[str, Any] = field(default_factory=lambda: SMALLEST)

    def manifest(self) -> dict[str, Any]:
        """The bad manifest."""
        return manifest(self.fields, self.of)


# Headings without anything below them, as `pod:` on a line of its own.
EMPTY: dict[str, Any] = {
    "spec.model.revision": None,
    "spec.dataset.columns": {"prompt": None},
    "spec.training.pod": None,
    "spec.hosting.pod": {"env": None, "labels": {"team": None}, "affinity": {"podAffinity": None}},
    "spec.hosting.resources": {"limits": {"cpu": None}},
}


def manifest(fields: dict[str, Any], of: dict[str, Any] | None = None) -> dict[str, Any]:
    """The smallest manifest with fields set, by path."""
    whole = copy.deepcopy(of or SMALLEST)
    for path, value in fields.items():
        *parents, last = path.split(".")
        here = whole
        for part in parents:
            here = here.setdefault(part, {})
        here[last] = value
    return whole


def at_least(path: str, least: int, *values: int) -> list[Bad]:
    said = {"server": f"greater than or equal to {least}", "local": f"must be greater than or equal to {least}"}
    return [Bad(f"{path} {value}", {path: value}, path, **said) for value in values]


def each(path: str, allowed: str, *values: Any) -> list[Bad]:
    return [Bad(f"{path} {value!r}", {path: value}, path, allowed) for value in values]


def at_most(path: str, most: int) -> Bad:
    said = {"server": f"less than or equal to {most}", "local": f"must be less than or equal to {most}"}
    return Bad(f"{path} above {most}", {path: most + 1}, path, **said)
