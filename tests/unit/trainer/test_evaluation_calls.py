"""The same tool call, as rows, replies and templates write it."""

import json

import pytest
from finetune_trainer.evaluation.calls import said, written
from hypothesis import given
from hypothesis import strategies as st

OBJECT = {"type": "function", "function": {"name": "book", "arguments": {"people": 2, "time": "seven"}}}
STRING = {"id": "1", "type": "function", "function": {"name": "book", "arguments": '{"time":"seven", "people":2}'}}
RIGHT = '[{"arguments": {"people": 2, "time": "seven"}, "name": "book"}]'


@pytest.mark.parametrize("call", [OBJECT, STRING, OBJECT["function"]])
def test_arguments_are_an_object_or_its_json(call: object) -> None:
    assert written([call]) == RIGHT


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
