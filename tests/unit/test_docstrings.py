"""What a module's docstring says of its callers is so: whom it names after "Called by" does import it."""

import ast
import re
from collections import defaultdict
from pathlib import Path

from paths import ROOT

DISTRIBUTIONS = ("operator", "server", "cli", "trainer")
# "Called by `a`, and by `b.c`, which …": to the end of the clause that lists them.
CALLERS = re.compile(r"\b(?:called|used|made|asked)\b(?: \w+)* by (.*?)(?:[;:]|\.(?:\s|$)|, which\b|$)", re.IGNORECASE)
MODULE = re.compile(r"`(\w+(?:\.\w+)*)`")


def module(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


TREES = {
    module(path.relative_to(ROOT / each)): ast.parse(path.read_text())
    for each in DISTRIBUTIONS
    for path in (ROOT / each).rglob("*.py")
}


def importers() -> dict[str, set[str]]:
    """Who imports each module, or anything of it; wherever in the file."""
    found: dict[str, set[str]] = defaultdict(set)
    for importer, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                names = {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                whole = {f"{node.module}.{alias.name}": node.module for alias in node.names}
                names = {name if name in TREES else str(of) for name, of in whole.items()}
            else:
                continue
            for name in names:
                found[name].add(importer)
    return found


def called_by(docstring: str) -> list[str]:
    text = " ".join(docstring.split())
    return [name for clause in CALLERS.findall(text) for name in MODULE.findall(clause)]


def is_one(name: str, candidates: set[str]) -> bool:
    """Whether one of these modules has this name, or is within the package that has it. A function counts as its
    module: `flat.attend`."""
    module_of = name.rpartition(".")[0] or name
    return any(f".{each}.".find(f".{said}.") >= 0 for each in candidates for said in {name, module_of})


def test_who_is_said_to_call_a_module_imports_it() -> None:
    known, wrong, checked = importers(), [], 0
    for name, tree in TREES.items():
        callers = {who for each, whos in known.items() if each == name or each.startswith(f"{name}.") for who in whos}
        for said in called_by(ast.get_docstring(tree) or ""):
            checked += 1
            # "the program's `train` command" is the module itself, which its own name can't call.
            if not name.endswith(f".{said}") and not is_one(said, callers):
                wrong.append(f"{name}: {said} does not import it; {', '.join(sorted(callers))} do")
    assert checked > 100
    assert not wrong, "\n".join(wrong)
