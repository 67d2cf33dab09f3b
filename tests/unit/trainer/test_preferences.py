"""Rows of preference: their forms become one, both answers become tokens, and each fault has its sentence."""

import json
from typing import Any

import pytest
from finetune_trainer.contract.config import Format, Method
from finetune_trainer.contract.outcome import Outcome, StageError
from finetune_trainer.data import spool
from finetune_trainer.data.examples import Example
from finetune_trainer.data.line import Line
from finetune_trainer.data.tokens import Row
from finetune_trainer.data.trained import Trained
from finetune_trainer.evaluation import contenders
from finetune_trainer.training import methods
from gathered import gathered
from test_examples import ANSWERED, ASKED, SYSTEM, TEXT, TOOL, check, shape

WORSE = {"role": "assistant", "content": "an egg or so"}
PAIR = {"prompt": [ASKED], "chosen": [ANSWERED], "rejected": [WORSE]}
TEXTS = {"prompt": "2 eggs:", "chosen": " egg", "rejected": " an egg or so"}
OPENAI = {"input": {"messages": [ASKED]}, "preferred_output": [ANSWERED], "non_preferred_output": [WORSE]}


def line(row: Row, format: Format = Format.PREFERENCE, chat: bool = True, **fields: Any) -> Any:
    return json.loads(check([row], format, chat, **fields)[0].line)


@pytest.mark.parametrize(
    "row",
    [
        PAIR,
        {"prompt": "2 eggs", "chosen": "egg", "rejected": "an egg or so"},
        {"chosen": [ASKED, ANSWERED], "rejected": [ASKED, WORSE]},
        # As HuggingFaceH4's ultrafeedback has it: the prompt is also the conversations' first message.
        {"prompt": "2 eggs", "chosen": [ASKED, ANSWERED], "rejected": [ASKED, WORSE]},
        PAIR | {"prompt": [ASKED | {"content": [TEXT]}], "score_chosen": 9},
    ],
)
def test_trls_forms_become_one(row: Row) -> None:
    assert line(row) == PAIR


def test_openais_form_becomes_the_same() -> None:
    assert line(OPENAI, Format.OPENAI_PREFERENCE) == PAIR
    row = OPENAI | {"input": {"messages": [ASKED], "tools": [TOOL], "parallel_tool_calls": True}}
    assert line(row, Format.OPENAI_PREFERENCE) == PAIR | {"tools": json.dumps([TOOL])}


def test_a_system_prompt_goes_before_what_is_asked() -> None:
    assert line(PAIR, system_prompt=SYSTEM["content"])["prompt"] == [SYSTEM, ASKED]


@pytest.mark.parametrize(
    ("chosen", "rejected", "expected"),
    [
        ("The sky is blue", "The sky is black", ("The sky is", " blue", " black")),
        ("Human: eggs\n\nAssistant: yes", "Human: eggs\n\nAssistant: no", ("Human: eggs\n\nAssistant:", " yes", " no")),
        ("It is\nso", "It is\nnot", ("It is\n", "so", "not")),
        # One answer goes on where the other ends: something is left of each.
        ("Eggs are good", "Eggs are good here", ("Eggs are", " good", " good here")),
    ],
)
def test_of_whole_texts_the_words_in_common_are_the_prompt(
    chosen: str, rejected: str, expected: tuple[str, str, str]
) -> None:
    found = line({"chosen": chosen, "rejected": rejected}, chat=False)
    assert (found["prompt"], found["chosen"], found["rejected"]) == expected


def test_of_whole_texts_a_chat_has_no_space_before_the_answer() -> None:
    found = line({"chosen": "2 eggs egg", "rejected": "2 eggs an egg or so"})
    assert found == PAIR


def learned(row: Example) -> tuple[str, str]:
    """Each answer as it is trained: its text, and in brackets what of it is learned."""
    texts = []
    for tokens in row.sequences:
        text = "".join(map(chr, tokens.ids))
        ((start, end),) = tokens.learned
        texts.append(f"{text[:start]}[{text[start:end]}]{text[end:]}")
    return texts[0], texts[1]


