"""Rows: how their format is recognised, what each fault is called, and what TRL gets to see."""

import json
from collections.abc import Iterable
from typing import Any

import pytest
from finetune_trainer.contract.config import DatasetConfig, Format, Source
from finetune_trainer.contract.outcome import Outcome, StageError
from finetune_trainer.data import examples
from finetune_trainer.data.examples import Example, Shape
from finetune_trainer.data.line import Line
from finetune_trainer.data.tokens import Row
from gathered import gathered
from hypothesis import given
from hypothesis import strategies as st
from letters import Letters, Strict

URI = "s3://bucket/train.jsonl"
ASKED = {"role": "user", "content": "2 eggs"}
ANSWERED = {"role": "assistant", "content": "egg"}
SYSTEM = {"role": "system", "content": "List the ingredients."}
CALL = {"type": "function", "function": {"name": "scale", "arguments": {"grams": 2}}}
TOOL = {"type": "function", "function": {"name": "scale", "parameters": {}}}
TEXT = {"type": "text", "text": "2 eggs"}
IMAGE = {"type": "image_url", "image_url": {"url": "https://example.com/eggs.png"}}
GOOD: dict[Format, Row] = {
    Format.CHAT: {"messages": [ASKED, ANSWERED]},
    Format.PROMPT_COMPLETION: {"prompt": "2 eggs", "completion": "egg"},
    Format.INSTRUCTION: {"instruction": "List", "input": "2 eggs", "output": "egg"},
    Format.TEXT: {"text": "2 eggs are egg"},
    Format.SHAREGPT: {"conversations": [{"from": "human", "value": "2 eggs"}, {"from": "gpt", "value": "egg"}]},
    Format.PREFERENCE: {"prompt": "2 eggs", "chosen": "egg", "rejected": "two"},
    Format.OPENAI_PREFERENCE: {
        "input": {"messages": [ASKED]},
        "preferred_output": [ANSWERED],
        "non_preferred_output": [ANSWERED | {"content": "two"}],
    },
    Format.UNPAIRED_PREFERENCE: {"prompt": "2 eggs", "completion": "egg", "label": True},
}


def config(**fields: Any) -> DatasetConfig:
    return DatasetConfig(train=Source(uri=URI), **fields)


def shape(format: Format, chat: bool = True, **fields: Any) -> Shape:
    return examples.shape_of(config(**fields), format, chat)


def check(rows: Iterable[Any], format: Format, chat: bool = True, **fields: Any) -> list[Example]:
    lines = (Line(f"train.jsonl:{number}", row) for number, row in enumerate(rows, 1))
    return gathered(lines, shape(format, chat, **fields), URI)[0]


def fault(row: Any, format: Format, chat: bool = True, **fields: Any) -> str:
    """What is said about a dataset whose second row is wrong, without the line that counts the faults."""
    with pytest.raises(StageError) as error:
        check([GOOD[format], row], format, chat, **fields)
    assert error.value.outcome == Outcome.DATA_INVALID
    header, *faults = error.value.message.splitlines()
    assert header == f"{URI} has {len(faults)} fault{'s' if len(faults) > 1 else ''}:"
    return "\n".join(faults)


def chat(*messages: Any, **more: Any) -> Row:
    return {"messages": list(messages), **more}


@pytest.mark.parametrize("format", GOOD)
def test_each_format_is_recognised_by_its_columns(format: Format) -> None:
    # A label beside a completion is only a column more, but for a method that learns from labels.
    likely = [format] if format == Format.UNPAIRED_PREFERENCE else []
    assert examples.recognise(config(), GOOD[format] | {"id": 1}, likely) == format


def test_a_format_is_recognised_through_the_users_names() -> None:
    columns = {"prompt": "question", "completion": "answer"}
    assert examples.recognise(config(columns=columns), {"question": "a", "answer": "b"}) == Format.PROMPT_COMPLETION


def test_a_column_that_is_read_under_another_name_is_not_read_twice() -> None:
    told = shape(Format.INSTRUCTION, columns={"instruction": "input"})
    assert examples.rename({"input": "2 eggs", "output": "egg"}, told) == {"instruction": "2 eggs", "output": "egg"}


def test_the_manifests_format_wins() -> None:
    assert examples.recognise(config(format=Format.TEXT), {"text": "a", "messages": []}) == Format.TEXT


