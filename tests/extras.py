"""What the distribution's extras ask for, from pyproject.toml; what that comes to with all that it asks for in turn."""

import tomllib
from collections.abc import Iterable, Iterator
from importlib.metadata import requires

from packaging.requirements import Requirement
from paths import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def _asked_by(extra: str) -> Iterator[str]:
    """An extra's own libraries, and those of our extras that it names."""
    for text in PROJECT["optional-dependencies"][extra]:
        asked = Requirement(text)
        if asked.name == PROJECT["name"]:
            for other in asked.extras:
                yield from _asked_by(other)
        else:
            yield text


EXTRAS = {extra: [*PROJECT["dependencies"], *_asked_by(extra)] for extra in PROJECT["optional-dependencies"]}


def needed(requirements: Iterable[str], without: Iterable[str] = ()) -> Iterator[Requirement]:
    """What these ask for on this machine, and what that asks for in turn, as it is installed here."""
    seen: set[tuple[str, str]] = set()
    waiting = [(Requirement(text), "") for text in requirements]
    while waiting:
        asked, extra = waiting.pop()
        if (asked.marker and not asked.marker.evaluate({"extra": extra})) or asked.name in without:
            continue
        yield asked
        for extra in ("", *asked.extras):
            if (asked.name, extra) not in seen:
                seen.add((asked.name, extra))
                waiting += [(Requirement(text), extra) for text in requires(asked.name) or []]
