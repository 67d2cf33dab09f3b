"""The Modelfile that Ollama makes a model of: the file's name, how a chat is written, and where an answer ends.

Called by `gguf`. Ollama runs no Jinja: without a TEMPLATE it looks which of the chat templates that it knows is most
like the file's. A wrong one would cost the answers, and nobody would be told. So one is written in its own language
wherever the model's does no more than put words around messages, as most do, and agrees on a few chats.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any

Chat = list[dict[str, str]]
Render = Callable[[Chat, bool], str]
# Contents by which the words around them are found. No template trims them.
_MARKS = ("Qq1qQ", "Qq2qQ", "Qq3qQ", "Qq4qQ")
_SYSTEM, _USER, _ASSISTANT = "system", "user", "assistant"
# Chats that are rendered both ways; the last message is what is answered.
_TRIED: tuple[tuple[str, ...], ...] = (
    (_USER,),
    (_SYSTEM, _USER),
    (_USER, _ASSISTANT, _USER),
    (_SYSTEM, _USER, _ASSISTANT, _USER, _ASSISTANT, _USER),
)
UNKNOWN = """\
# No TEMPLATE: the model's chat template does more than put words around messages, and Ollama can't run it. It takes the
# one of those that it knows which is most like it: see `ollama show --template`. llama-server --jinja runs the model's.
"""


def of(model: Path, file: str, *, trusted: bool) -> str:
    """The Modelfile for a GGUF file of the model that lies in a directory."""
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(model, trust_remote_code=trusted)
    template = ""
    if tokenizer.chat_template:
        # As llama.cpp puts it before every prompt, it is no part of what is rendered.
        begin = tokenizer.bos_token if _begins(tokenizer) else ""

        def render(chat: Chat, answer: bool) -> str:
            written: str = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=answer)
            return written.removeprefix(begin)

        # What tells the day would go on telling this one.
        words = None if "strftime_now" in str(tokenizer.chat_template) else found(render)
        template = f'TEMPLATE """{words.template()}"""\n' if words else UNKNOWN
    stops = "".join(f"PARAMETER stop {json.dumps(token, ensure_ascii=False)}\n" for token in _ends(model, tokenizer))
    return f"FROM ./{file}\n{template}{stops}"


@dataclass(frozen=True)
class Words:
    """What a chat template puts around messages. `default`: before a chat without a system message; `opening`: before
    an answer.
    """

    default: str
    system: tuple[str, str]
    user: tuple[str, str]
    assistant: tuple[str, str]
    opening: str

    def write(self, chat: Chat) -> str:
        """A chat as `template` would write it."""
        begin = self.default if chat[0]["role"] != _SYSTEM else ""
        around = [(getattr(self, message["role"]), message["content"]) for message in chat]
        return begin + "".join(before + content + after for (before, after), content in around) + self.opening

    def template(self) -> str:
        """In the language of Go's templates. Words are string constants, whose space nobody trims."""
        literal = {field.name: _literals(getattr(self, field.name)) for field in fields(self)}
        roles = [
            f'eq $message.Role "{role}" }}}}{literal[role][0]}{{{{ $message.Content }}}}{literal[role][1]}'
            for role in (_SYSTEM, _USER, _ASSISTANT)
        ]
        begin = f'{{{{ if and (eq $i 0) (ne $message.Role "{_SYSTEM}") }}}}{literal["default"][0]}{{{{ end }}}}'
        begin = begin if self.default else ""
        each = "{{ if " + "{{ else if ".join(roles) + "{{ end }}"
        return f"{{{{ range $i, $message := .Messages }}}}{begin}{each}{{{{ end }}}}{literal['opening'][0]}"


def found(render: Render) -> Words | None:
    """The words that a chat template puts around messages; None for one that does something else.

    `render`: a chat as the template writes it, and whether an answer is to follow.
    """
    # Templates refuse in many ways, by exceptions of their own.
    try:
        words = _words(render)
        chats = [_chat(roles) for roles in _TRIED]
        return words if all(words.write(chat) == render(chat, True) for chat in chats) else None
    except Exception:  # noqa: BLE001  (a template is a program of the model's)
        return None


def _words(render: Render) -> Words:
    """As two chats have them. Raises ValueError where the second does not go on as the first began."""
    written = [render(_chat((_SYSTEM, _USER, _ASSISTANT, _USER)[:count]), False) for count in (2, 3, 4)]
    assistant, user = (_after(more, before) for before, more in pairwise(written))
    around = _around(user, _MARKS[3])
    first = _MARKS[1].join(around)
    return Words(
        default=_before(render(_chat((_USER,)), False), _MARKS[0].join(around)),
        system=_around(_before(written[0], first), _MARKS[0]),
        user=around,
        assistant=_around(assistant, _MARKS[2]),
        opening=_after(render(_chat((_SYSTEM, _USER)), True), written[0]),
    )


def _chat(roles: tuple[str, ...]) -> Chat:
    return [{"role": role, "content": _MARKS[number % len(_MARKS)]} for number, role in enumerate(roles)]


def _after(text: str, before: str) -> str:
    if not text.startswith(before):
        raise ValueError("an earlier message is written otherwise")
    return text.removeprefix(before)


def _before(text: str, after: str) -> str:
    if not text.endswith(after):
        raise ValueError("a later message is written otherwise")
    return text.removesuffix(after)


def _around(text: str, mark: str) -> tuple[str, str]:
    before, after = text.split(mark)
    return before, after


def _literals(words: str | tuple[str, str]) -> tuple[str, ...]:
    """Each as a Go string constant; JSON's are."""
    each = (words,) if isinstance(words, str) else words
    return tuple(f"{{{{ {json.dumps(text, ensure_ascii=False)} }}}}" if text else "" for text in each)


def _begins(tokenizer: Any) -> bool:
    """Whether it puts a token of its own before any text."""
    return tokenizer.bos_token is not None and tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id]


def _ends(model: Path, tokenizer: Any) -> list[str]:
    """The tokens that end an answer, as the model's own generation config has them."""
    path = model / "generation_config.json"
    given = json.loads(path.read_text()).get("eos_token_id") if path.exists() else None
    ids = given if given is not None else tokenizer.eos_token_id
    wanted = [ids] if isinstance(ids, int) else ids or []
    return [token for token in tokenizer.convert_ids_to_tokens(wanted) if token]
