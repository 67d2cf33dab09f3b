"""Tokenizers whose tokens are characters, for tests of what is made of rows."""

from finetune_trainer.data.tokens import CantRender, Encoded, Row


class Letters:
    """A tokenizer whose tokens are characters, behind a template that names roles."""

    eos = "$"

    def render(self, messages: list[Row], tools: list[Row] | None, generation: bool) -> str:
        told = "".join(f"<{each['role']}>{each['content']}{each.get('tool_calls', '')}" for each in messages)
        return told + "<assistant>" * generation

    def encode(self, texts: list[str], special: bool) -> list[Encoded]:
        return [Encoded([ord(letter) for letter in text], range(1, len(text) + 1)) for text in texts]


class Strict(Letters):
    """A template that refuses every chat."""

    def render(self, messages: list[Row], tools: list[Row] | None, generation: bool) -> str:
        raise CantRender("the model's chat template refuses it: roles must alternate")
