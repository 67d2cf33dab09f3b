"""What of a row is learned: chats through templates of many shapes, tool calls, weights, and rows that are no chats."""

import json
from itertools import groupby
from typing import Any

import pytest
from finetune_trainer.data import sequences, spool, tokens
from finetune_trainer.data.base import Base
from finetune_trainer.data.examples import Example
from finetune_trainer.data.tokens import CHANGED, IGNORED, OPENING, CantRender, Row, Tokens
from hypothesis import given
from hypothesis import strategies as st
from shapes import CHANGING, CHATML, EOS, SHAPES, WITHOUT_SYSTEM, base, marked

ASKED = {"role": "user", "content": "2 eggs"}
ANSWERED = {"role": "assistant", "content": "egg"}
ARGUMENTS = {"grams": 2, "of": 'Mehl für "Brot"'}
ON_SHAPES = pytest.mark.parametrize("shape", SHAPES)


def trained(row: Tokens) -> tuple[list[int], list[int]]:
    """Its ids and labels."""
    found = sequences.read(spool.pack([Example(b"", "train.jsonl:1", row)]))
    return found.ids.tolist(), found.labels.tolist()


def made(row: Row, found: Base) -> Tokens:
    return tokens.encode([tokens.render(row, found)], found)[0]


def learned(row: Row, found: Base) -> list[str]:
    """The texts that are learned of a row."""
    tokenized = made(row, found)
    return [found.tokenizer.decode(tokenized.ids[start:end]) for start, end in tokenized.learned]


def refused(row: Row, found: Base) -> str:
    with pytest.raises(CantRender) as error:
        made(row, found)
    return str(error.value)


def chat(*messages: Row, **more: Any) -> Row:
    return {"messages": list(messages), **more}


def calling(arguments: Any, **more: Any) -> Row:
    call = {"type": "function", "function": {"name": "scale", "arguments": arguments}}
    return {"role": "assistant", "tool_calls": [call], **more}


# Of letters that tokens are made of in many ways, and of spaces and newlines, which templates and tokenizers move.
texts = st.text(" \n\tabetTh.<>|é語👍", min_size=1, max_size=12).filter(lambda text: text.strip())
turns = st.lists(st.tuples(texts, texts, st.sampled_from([None, 0, 1])), min_size=1, max_size=4)


def conversation(told: list[tuple[str, str, int | None]], system: str | None) -> list[Row]:
    messages: list[Row] = [{"role": "system", "content": system}] if system else []
    for asked, answered, weight in told:
        weighted = {} if weight is None else {"weight": weight}
        messages += [{"role": "user", "content": asked}, {"role": "assistant", "content": answered, **weighted}]
    return messages


def reference(shape: str, messages: list[Row]) -> tuple[list[int], list[int]]:
    """Token ids and labels by the template's own marks, as TRL takes them from transformers."""
    found = marked(shape).apply_chat_template(
        messages, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
    )
    weights = iter([message.get("weight", 1) for message in messages if message["role"] == "assistant"])
    mask: list[int] = []
    for is_marked, run in groupby(found["assistant_masks"]):
        mask += [next(weights) if is_marked else 0] * len(list(run))
    return found["input_ids"], [one if keep else IGNORED for one, keep in zip(found["input_ids"], mask, strict=True)]


@ON_SHAPES
@given(told=turns, system=st.none() | texts)
def test_what_is_learned_is_what_a_template_would_mark(
    shape: str, told: list[tuple[str, str, int | None]], system: str | None
) -> None:
    if shape in CHANGING:
        told = [*((asked, answered, 0) for asked, answered, _ in told[:-1]), told[-1]]
    messages = conversation(told, None if shape in WITHOUT_SYSTEM else system)

    found = made(chat(*messages), base(SHAPES[shape]))

    assert trained(found) == reference(shape, messages)


@ON_SHAPES
def test_each_answer_ends_with_its_turn(shape: str) -> None:
    *_, last = learned(chat(ASKED, ANSWERED), base(SHAPES[shape]))
    ends = {
        "Llama 3": "egg<|eot_id|>",
        "Qwen 3": "<think>\n\n</think>\n\negg<|im_end|>\n",
        "Mistral": " egg<|endoftext|>",
        "Gemma": "egg<end_of_turn>\n",
        "Phi": "egg<|end|>\n<|endoftext|>",
    }
    assert last == ends.get(shape, "egg<|im_end|>\n")


def test_where_the_conversation_ends_with_a_token_of_its_own_the_turns_before_do_not() -> None:
    assert learned(chat(ASKED, ANSWERED, ASKED, ANSWERED), base(SHAPES["Phi"])) == [
        "egg<|end|>\n",
        "egg<|end|>\n<|endoftext|>",
    ]


