"""Rows of preference: what is asked, the answer that is preferred, and the one that is not.

Called by `examples` and `checks`. OpenAI's form becomes TRL's, and what two whole texts or conversations have in
common becomes their prompt, as TRL has it; of texts it ends with a word, where TRL's may end within one. Pure.
"""

from itertools import takewhile
from typing import Any

Row = dict[str, Any]
# Of a pair, in the order in which it is trained.
ANSWERS = ("chosen", "rejected")


def from_openai(row: Row) -> Row:
    """OpenAI's columns as TRL's. An input that holds no messages stays, for `checks` to name."""
    asked = row.get("input")
    found: Row = {"prompt": asked}
    if isinstance(asked, dict):
        found = {"prompt": asked.get("messages")}
        if asked.get("tools"):
            found["tools"] = asked["tools"]
    answers = {"chosen": row.get("preferred_output"), "rejected": row.get("non_preferred_output")}
    return {name: value for name, value in (found | answers).items() if value is not None}


def whole(row: Row) -> bool:
    """Whether both answers are whole texts or conversations that begin with the prompt.

    So they are without a prompt, or where conversations stand beside the text of their first message, as in many
    datasets: a list of messages that begins with a user's is no answer.
    """
    prompt, chosen = row.get("prompt"), row.get("chosen")
    if prompt is None:
        return True
    return isinstance(prompt, str) and isinstance(chosen, list) and not _answers(chosen)


def _answers(messages: list[Any]) -> bool:
    return bool(messages) and isinstance(messages[0], dict) and messages[0].get("role") == "assistant"


def parted(row: Row) -> tuple[Any, Any, Any]:
    """Prompt, chosen and rejected; an empty prompt where two wholes have nothing in common."""
    chosen, rejected = row["chosen"], row["rejected"]
    if not whole(row):
        return row["prompt"], chosen, rejected
    common = _common(chosen, rejected)
    return chosen[:common], chosen[common:], rejected[common:]


def _common(chosen: Any, rejected: Any) -> int:
    """How many messages, or characters of whole words, begin both; something is left of each."""
    most = min(len(chosen), len(rejected)) - 1
    pairs = zip(chosen[:most], rejected[:most], strict=False)
    same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    if not isinstance(chosen, str):
        return same
    while same and not (chosen[same].isspace() and rejected[same].isspace()) and not chosen[same - 1].isspace():
        same -= 1
    # The space before a word is the word's, for most tokenizers.
    return same - 1 if chosen[same - 1 : same] == " " else same
