"""The words of a text, also in languages that are written without spaces: there every character counts as one.

Called by `metrics` and `choosers`. Pure. A segmenter would need a dictionary for each language, and two versions of
it would score the same answers differently.
"""

import re

# Thai, Lao, Myanmar, Khmer, the kana, and Han with its extensions.
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
_WORD = re.compile(f"[{_UNSPACED}]|[^\\s{_UNSPACED}]+")
# BM25's: of two letters or more, as bm25s has it, but for these characters.
TOKEN = f"[{_UNSPACED}]|[^\\W{_UNSPACED}]{{2,}}"
_ONE = re.compile(f"[{_UNSPACED}]")
# The punctuation of these languages, which string.punctuation lacks.
PUNCTUATION = "。、，！？：；「」『』（）《》〈〉【】・…"  # noqa: RUF001  (they are meant)


def words(text: str) -> list[str]:
    """Its words, and each character of a script without spaces."""
    return _WORD.findall(text)


def length(text: str) -> float:
    """Its length in words, to tell a short answer from a long one: two such characters are about as long as a word."""
    found = words(text)
    return len(found) - sum(_ONE.fullmatch(word) is not None for word in found) / 2
