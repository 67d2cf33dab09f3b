"""Which kinds of secrets and personal data a row holds: never what they are, so that no log or report repeats them.

Called for each row by `batch`. Pure, one row at a time. Nearly all rows hold nothing that even looks like it, and are
done with after a few searches for fixed bytes in the row's line of JSON: of whatever `recognizers` can find, one of
the recognizer's hints stands there. Hints are characters that JSON writes as they are.
"""

import json
from collections.abc import Iterable, Iterator
from string import ascii_uppercase, digits
from typing import Any

from finetune_trainer.data.findings import Finding
from finetune_trainer.data.recognizers import RECOGNIZERS, Recognizer, View

# What is said of a kind, in the plural.
NAMES = {recognizer.kind: recognizer.name for recognizer in RECOGNIZERS}
SHAPES = bytes.maketrans((digits + ascii_uppercase).encode(), b"0" * len(digits) + b"A" * len(ascii_uppercase))
# Few rows have these in their shape, and with them whole groups of hints are ruled out.
GATES = (b"AA", b"000", b"_")


def _gate(view: View, hint: bytes) -> bytes:
    shape = b"" if view == View.LOWER else hint.translate(SHAPES)
    return next((gate for gate in GATES if gate in shape), b"")


# By gate, and in any line is the empty one.
HINTS = {
    gate: [(each.view, hint, each) for each in RECOGNIZERS for hint in each.hints if _gate(each.view, hint) == gate]
    for gate in (b"", *GATES)
}


def kinds(line: bytes) -> tuple[str, ...]:
    """The kinds that one row holds, each once; `line` is the row as JSON."""
    asked = hinted(line)
    if not asked:
        return ()
    texts = list(_texts(json.loads(line)))
    return tuple(dict.fromkeys(each.kind for each in asked if any(map(each.found, texts))))


def hinted(line: bytes) -> list[Recognizer]:
    """The recognizers that may find something in this row; no other one can."""
    # In the order of View.
    views = (line, line.lower(), line.translate(SHAPES))
    open_gates = [hints for gate, hints in HINTS.items() if gate in views[View.SHAPE]]
    found = {each for hints in open_gates for view, hint, each in hints if hint in views[view]}
    return [
        each
        for each in sorted(found, key=RECOGNIZERS.index)
        if not each.beside or any(hint in views[each.view] for hint in each.beside)
    ]


def refusal(found: Iterable[Finding]) -> str | None:
    """Why a dataset with these findings is refused where dataset.onSensitive is fail; None when it is not."""
    sentences = [each.sentence for each in found if each.kind in NAMES]
    if not sentences:
        return None
    advice = "Remove or mask them, or, if the model may learn them, set dataset.onSensitive to warn or ignore."
    return " ".join((*sentences, advice))


def _texts(value: Any) -> Iterator[str]:
    """Every string of a row: what is said, what tools are called with, and how they are described."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _texts(each)