def test_both_answers_become_tokens_behind_the_prompt() -> None:
    asked = "<user>2 eggs<assistant>"
    assert learned(check([PAIR], Format.PREFERENCE)[0]) == (f"{asked}[egg]", f"{asked}[an egg or so]")
    assert learned(check([TEXTS], Format.PREFERENCE, chat=False)[0]) == ("2 eggs:[ egg$]", "2 eggs:[ an egg or so$]")


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"prompt": "a", "chosen": "b"}, "has no rejected"),
        ({"prompt": "a"}, "has no chosen\ntrain.jsonl:2: has no rejected"),
        (
            PAIR | {"rejected": "egg"},
            "prompt is a list, chosen is a list and rejected is a string: all are strings, or all are lists of mess",
        ),
        (TEXTS | {"rejected": " "}, "rejected is empty"),
        (TEXTS | {"prompt": 3}, "prompt is a number, where a string is expected"),
        (PAIR | {"chosen": [ASKED]}, "chosen does not end with a message of the assistant"),
        (PAIR | {"rejected": []}, "rejected is empty"),
        (
            PAIR | {"rejected": [WORSE | {"role": "asistant"}]},
            'rejected\'s message 1 has the role "asistant"; allowed are system, user, assistant, tool, developer\n'
            "train.jsonl:2: rejected does not end with a message of the assistant",
        ),
        (PAIR | {"tools": "scale"}, "tools is no list of tools' JSON schemas"),
        (
            {"chosen": "Yes", "rejected": "No"},
            "chosen and rejected begin with nothing in common that is asked, and there is no prompt: add a column "
            "prompt",
        ),
        (
            {"chosen": [ASKED, ANSWERED], "rejected": [ASKED | {"content": "3 eggs"}, ANSWERED]},
            "chosen and rejected begin with nothing in common that is asked, and there is no prompt: add a column "
            "prompt",
        ),
        (PAIR | {"chosen": [ANSWERED | {"weight": 2}]}, "chosen's message 1 has the weight 2"),
    ],
)
def test_each_fault_of_a_pair_has_its_sentence(row: Row, said: str) -> None:
    with pytest.raises(StageError) as error:
        check([PAIR, row], Format.PREFERENCE)
    assert error.value.outcome == Outcome.DATA_INVALID
    assert f"\ntrain.jsonl:2: {said}" in error.value.message


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (OPENAI | {"input": None}, "has no input.messages"),
        (OPENAI | {"input": "2 eggs"}, "input.messages is a string, where a list of messages is expected"),
        (OPENAI | {"preferred_output": None}, "has no preferred_output"),
        (OPENAI | {"non_preferred_output": [ASKED]}, "non_preferred_output does not end with a message of the assist"),
    ],
)
def test_faults_of_openais_form_speak_of_its_columns(row: Row, said: str) -> None:
    with pytest.raises(StageError) as error:
        check([OPENAI, row], Format.OPENAI_PREFERENCE)
    assert f"\ntrain.jsonl:2: {said}" in error.value.message


def test_faults_speak_of_the_users_columns() -> None:
    columns = {"chosen": "better", "rejected": "worse"}
    with pytest.raises(StageError) as error:
        check([{"prompt": "a", "better": "b"}], Format.PREFERENCE, columns=columns)
    assert error.value.message.endswith("train.jsonl:1: has no worse")


def test_messages_need_a_model_that_can_take_them() -> None:
    with pytest.raises(StageError) as error:
        check([TEXTS, PAIR], Format.PREFERENCE, chat=False)
    assert "chosen is a list of messages, and the model's tokenizer has no chat template" in error.value.message


def test_the_same_pair_twice_is_told_and_the_other_way_round_contradicts_it() -> None:
    swapped = {"prompt": PAIR["prompt"], "chosen": PAIR["rejected"], "rejected": PAIR["chosen"]}
    another = PAIR | {"rejected": [WORSE | {"content": "two eggs"}]}
    lines = [Line(f"train.jsonl:{number}", row) for number, row in enumerate([PAIR, PAIR, swapped, another], 1)]
    said = [finding.sentence for finding in gathered(lines, shape(Format.PREFERENCE))[1]]
    assert said == [
        "1 row of train.jsonl repeats an earlier one (train.jsonl:2).",
        "1 row of train.jsonl asks what an earlier one asks and is answered otherwise (train.jsonl:3).",
    ]


def test_pairs_without_a_difference_within_the_length_are_left_out_and_counted() -> None:
    same = {"prompt": "a:", "chosen": " long and good", "rejected": " long and bad"}
    (row,) = check([same], Format.PREFERENCE, chat=False)
    batch, found = spool.pack([row]), Trained()
    assert not len(found.fit(batch, len("a: long and ")))
    assert (found.alike.count, found.left_out, found.rows) == (1, 1, 0)
    assert len(found.fit(batch, len("a: long and g"))) == 1
    assert (found.cut.count, found.tokens) == (1, 2 * len("a: long and g"))
    assert not len(found.fit(batch, len("a:")))
    assert found.teaching_nothing.count == 1


def test_what_is_preferred_is_what_is_right() -> None:
    assert contenders.read(json.dumps(PAIR)).reference == "egg"
    assert contenders.read(json.dumps(TEXTS)).reference == " egg"


@pytest.mark.parametrize(
    ("method", "format", "said"),
    [
        (
            Method.SFT,
            Format.PREFERENCE,
            "s3://b/rows.jsonl has rows of format preference, and training.method sft learns from others (chat, "
            "prompt-completion, instruction, text, sharegpt): set training.method to dpo or reward, or give it such "
            "rows.",
        ),
        (
            Method.DPO,
            Format.CHAT,
            "s3://b/rows.jsonl has rows of format chat, and training.method dpo learns from others (preference, "
            "openai-preference): set training.method to sft, or give it such rows.",
        ),
    ],
)
def test_rows_that_a_method_does_not_learn_from_are_refused(method: Method, format: Format, said: str) -> None:
    with pytest.raises(StageError) as error:
        methods.check(method, format, "s3://b/rows.jsonl")
    assert (error.value.outcome, error.value.message) == (Outcome.CONFIG_INVALID, said)


def test_every_method_has_a_recipe_and_every_format_a_method() -> None:
    assert set(methods.RECIPES) == set(Method)
    learned = {format for recipe in methods.RECIPES.values() for format in recipe.formats}
    assert learned == set(Format) - {Format.AUTO}
