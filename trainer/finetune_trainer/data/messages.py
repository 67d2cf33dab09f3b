"""Messages in the ways that people write them become one: role and content, a string.

Called by `examples` before a row is checked. What can't be brought into that form stays as it is, for `checks` to name.

- ShareGPT's from and value are role and content; its column system is a message.
- Content in parts, OpenAI's other form, becomes a string, its texts on lines of their own as vLLM joins them. A part
  that is no text stays.
- The role developer is system where the model's template knows no other.
"""

from typing import Any

from finetune_trainer.data.preference import ANSWERS

Row = dict[str, Any]
# The names of speakers in ShareGPT's files, and what LLaMA-Factory and axolotl read beside them.
SPEAKERS = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "assistant": "assistant",
    "system": "system",
    "tool": "tool",
    "observation": "tool",
}
LISTS = ("messages", "prompt", "completion", *ANSWERS)


def unified(row: Row, developer: bool) -> Row:
    """The row with its messages in our form. `developer`: the model's chat template knows this role."""
    if "conversations" in row:
        row = _from_sharegpt(row)
    lists = {name: value for name in LISTS if isinstance(value := row.get(name), list)}
    return row | {name: [_message(each, developer) for each in value] for name, value in lists.items()}


def _from_sharegpt(row: Row) -> Row:
    """A chat; a system message of the row's own comes first."""
    turns, system = row["conversations"], row.get("system")
    told = [{"role": "system", "content": system}] if system else []
    kept = {key: value for key, value in row.items() if key not in ("conversations", "system")}
    return kept | {"messages": [*told, *map(_turn, turns)] if isinstance(turns, list) else turns}


def _turn(turn: Any) -> Any:
    if not isinstance(turn, dict) or "from" not in turn:
        return turn
    speaker = turn["from"]
    found = {"role": SPEAKERS.get(speaker, speaker) if isinstance(speaker, str) else speaker}
    if "value" in turn:
        found["content"] = turn["value"]
    return found


def _message(message: Any, developer: bool) -> Any:
    if not isinstance(message, dict):
        return message
    found = dict(message)
    if found.get("role") == "developer" and not developer:
        found["role"] = "system"
    content = found.get("content")
    if isinstance(content, list) and content and all(map(_is_text, content)):
        found["content"] = "\n".join(part["text"] for part in content)
    return found


def _is_text(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str)
