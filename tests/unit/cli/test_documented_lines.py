"""The lines with `finetune` in README.md, docs/ and the tutorials are what the command takes: they work as typed."""

import re
import shlex

import pytest
from finetune_cli.main import app
from paths import EXAMPLES, ROOT
from typer.main import get_command

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted(EXAMPLES.glob("*/README.md"))]
# A line of code, or a piece of code within a line.
TYPED = re.compile(r"(?:^ {4}|`)(?:\.venv/bin/)?finetune ([a-z]+ [^`>\n]*)", re.MULTILINE)
LINES = {line.partition(" #")[0].strip() for page in PAGES for line in TYPED.findall(page.read_text())}


@pytest.mark.parametrize("line", sorted(LINES))
def test_a_line_that_is_documented_is_understood(line: str) -> None:
    name, *rest = shlex.split(line)
    get_command(app).commands[name].make_context(name, rest)


def test_check_and_the_comparison_are_among_the_most_useful_lines() -> None:
    _, _, after = (ROOT / "README.md").read_text().partition("## The ten most useful lines\n\n")
    useful = [line.split("  ")[0] for line in after.partition("\n\n")[0].replace("    ", "", 1).split("\n    ")]
    assert len(useful) == 10
    assert {"finetune check job.yaml", "finetune report A B"} <= set(useful)
