"""What form the answers in train have, as an engine is told it."""

import json
from typing import Any

import pytest
from finetune_trainer.evaluation.structure import FIELDS, asked_for, inferred
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-1, 1) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner),
    max_leaves=8,
)


def schema(*answers: Any) -> dict[str, Any]:
    found = asked_for([json.dumps(answer) for answer in answers])
    assert found is not None
    return dict(found["response_format"]["json_schema"]["schema"])


def test_a_field_that_every_answer_has_is_required_and_no_other_is_allowed() -> None:
    assert schema({"people": 2, "time": "seven"}, {"people": 3}) == {
        "type": "object",
        "properties": {"people": {"type": "integer"}, "time": {"type": "string"}},
        "required": ["people"],
        "additionalProperties": False,
    }


def test_values_of_several_kinds_may_be_each() -> None:
    found = schema({"a": 1, "b": None}, {"a": 0.5, "b": "x"}, {"a": 2, "b": {"c": True}})["properties"]
    assert found["a"] == {"type": "number"}
    assert found["b"]["anyOf"][0] == {"type": ["null", "string"]}
    assert found["b"]["anyOf"][1]["properties"] == {"c": {"type": "boolean"}}


def test_a_lists_items_are_told() -> None:
    assert schema({"foods": ["egg"]}, {"foods": []})["properties"]["foods"]["items"] == {"type": "string"}


def test_a_table_may_have_any_key() -> None:
    answers = [{f"food {number}": number} for number in range(FIELDS + 1)]
    assert schema(*answers) == {"type": "object", "additionalProperties": {"type": "integer"}}


@given(st.lists(JSON, min_size=1, max_size=5))
def test_every_answer_keeps_to_the_form_that_was_inferred(answers: list[Any]) -> None:
    found = inferred(answers)
    Draft202012Validator.check_schema(found)
    assert all(Draft202012Validator(found).is_valid(answer) for answer in answers)


def test_labels_are_told_in_their_most_frequent_spelling() -> None:
    answers = ["Refund", "Refund", "refund.", "Refund", "Refund", "<think>hm</think>other", *["other"] * 4]
    assert asked_for(answers) == {"structured_outputs": {"choice": ["Refund", "other"]}}


@pytest.mark.parametrize("answers", [[], ["egg", "flour and more"], ["{}", "egg"]])
def test_other_answers_have_no_form(answers: list[str]) -> None:
    assert asked_for(answers) is None