def test_of_several_formats_that_the_columns_make_the_methods_own_wins() -> None:
    row = GOOD[Format.CHAT] | GOOD[Format.PREFERENCE]
    assert examples.recognise(config(), row, [Format.CHAT]) == Format.CHAT
    assert examples.recognise(config(), row, [Format.PREFERENCE]) == Format.PREFERENCE


def test_columns_of_no_format_are_listed_with_those_that_would_do() -> None:
    with pytest.raises(StageError) as error:
        examples.recognise(config(), {"dialogue": [], "id": 1})
    assert error.value.outcome == Outcome.DATA_INVALID
    assert error.value.message == (
        f"The format of {URI} can't be told from its columns (dialogue, id). Name them in dataset.columns so that "
        "they make one of these: chat: messages; prompt-completion: prompt, completion; instruction: instruction, "
        "output; text: text; sharegpt: conversations; preference: chosen, rejected; openai-preference: input, "
        "preferred_output, non_preferred_output; unpaired-preference: prompt, completion, label."
    )


@pytest.mark.parametrize(
    ("format", "chat", "fields", "sentence"),
    [
        (
            Format.TEXT,
            True,
            {"columns": {"prompt": "q"}},
            "dataset.columns names prompt, which format text does not have; it has text.",
        ),
        (
            Format.TEXT,
            True,
            {"system_prompt": "Be brief."},
            "dataset.systemPrompt can't be used: rows of format text have no messages. Remove it.",
        ),
        (
            Format.PROMPT_COMPLETION,
            False,
            {"system_prompt": "Be brief."},
            "dataset.systemPrompt can't be used: the model has no chat template. Remove it.",
        ),
        (
            Format.CHAT,
            False,
            {},
            f"{URI} holds chats, and the model's tokenizer has no chat template: choose an instruction-tuned model, or "
            "write the rows as strings, prompt and completion (or prompt, chosen and rejected).",
        ),
    ],
)
def test_what_does_not_go_together_is_told_before_any_row(
    format: Format, chat: bool, fields: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(StageError) as error:
        shape(format, chat, **fields)
    assert (error.value.outcome, error.value.message) == (Outcome.CONFIG_INVALID, sentence)


LONG = "x" * 500
CHAT_FAULTS: list[tuple[Row, str]] = [
    ({}, "has no messages"),
    ({"messages": "hello"}, "messages is a string, where a list of messages is expected"),
    ({"messages": []}, "messages is empty"),
    (chat("hello", ANSWERED), "message 1 is a string, where an object with role and content is expected"),
    (
        chat(ASKED, ANSWERED | {"role": "asistant"}, ANSWERED),
        'message 2 has the role "asistant"; allowed are system, user, assistant, tool, developer',
    ),
    (chat(ASKED | {"role": LONG}, ANSWERED), f'message 1 has the role "{"x" * 59}…; allowed are system, user, '),
    (chat(ASKED | {"role": ["user"]}, ANSWERED), 'message 1 has the role ["user"]; allowed are'),
    (chat({"content": "a"}, ANSWERED), "message 1 has no role; allowed are system, user, assistant, tool, developer"),
    (
        chat({"from": "human", "value": "a"}, ANSWERED),
        "message 1 has no role (ShareGPT's from and value are read with ",
    ),
    (chat(ASKED, {"role": "assistant"}), "message 2 has no content"),
    (chat(ASKED, ANSWERED | {"content": ["egg"]}), "message 2 content is a list, where a string is expected"),
    (
        chat(ASKED | {"content": [TEXT, IMAGE]}, ANSWERED),
        'message 1 content\'s part 2 is of type "image_url", and only text can be learned: remove the part, or the row',
    ),
    (chat(ASKED | {"content": [{"type": "text"}]}, ANSWERED), "message 1 content's part 1 has no text"),
    (chat(ASKED | {"content": []}, ANSWERED), "message 1 content is a list, where a string is expected"),
    (chat(ASKED, ANSWERED | {"content": " \n"}), "message 2 content is empty"),
    (chat(ASKED, ANSWERED | {"weight": 2}), "message 2 has the weight 2; allowed are 0, which is not learned, and 1"),
    (chat(ASKED, ANSWERED | {"weight": True}), "message 2 has the weight true; allowed are 0, which is not learned, "),
    (
        chat(ASKED | {"weight": 0}, ANSWERED),
        "message 1 has a weight, which only messages of the assistant have: remove it",
    ),
    (chat(ASKED, ANSWERED | {"function_call": {}}), "message 2 has the key function_call, which is not supported: "),
    (chat(ASKED, ANSWERED | {"tool_calls": {}}), "message 2 has tool_calls that are no list of objects"),
    (chat(ASKED, ANSWERED | {"tool_calls": [{}]}), "message 2 has tool_calls of which number 1 names no function"),
    (
        chat(ASKED, ANSWERED | {"tool_calls": [CALL, {"function": {"name": "fry", "arguments": "{egg}"}}]}),
        "message 2 calls fry with arguments that are no JSON object",
    ),
    (
        chat(ASKED, ANSWERED | {"tool_calls": [{"function": {"name": "fry", "arguments": [2]}}]}),
        "message 2 calls fry with arguments that are no JSON object",
    ),
    (chat(ANSWERED, ASKED, ANSWERED), "message 1 answers nothing: put what is asked before it, or give it the weight "),
    (chat(SYSTEM, ASKED), "has no message of the assistant, so there is nothing to learn"),
    (chat(ANSWERED, ASKED), "does not end with a message of the assistant"),
    (chat(ASKED, ANSWERED, tools="scale"), "tools is no list of tools' JSON schemas"),
    (chat(ASKED, ANSWERED, tools=["scale"]), "tools is no list of tools' JSON schemas"),
    (chat(ASKED, ANSWERED | {"content": "half \ud83d"}), "has half of a surrogate pair, which is no character"),
    (chat(ASKED, ANSWERED | {"score": float("nan")}), "has a value that JSON can't hold: "),
]


@pytest.mark.parametrize(("row", "problem"), CHAT_FAULTS)
def test_a_bad_chat_is_named_with_its_line_its_message_and_its_fault(row: Row, problem: str) -> None:
    assert fault(row, Format.CHAT).startswith(f"train.jsonl:2: {problem}")


@pytest.mark.parametrize(
    ("format", "row", "problem"),
    [
        (Format.TEXT, {"text": None}, "has no text"),
        (Format.TEXT, {"text": 3}, "text is a number, where a string is expected"),
        (Format.TEXT, {"text": ""}, "text is empty"),
        (Format.PROMPT_COMPLETION, {"prompt": "a"}, "has no completion"),
        (Format.PROMPT_COMPLETION, {"prompt": "a", "completion": " "}, "completion is empty"),
        (Format.PROMPT_COMPLETION, {"prompt": True, "completion": "a"}, "prompt is a boolean, where a string is "),
        (
            Format.PROMPT_COMPLETION,
            {"prompt": [ASKED], "completion": "egg"},
            "prompt is a list and completion is a string: both are strings, or both messages",
        ),
        (
            Format.PROMPT_COMPLETION,
            {"prompt": [ASKED], "completion": [ASKED]},
            "completion does not end with a message of the assistant",
        ),
        (
            Format.PROMPT_COMPLETION,
            {"prompt": [{"role": "usr", "content": "a"}], "completion": [ANSWERED]},
            'prompt\'s message 1 has the role "usr"; allowed are',
        ),
        (Format.INSTRUCTION, {"instruction": "a"}, "has no output"),
        (Format.INSTRUCTION, {"instruction": "a", "output": "b", "input": 3}, "input is a number, where a string is "),
    ],
)
def test_a_bad_row_of_another_format_is_named_likewise(format: Format, row: Row, problem: str) -> None:
    assert fault(row, format).startswith(f"train.jsonl:2: {problem}")


def test_every_fault_of_a_row_is_told() -> None:
    row = chat({"role": "usr", "content": ""}, ANSWERED | {"content": None})
    assert fault(row, Format.CHAT).splitlines() == [
        'train.jsonl:2: message 1 has the role "usr"; allowed are system, user, assistant, tool, developer',
        "train.jsonl:2: message 1 content is empty",
        "train.jsonl:2: message 2 has no content",
    ]


def test_faults_speak_of_the_users_columns() -> None:
    with pytest.raises(StageError) as error:
        check([{"question": "a"}], Format.PROMPT_COMPLETION, columns={"prompt": "question", "completion": "answer"})
    assert error.value.message == f"{URI} has 1 fault:\ntrain.jsonl:1: has no answer"


def test_messages_need_a_model_that_can_take_them() -> None:
    row = {"prompt": [ASKED], "completion": [ANSWERED]}
    assert "is a list of messages, and the model's tokenizer has no chat template" in fault(
        row, Format.PROMPT_COMPLETION, chat=False
    )


def test_what_the_chat_template_refuses_is_the_rows_fault() -> None:
    with pytest.raises(StageError) as error:
        gathered([Line("train.jsonl:1", GOOD[Format.CHAT])], shape(Format.CHAT), URI, Strict())
    assert "train.jsonl:1: the model's chat template refuses it: roles must alternate" in error.value.message


def test_the_first_twenty_faults_are_told_and_how_many_more() -> None:
    with pytest.raises(StageError) as error:
        check([GOOD[Format.TEXT]] + [{"text": ""}] * 25, Format.TEXT)
    header, *faults, more = error.value.message.splitlines()
    assert header == f"{URI} has 25 faults:"
    assert faults == [f"train.jsonl:{line}: text is empty" for line in range(2, 22)]
    assert more == "and 5 more."


def test_a_dataset_without_rows_is_refused() -> None:
    with pytest.raises(StageError) as error:
        check([], Format.TEXT)
    assert (error.value.outcome, error.value.message) == (Outcome.DATA_INVALID, f"{URI} has no rows.")


@pytest.mark.parametrize(
    ("format", "chat", "row", "expected"),
    [
        (Format.TEXT, True, {"text": "a", "id": 1}, {"text": "a"}),
        (
            Format.PROMPT_COMPLETION,
            True,
            {"prompt": "2 eggs", "completion": "egg", "id": 1},
            {"prompt": [ASKED], "completion": [ANSWERED]},
        ),
        (Format.PROMPT_COMPLETION, True, {"prompt": [SYSTEM, ASKED], "completion": [ANSWERED]}, None),
        (Format.PROMPT_COMPLETION, False, {"prompt": "2 eggs", "completion": "egg"}, None),
        (
            Format.INSTRUCTION,
            False,
            {"instruction": "List", "input": "2 eggs", "output": "egg"},
            {"prompt": "List\n\n2 eggs", "completion": "egg"},
        ),
        (
            Format.INSTRUCTION,
            False,
            {"instruction": "List", "input": "", "output": "egg"},
            {"prompt": "List", "completion": "egg"},
        ),
        (
            Format.CHAT,
            True,
            chat(ASKED | {"tool_calls": None}, ANSWERED, tools=None, id=1),
            chat(ASKED, ANSWERED),
        ),
        (
            Format.CHAT,
            True,
            chat(ASKED, {"role": "assistant", "content": "", "tool_calls": [CALL]}, ANSWERED, tools=[TOOL]),
            chat(
                ASKED,
                {"role": "assistant", "content": "", "tool_calls": [CALL]},
                ANSWERED,
                tools=json.dumps([TOOL]),
            ),
        ),
    ],
)
def test_rows_become_trls_columns(format: Format, chat: bool, row: Row, expected: Row | None) -> None:
    assert json.loads(check([row], format, chat)[0].line) == (expected or row)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (GOOD[Format.SHAREGPT], chat(ASKED, ANSWERED)),
        (GOOD[Format.SHAREGPT] | {"system": "List the ingredients."}, chat(SYSTEM, ASKED, ANSWERED)),
        (
            GOOD[Format.SHAREGPT] | {"system": "", "tools": json.dumps([TOOL])},
            chat(ASKED, ANSWERED, tools=json.dumps([TOOL])),
        ),
        ({"conversations": [ASKED, ANSWERED]}, chat(ASKED, ANSWERED)),
        (
            {"conversations": [{"from": "observation", "value": "2 eggs"}, {"from": "assistant", "value": "egg"}]},
            chat({"role": "tool", "content": "2 eggs"}, ANSWERED),
        ),
    ],
)
def test_sharegpts_turns_become_messages(row: Row, expected: Row) -> None:
    assert json.loads(check([row], Format.SHAREGPT)[0].line) == expected


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"conversations": "hello"}, "conversations is a string, where a list of messages is expected"),
        ({"conversations": []}, "conversations is empty"),
        ({"conversations": [{"from": "moderator", "value": "a"}]}, 'message 1 has the role "moderator"; allowed are'),
        ({"conversations": [{"from": ["human"], "value": "a"}]}, 'message 1 has the role ["human"]; allowed are'),
        ({"conversations": [{"from": "human"}, {"from": "gpt", "value": "a"}]}, "message 1 has no content"),
        ({"conversations": [{"from": "human", "value": "a"}]}, "has no message of the assistant"),
    ],
)
def test_a_bad_turn_of_sharegpt_is_named_likewise(row: Row, problem: str) -> None:
    assert fault(row, Format.SHAREGPT).startswith(f"train.jsonl:2: {problem}")


