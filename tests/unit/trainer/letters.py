"""Tokenizers whose tokens are characters, for tests of what is made of rows."""

from finetune_trainer.data.tokens import CantRender, Encoded, Row


class InLetters:
    """A text in tokens, one for each character."""

    def __init__(self, text: str) -> None:
        self.ids = [ord(letter) for letter in text]
        self.offsets = [(at, at + 1) for at in range(len(text))]

    def char_to_token(self, char_pos: int) -> int | None:
        return char_pos if char_pos < len(self.ids) else None


class Letters:
    """A tokenizer whose tokens are characters, behind a template that names roles."""

    eos = "$"

    def render(self, messages: list[Row], tools: list[Row] | None, generation: bool) -> str:
        told = "".join(f"<{each['role']}>{each['content']}{each.get('tool_calls', '')}" for each in messages)
        return told + "<assistant>" * generation

    def encode(self, texts: list[str], special: bool) -> list[Encoded]:
        return [InLetters(text) for text in texts]


class Strict(Letters):
    """A template that refuses every chat."""

    def render(self, messages: list[Row], tools: list[Row] | None, generation: bool) -> str:
        raise CantRender("the model's chat template refuses it: roles must alternate")
