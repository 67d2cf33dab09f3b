"""What of an answer is compared: formatting is no ignorance. `definitions` tells it to people, in the same words.

Called by `metrics` and `measuring`, for every contender's answers and for references alike. Pure.
"""

import re

THOUGHT, THINKING = "</think>", "<think>"
_FENCE = re.compile(r"```[^\n`]*\n(.*?)\n?[ \t]*```", re.DOTALL)
_QUOTES = ('""', "''", "``", "“”", "\u2018\u2019", "„“", "«»", "「」")
_STOPS = (".", "。")


def said(text: str) -> str:
    """The answer without the thinking before it, without a code fence around it, and without white space around that.

    Of thinking that never came to an end nothing was said.
    """
    rest = text.rpartition(THOUGHT)[2].strip()
    if rest.startswith(THINKING):
        return ""
    whole = _FENCE.fullmatch(rest)
    return whole[1].strip() if whole and "```" not in whole[1] else rest


def document(text: str) -> str:
    """Where a JSON document stands in what was said: in its first code fence, if it has one."""
    if text.startswith(("{", "[")):
        return text
    fence = _FENCE.search(text)
    return fence[1] if fence else text


def label(text: str) -> str:
    """A label without case, quotes around it and a full stop behind it."""
    bare = text.strip().casefold()
    while (shorter := _barer(bare)) and shorter != bare:
        bare = shorter
    return bare


def _barer(text: str) -> str:
    if len(text) > 1 and text[0] + text[-1] in _QUOTES:
        return text[1:-1].strip()
    return text[:-1].strip() if text.endswith(_STOPS) else text