def test_a_list_of_texts_is_one_text() -> None:
    parts = [TEXT, {"type": "text", "text": "1 onion", "image_url": None}]
    row = json.loads(check([chat(ASKED | {"content": parts}, ANSWERED)], Format.CHAT)[0].line)
    assert row == chat(ASKED | {"content": "2 eggs\n1 onion"}, ANSWERED)


@pytest.mark.parametrize(("known", "role"), [(True, "developer"), (False, "system")])
def test_a_developer_is_the_system_where_the_template_knows_none(known: bool, role: str) -> None:
    told = examples.shape_of(config(system_prompt="Be brief."), Format.CHAT, True, developer=known)
    row = chat(SYSTEM | {"role": "developer"}, ASKED, ANSWERED)
    found, _ = gathered([Line("train.jsonl:1", row)], told, URI)
    assert json.loads(found[0].line) == chat(SYSTEM | {"role": role}, ASKED, ANSWERED)


@pytest.mark.parametrize("format", [Format.CHAT, Format.PROMPT_COMPLETION, Format.INSTRUCTION])
def test_the_system_prompt_begins_every_row(format: Format) -> None:
    row = json.loads(check([GOOD[format]], format, system_prompt=SYSTEM["content"])[0].line)
    assert (row.get("messages") or row["prompt"])[0] == SYSTEM


