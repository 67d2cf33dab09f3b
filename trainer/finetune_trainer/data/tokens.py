"""A row becomes what is trained: token ids, and which of them are learned.

Called by `examples` with rows in the columns that it made. What is learned is found by the difference of renderings:
the conversation before an answer, with the generation prompt, is how the model will be asked; what the text of the
whole conversation has beyond that, up to the end of the answer's turn, is how it is to answer, its end-of-turn token
included. The whole text is tokenized once, so that its tokens are those that the engine would see, and the spans are
found in it by the tokenizer's offsets. So a template need not mark its answers. Where it changes an answer when others
follow it, answers can't be told apart this way, and the row is refused.

The chat template sees messages as vLLM shows them: a call's arguments as objects, which most templates write as JSON,
whether the row has them as objects or as OpenAI's strings (a template that takes only strings gets those); and an empty
string as the content of a message that has none. Pure, but for the tokenizer.
"""

import json
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Protocol

Row = dict[str, Any]
Span = tuple[int, int]
# The label that a loss skips, in torch's words its ignore_index.
IGNORED = -100
WEIGHT = "weight"
# Enough of two texts to see where they part.
SHOWN = 40
CHANGED = (
    "changes when others follow it, by the model's chat template, so it can't be learned in one row with them: write a "
    "row for each answer, ending with it, or give every answer but the last the weight 0"
)
OPENING = "message 1 answers nothing: put what is asked before it, or give it the weight 0"


class CantRender(ValueError):
    """The model's chat template refuses a row, or what is learned can't be found in what it makes of it."""


class Encoded(Protocol):
    """A text in tokens; tokenizers' own Encoding is one."""

    @property
    def ids(self) -> list[int]:
        """The tokens."""

    @property
    def offsets(self) -> Sequence[Span]:
        """The characters that each token stands for."""

    def char_to_token(self, char_pos: int) -> int | None:
        """The first token of a character."""


class Tokenizer(Protocol):
    """What the base model's tokenizer is asked for."""

    @property
    def eos(self) -> str:
        """The text of its end-of-sequence token; empty when it has none."""

    def render(self, messages: list[Row], tools: list[Row] | None, generation: bool) -> str:
        """The chat as text, with the generation prompt or without. Raises CantRender."""

    def encode(self, texts: list[str], special: bool) -> list[Encoded]:
        """Tokens of each text, with the special tokens that plain text gets or without."""


@dataclass(frozen=True)
class Rendered:
    """A row as the model reads it, and the spans of its characters that are learned. `plain`: it is no chat."""

    text: str
    learned: tuple[Span, ...]
    plain: bool


@dataclass(frozen=True)
class Tokens:
    """A row as it is trained: its token ids, and the spans of them that are learned."""

    ids: "array[int]"
    learned: tuple[Span, ...]

    def __len__(self) -> int:
        return len(self.ids)


def render(row: Row, tokenizer: Tokenizer, learn: bool = True) -> Rendered:
    """A row as text. `learn`: find what is learned in it, which rows that are only asked don't need.

    Raises CantRender.
    """
    if "text" in row:
        text = _ended(row["text"], tokenizer)
        return Rendered(text, ((0, len(text)),), plain=True)
    if isinstance(row.get("prompt"), str):
        prompt, completion = row["prompt"], _ended(row["completion"], tokenizer)
        return Rendered(prompt + completion, ((len(prompt), len(prompt + completion)),), plain=True)
    messages = row["messages"] if "messages" in row else row["prompt"] + row["completion"]
    chat = _Chat(messages, json.loads(row["tools"]) if row.get("tools") else None, tokenizer)
    answers = range(0 if "messages" in row else len(row["prompt"]), len(messages))
    learned = [at for at in answers if learn and _is_learned(messages[at])]
    return Rendered(chat.text, tuple(chat.answer(at) for at in learned), plain=False)


def encode(rows: Sequence[Rendered], tokenizer: Tokenizer) -> list[Tokens]:
    """The rows in tokens."""
    found: dict[int, Tokens] = {}
    for plain in (True, False):
        same = [(at, row) for at, row in enumerate(rows) if row.plain == plain]
        encoded = tokenizer.encode([row.text for _, row in same], plain) if same else []
        for (at, row), tokens in zip(same, encoded, strict=True):
            ids = array("i", tokens.ids)
            found[at] = Tokens(ids, _spans(row, tokens, len(ids)))
    return [found[at] for at in range(len(rows))]


def without_weights(row: Row) -> Row:
    """The row as it is asked: what is learned of it is training's matter."""
    chats = {column: value for column, value in row.items() if isinstance(value, list)}
    return row | {column: [_unweighted(message) for message in messages] for column, messages in chats.items()}