def test_answers_of_weight_0_are_read_and_not_learned() -> None:
    row = chat(ASKED, ANSWERED | {"content": "wrong", "weight": 0}, ASKED, ANSWERED | {"weight": 1})
    found = made(row, base(CHATML))
    assert learned(row, base(CHATML)) == ["egg<|im_end|>\n"]
    assert "wrong" in base(CHATML).tokenizer.decode(found.ids)


@pytest.mark.parametrize("arguments", [ARGUMENTS, json.dumps(ARGUMENTS), json.dumps(ARGUMENTS, ensure_ascii=False)])
def test_the_arguments_of_calls_are_learned_as_json_however_they_are_given(arguments: Any) -> None:
    row = chat(ASKED, calling(arguments), {"role": "tool", "content": "2 g"}, ANSWERED)
    call, answer = learned(row, base(SHAPES["Qwen 2.5"]))
    assert json.loads(call.partition("<tool_call>")[2].partition("</tool_call>")[0]) == {
        "name": "scale",
        "arguments": ARGUMENTS,
    }
    assert answer == "egg<|im_end|>\n"


@pytest.mark.parametrize("arguments", [None, "", "{}", {}])
def test_a_call_without_arguments_has_an_empty_object(arguments: Any) -> None:
    row = chat(ASKED, calling(arguments))
    assert '"arguments": {}}' in learned(row, base(SHAPES["Qwen 2.5"]))[0]


def test_a_template_that_takes_arguments_only_as_strings_gets_strings() -> None:
    joined = SHAPES["Qwen 2.5"].replace("{{ call.function.arguments | tojson }}", "{{ '' + call.function.arguments }}")
    row = chat(ASKED, calling(ARGUMENTS))
    assert json.dumps(ARGUMENTS, ensure_ascii=False) in learned(row, base(joined))[0]


def test_a_message_that_only_calls_has_an_empty_content() -> None:
    joined = SHAPES["Qwen 2.5"].replace("{{ m.content }}", "{{ '' + m.content }}")
    assert learned(chat(ASKED, calling({})), base(joined))[0].startswith("<tool_call>")


def test_calls_that_the_template_leaves_out_are_told() -> None:
    assert refused(chat(ASKED, calling(ARGUMENTS)), base(CHATML)) == (
        "message 2 calls scale, and the model's chat template leaves calls out"
    )


def test_an_answer_that_changes_when_others_follow_it_is_told() -> None:
    assert refused(chat(ASKED, ANSWERED, ASKED, ANSWERED), base(SHAPES["Qwen 3"])) == f"message 2 {CHANGED}"


def test_a_first_message_of_the_assistant_answers_nothing() -> None:
    assert refused(chat(ANSWERED, ASKED, ANSWERED), base(CHATML)) == OPENING
    assert learned(chat(ANSWERED | {"weight": 0}, ASKED, ANSWERED), base(CHATML)) == ["egg<|im_end|>\n"]


def test_a_prompt_that_no_answer_follows_is_told() -> None:
    thinking = CHATML.removesuffix("{% endif %}") + "<think>{{ '\n' }}{% endif %}"
    assert refused(chat(ASKED, ANSWERED), base(thinking)) == (
        "message 2 is no answer to what it is asked: to ask, the model's chat template writes "
        '"<think>\\n" where, with the answer, it has "egg<|im_end|>\\n", so what is learned would not be what is asked'
    )


def test_what_the_template_refuses_is_told_in_its_words() -> None:
    system = {"role": "system", "content": "List."}
    assert refused(chat(system, ASKED, ANSWERED), base(SHAPES["Gemma"])) == (
        "the model's chat template refuses it: System role not supported"
    )


def test_rows_that_are_only_asked_need_no_answer_to_be_found() -> None:
    rendered = tokens.render(chat(ASKED, ANSWERED, ASKED, ANSWERED), base(SHAPES["Qwen 3"]), learn=False)
    assert rendered.learned == ()


def test_all_of_a_text_is_learned_and_its_end() -> None:
    assert learned({"text": "2 eggs"}, base(None)) == [f"2 eggs{EOS}"]
    assert learned({"text": f"2 eggs{EOS}"}, base(None)) == [f"2 eggs{EOS}"]


def test_of_strings_the_completion_is_learned_and_its_end() -> None:
    assert learned({"prompt": "2 eggs:", "completion": " egg"}, base(None)) == [f" egg{EOS}"]


def test_a_token_across_the_border_is_learned() -> None:
    # "the answer" has one token of a space and letters.
    assert learned({"prompt": "the ", "completion": "answer"}, base(None)) == [f" answer{EOS}"]


def test_of_messages_in_a_completion_the_assistants_are_learned() -> None:
    row = {"prompt": [ASKED], "completion": [ANSWERED, ASKED, ANSWERED | {"content": "eggs"}]}
    assert learned(row, base(CHATML)) == ["egg<|im_end|>\n", "eggs<|im_end|>\n"]
