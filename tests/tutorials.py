"""The tutorials of examples/ as the tests read them: what READMEs say to type and fill in, what is told then."""

from collections.abc import Iterator
from itertools import dropwhile, takewhile

from paths import EXAMPLES

_CODE = "    "


def section(example: str, heading: str) -> list[str]:
    """The lines under a heading of an example's README."""
    lines = (EXAMPLES / example / "README.md").read_text().splitlines()
    after = dropwhile(lambda line: line != f"## {heading}", lines)
    assert next(after, None), f"{example}/README.md has no heading {heading}"
    return list(takewhile(lambda line: not line.startswith("## "), after))


def typed(example: str, heading: str) -> list[str]:
    """The commands under a heading: its first block of code."""
    rest = dropwhile(lambda line: not line.startswith(_CODE), section(example, heading))
    return [line.strip() for line in takewhile(lambda line: line.startswith(_CODE), rest)]


def fields(example: str, heading: str) -> dict[str, str]:
    """What is to be filled in: a table of labels and values."""
    return dict(_rows(section(example, heading)))


def _rows(lines: list[str]) -> Iterator[tuple[str, str]]:
    # The first two are the head and what draws the line below it.
    for line in [line for line in lines if line.startswith("|")][2:]:
        label, value = (cell.strip() for cell in line.strip("|").split("|"))
        yield label, value


def in_order(told: str, *lines: str) -> None:
    """Each line stands there, after those before it."""
    place = 0
    for line in lines:
        assert f"{line}\n" in told[place:], told
        place = told.index(f"{line}\n", place)