def _unweighted(message: Row) -> Row:
    return {key: value for key, value in message.items() if key != WEIGHT}


def _is_learned(message: Row) -> bool:
    return bool(message["role"] == "assistant" and message.get(WEIGHT, 1) != 0)


def _ended(text: str, tokenizer: Tokenizer) -> str:
    return text if text.endswith(tokenizer.eos) else text + tokenizer.eos


class _Chat:
    """A conversation, its text, and where the answers stand in it."""

    def __init__(self, messages: list[Row], tools: list[Row] | None, tokenizer: Tokenizer) -> None:
        self._tools = tools
        self._tokenizer = tokenizer
        self._messages = [_shown(message, _object) for message in messages]
        try:
            self.text = self._render(len(messages))
        except CantRender:
            strings = [_shown(message, _string) for message in messages]
            if strings == self._messages:
                raise
            self._messages = strings
            self.text = self._render(len(messages))

    def answer(self, at: int) -> Span:
        """The characters of the whole text that the answer at `at` adds. Raises CantRender."""
        if at == 0:
            raise CantRender(OPENING)
        asked = self._render(at, generation=True)
        answered = self.text if at == len(self._messages) - 1 else self._render(at + 1)
        if not answered.startswith(asked):
            raise CantRender(f"message {at + 1} is no answer to what it is asked: {_parting(asked, answered)}")
        # Some templates end the conversation, not the turn, with the end-of-sequence token.
        closed = answered if self.text.startswith(answered) else answered.removesuffix(self._tokenizer.eos)
        if not self.text.startswith(closed):
            raise CantRender(f"message {at + 1} {CHANGED}")
        if left_out := [name for name in _called(self._messages[at]) if name not in closed[len(asked) :]]:
            raise CantRender(f"message {at + 1} calls {left_out[0]}, and the model's chat template leaves calls out")
        return len(asked), len(closed)

    def _render(self, count: int, generation: bool = False) -> str:
        return self._tokenizer.render(self._messages[:count], self._tools, generation)


def _parting(asked: str, answered: str) -> str:
    """How what is asked and what is trained differ."""
    same = takewhile(lambda pair: pair[0] == pair[1], zip(asked, answered, strict=False))
    at = sum(1 for _ in same)
    return (
        f"to ask, the model's chat template writes {_quoted(asked[at:])} where, with the answer, it has "
        f"{_quoted(answered[at:])}, so what is learned would not be what is asked"
    )


def _quoted(text: str) -> str:
    return json.dumps(text if len(text) <= SHOWN else f"{text[:SHOWN]}…", ensure_ascii=False)


def _shown(message: Row, form: Any) -> Row:
    """A message as the template sees it, its calls' arguments in one form."""
    told: Row = {"content": ""} | _unweighted(message)
    if message.get("tool_calls"):
        told["tool_calls"] = [_with_arguments(call, form) for call in message["tool_calls"]]
    return told


def _with_arguments(call: Row, form: Any) -> Row:
    if isinstance(function := call.get("function"), dict):
        return call | {"function": _with_arguments(function, form)}
    return call | {"arguments": form(call.get("arguments"))}


def _object(arguments: Any) -> Any:
    return json.loads(arguments or "{}") if arguments is None or isinstance(arguments, str) else arguments


def _string(arguments: Any) -> str:
    return arguments if isinstance(arguments, str) else json.dumps(arguments or {}, ensure_ascii=False)


def _called(message: Row) -> list[str]:
    """The names of the functions that a message calls."""
    functions = [call.get("function", call) for call in message.get("tool_calls") or ()]
    return [name for function in functions if isinstance(name := function.get("name"), str)]


def _spans(row: Rendered, tokens: Encoded, count: int) -> tuple[Span, ...]:
    """The learned spans in tokens; a token that reaches into an answer is its first.

    What the tokenizer adds at an end of the text belongs to the span that touches it.
    """
    found: list[Span] = []
    for start, end in row.learned:
        first = 0 if start == 0 else _beyond(tokens, start)
        at = count if end == len(row.text) else _beyond(tokens, end)
        if first < at:
            found.append((first, at))
    return tuple(found)


def _beyond(tokens: Encoded, character: int) -> int:
    """The first token that ends behind a character."""
    # Offsets are thousands of tuples, and only a character that no token stands for needs them.
    if (token := tokens.char_to_token(character)) is not None:
        return token
    return next((at for at, (_, end) in enumerate(tokens.offsets) if end > character), len(tokens.offsets))