def test_a_rows_own_system_message_stays_the_only_one() -> None:
    row = json.loads(check([chat(SYSTEM, ASKED, ANSWERED)], Format.CHAT, system_prompt="Be brief.")[0].line)
    assert row == chat(SYSTEM, ASKED, ANSWERED)


def test_columns_without_a_use_are_told_of() -> None:
    wanted = shape(Format.PROMPT_COMPLETION, columns={"prompt": "question"})
    assert examples.unused({"question": "a", "completion": "b", "source": "c", "id": 1}, wanted) == ["id", "source"]


def test_weights_are_no_matter_of_what_is_asked() -> None:
    row = chat(ASKED, ANSWERED | {"weight": 0}, ASKED, ANSWERED | {"weight": 1})
    assert json.loads(check([row], Format.CHAT)[0].line) == chat(ASKED, ANSWERED, ASKED, ANSWERED)


words = st.text(st.characters(codec="utf-8"), min_size=1).filter(lambda text: text.strip())
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
messages = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "role": st.sampled_from(["user", "assistant", "developer"]) | anything,
            "content": anything,
            "from": st.sampled_from(["human", "gpt"]) | anything,
            "value": anything,
        },
    )
    | anything,
    max_size=4,
)
rows = st.dictionaries(
    st.sampled_from(
        [
            "messages",
            "conversations",
            "system",
            "tools",
            "prompt",
            "completion",
            "instruction",
            "input",
            "output",
            "text",
        ]
    ),
    messages | anything,
)


@given(row=rows, format=st.sampled_from(list(GOOD)), chat=st.booleans())
def test_whatever_a_row_holds_it_is_taken_or_told(row: Row, format: Format, chat: bool) -> None:
    wanted = shape(format, chat or format in examples.CHATS)
    found, example = examples.check(Line("train.jsonl:1", row), wanted, Letters(), True)
    assert bool(found) != bool(example)
    if example:
        assert isinstance(json.loads(example.line), dict)


@given(prompt=words, completion=words, system=st.none() | words)
def test_every_question_and_answer_arrives_unchanged(prompt: str, completion: str, system: str | None) -> None:
    rows = [{"prompt": prompt, "completion": completion}]
    line = check(rows, Format.PROMPT_COMPLETION, system_prompt=system)[0].line
    assert line.count(b"\n") == 1
    stored = json.loads(line)
    assert stored["completion"] == [{"role": "assistant", "content": completion}]
    assert stored["prompt"][-1] == {"role": "user", "content": prompt}
    assert [message["content"] for message in stored["prompt"][:-1]] == ([system] if system else [])
