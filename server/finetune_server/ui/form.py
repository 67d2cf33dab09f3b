"""The form that asks for a job: its fields, what was filled in, and which complaint belongs beside which field. Pure.

`api` and `finetune_cli.ui` each have fields of their own, since a key may ask for less than who sits at a laptop.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

# A field that is filled in.
_LONGEST = 1000


@dataclass(frozen=True)
class Field:
    """`options`: (value, label) to choose from; none: a line of text. `path`: of the manifest, or of the request."""

    name: str
    label: str
    path: str
    hint: str = ""
    options: tuple[tuple[str, str], ...] = ()
    required: bool = False
    number: bool = False


@dataclass(frozen=True)
class Form:
    """The fields, and a sentence for who misses something."""

    fields: tuple[Field, ...]
    note: str = ""


@dataclass(frozen=True)
class Draft:
    """`manifest` as YAML where it can be made; else `errors`, a sentence by field, and `others` that belong to none."""

    manifest: str = ""
    name: str = ""
    errors: Mapping[str, str] = field(default_factory=dict)
    others: tuple[str, ...] = ()


class Refusal(Exception):
    """A form that asks for no job; what is wrong stands in the draft."""

    def __init__(self, draft: Draft) -> None:
        super().__init__(*draft.others)
        self.draft = draft


def document(form: Form, given: Mapping[str, str]) -> dict[str, Any]:
    """What was filled in, by path. What was left empty is left out, and a number that is none stays as it was typed."""
    found: dict[str, Any] = {}
    for each in form.fields:
        text = given.get(each.name, "").strip()[:_LONGEST]
        if not text:
            continue
        *above, last = each.path.split(".")
        here = found
        for part in above:
            here = here.setdefault(part, {})
        here[last] = _value(text) if each.number else text
    return found


def refused(form: Form, complaints: Iterable[tuple[str, str]]) -> Draft:
    """Complaints, each with the path that it is about: beside the field that has it, or a field that it is part of."""
    errors: dict[str, str] = {}
    others = []
    for path, sentence in complaints:
        found = max(
            (each for each in form.fields if _within(each.path, path)), key=lambda each: len(each.path), default=None
        )
        if found is None or found.name in errors:
            others.append(sentence)
        else:
            errors[found.name] = sentence
    return Draft(errors=errors, others=tuple(others))


def accepted(manifest: Mapping[str, Any]) -> Draft:
    """A manifest that can be applied."""
    shown = {key: manifest[key] for key in ("apiVersion", "kind", "metadata", "spec")}
    return Draft(yaml.safe_dump(shown, sort_keys=False, allow_unicode=True), manifest["metadata"]["name"])


def _within(field: str, path: str) -> bool:
    return path == field or path.startswith((f"{field}.", f"{field}[")) or field.startswith(f"{path}.")


def _value(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
