"""How a chat template reaches Ollama: in its own language where that says the same, and otherwise not at all."""

from typing import Any

import jinja2
import pytest
from finetune_trainer.training.modelfile import Chat, Words, found
from jinja2.sandbox import ImmutableSandboxedEnvironment

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
DEFAULT = (
    "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou \"help\".<|im_end|>\n' }}{% endif %}" + CHATML
)
# As Gemma's first ones: a system message is refused.
NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no') }}{% endif %}" + CHATML
# As of models that think: only the last answer is written with its thoughts.
THINKING = CHATML.replace("message['content']", "('<think></think>' if loop.last else '') + message['content']")
# As Mistral's: the system message is a part of the first question.
INSIDE = (
    "{% set system = messages[0]['content'] + '\n' if messages[0]['role'] == 'system' else '' %}"
    "{% for message in messages if message['role'] != 'system' %}"
    "{% if message['role'] == 'user' %}[INST] {{ system if loop.first }}{{ message['content'] }} [/INST]"
    "{% else %}{{ message['content'] }}</s>{% endif %}{% endfor %}"
)
NUMBERED = CHATML.replace("'<|im_end|>", "'<|' ~ loop.index ~ '|>")


def words(template: str) -> Words | None:
    def refuse(message: str) -> None:
        raise jinja2.TemplateError(message)

    compiled = ImmutableSandboxedEnvironment().from_string(template)

    def render(chat: Chat, answer: bool) -> str:
        given: dict[str, Any] = {"messages": chat, "add_generation_prompt": answer, "raise_exception": refuse}
        return compiled.render(given)

    return found(render)


def test_words_around_messages_are_found() -> None:
    around = {role: (f"<|im_start|>{role}\n", "<|im_end|>\n") for role in ("system", "user", "assistant")}
    chatml = Words(default="", opening="<|im_start|>assistant\n", **around)
    assert words(CHATML) == chatml
    assert words(DEFAULT) == Words(
        default='<|im_start|>system\nYou "help".<|im_end|>\n', opening="<|im_start|>assistant\n", **around
    )


@pytest.mark.parametrize("template", [NO_SYSTEM, THINKING, INSIDE, NUMBERED, "{{ messages[0]['content'] | trim }}"])
def test_a_template_that_does_more_has_none(template: str) -> None:
    assert words(template) is None


def test_they_are_written_in_the_language_of_go() -> None:
    # Go's own text/template writes with it what Jinja writes with the other.
    template = words(DEFAULT)
    assert template is not None
    assert template.template() == (
        "{{ range $i, $message := .Messages }}"
        '{{ if and (eq $i 0) (ne $message.Role "system") }}'
        r'{{ "<|im_start|>system\nYou \"help\".<|im_end|>\n" }}'
        "{{ end }}"
        r'{{ if eq $message.Role "system" }}{{ "<|im_start|>system\n" }}{{ $message.Content }}{{ "<|im_end|>\n" }}'
        r'{{ else if eq $message.Role "user" }}{{ "<|im_start|>user\n" }}{{ $message.Content }}{{ "<|im_end|>\n" }}'
        r'{{ else if eq $message.Role "assistant" }}{{ "<|im_start|>assistant\n" }}{{ $message.Content }}'
        r'{{ "<|im_end|>\n" }}'
        r'{{ end }}{{ end }}{{ "<|im_start|>assistant\n" }}'
    )
