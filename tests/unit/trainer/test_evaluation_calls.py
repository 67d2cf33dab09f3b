"""The same tool call, as rows, replies and templates write it."""

import json
from typing import Any

import pytest
from finetune_trainer.evaluation.calls import message, said, written
from finetune_trainer.evaluation.contenders import Prompt, Question
from finetune_trainer.evaluation.likelihood import reference
from hypothesis import given
from hypothesis import strategies as st

OBJECT = {"type": "function", "function": {"name": "book", "arguments": {"people": 2, "time": "seven"}}}
STRING = {"id": "1", "type": "function", "function": {"name": "book", "arguments": '{"time":"seven", "people":2}'}}
RIGHT = '[{"arguments": {"people": 2, "time": "seven"}, "name": "book"}]'


@pytest.mark.parametrize("call", [OBJECT, STRING, OBJECT["function"]])
def test_arguments_are_an_object_or_its_json(call: object) -> None:
    assert written([call]) == RIGHT


def test_a_template_gets_arguments_as_objects_and_its_own_words_are_what_is_likely() -> None:
    class Tokenizer:
        eos_token = "<end>"

        def apply_chat_template(self, turns: list[Any], add_generation_prompt: bool, **_: Any) -> str:
            told = [turn.get("tool_calls", turn["content"]) for turn in turns]
            return " ".join(
                str(each[0]["function"]["arguments"]["people"]) if isinstance(each, list) else each for each in told
            )

        def __call__(self, text: str, add_special_tokens: bool) -> dict[str, list[str]]:
            return {"input_ids": text.split()}

    asked = ({"role": "user", "content": "a table"},)
    row = Question(asked, RIGHT, (), message({"role": "assistant", "tool_calls": [STRING]}))
    assert reference(Tokenizer(), Prompt(asked, 0), row) == (("a", "table"), ("2",))


@pytest.mark.parametrize(
    "text",
    [
        '<tool_call>\n{"name": "book", "arguments": {"time": "seven", "people": 2}}\n</tool_call>',
        '[TOOL_CALLS][{"name": "book", "arguments": {"people": 2, "time": "seven"}}]',
        '{"name": "book", "parameters": {"people": 2, "time": "seven"}}',
        f"<|python_tag|>{json.dumps(STRING)}",
        '<think>{"name": "cancel", "arguments": {}}?</think>' + RIGHT,
        'I {will} book: ```json\n{"name": "book", "arguments": {"people": 2, "time": "seven"}}\n```',
        RIGHT,
    ],
)
def test_calls_are_found_as_each_template_writes_them(text: str) -> None:
    assert said(text) == RIGHT


def test_the_order_of_calls_makes_no_difference_and_another_argument_does() -> None:
    other = {"name": "cancel", "arguments": {}}
    assert written([OBJECT, other]) == written([other, OBJECT])
    assert said(json.dumps({"name": "book", "arguments": {"people": 3, "time": "seven"}})) != RIGHT


@pytest.mark.parametrize("text", ["", "no call", '{"name": "Anna"}', '{"arguments": {}}', "[" * 5000, "{" * 5000])
def test_what_is_no_call_is_left_as_it_is(text: str) -> None:
    assert said(text) == text


@given(st.text('{}[]"name: arguments,1', max_size=60))
def test_no_text_is_a_crash(text: str) -> None:
    assert isinstance(said(text), str)
