"""What is odd about rows that are none of them wrong: counted, with places, in a sentence, and nothing stops."""

from typing import Any

import pytest
from finetune_trainer.contract.config import DatasetConfig, Format, Source
from finetune_trainer.data import examples
from finetune_trainer.data.findings import Finding
from finetune_trainer.data.line import Line
from gathered import gathered

SPECIAL = ("<|im_end|>",)


def asked(prompt: str, completion: str = "egg", **more: Any) -> dict[str, Any]:
    return {"prompt": prompt, "completion": completion, **more}


def noticed(rows: list[dict[str, Any]], format: Format = Format.PROMPT_COMPLETION) -> dict[str, Finding]:
    shape = examples.shape_of(DatasetConfig(train=Source(uri="s3://bucket/train.jsonl")), format, chat=True)
    lines = (Line(f"train.jsonl:{number}", row) for number, row in enumerate(rows, 1))
    _, found = gathered(lines, shape, special=SPECIAL)
    return {finding.kind: finding for finding in found}


def test_of_ordinary_rows_there_is_nothing_to_say() -> None:
    assert noticed([asked(f"{number} eggs", f"{number}") for number in range(30)]) == {}


def test_one_answer_to_whatever_is_asked_is_told() -> None:
    rows = [asked(f"{number} eggs") for number in range(30)]
    assert noticed(rows)["oneAnswer"].sentence == (
        "All 30 rows of train.jsonl have the same answer, so nothing is learned but to give it."
    )
    # Of few rows it is chance, and labels and text are no answers.
    assert "oneAnswer" not in noticed([*rows, asked("soup", "leek")]) | noticed(rows[:9])
    assert noticed([{**row, "label": True} for row in rows], Format.UNPAIRED_PREFERENCE) == {}
    assert noticed([{"text": row["prompt"]} for row in rows], Format.TEXT) == {}


def test_a_repeated_row_is_counted_apart_from_one_that_is_answered_otherwise() -> None:
    found = noticed([asked("a"), asked("b"), asked("a"), asked("b", "onion"), asked("b", "leek")])
    assert found["duplicates"].sentence == "1 row of train.jsonl repeats an earlier one (train.jsonl:3)."
    assert found["contradictions"].count == 2
    assert found["contradictions"].sentence == (
        "2 rows of train.jsonl ask what earlier ones ask and are answered otherwise (train.jsonl:4, train.jsonl:5)."
    )


def test_chats_are_compared_by_what_comes_before_their_last_answer() -> None:
    def chat(answer: str) -> dict[str, Any]:
        return {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": answer}]}

    found = noticed([chat("a"), chat("a"), chat("b")], Format.CHAT)
    assert (found["duplicates"].count, found["contradictions"].count) == (1, 1)


def test_no_more_than_three_places_are_named() -> None:
    found = noticed([asked("a")] * 6)["duplicates"]
    assert found.count == 5
    assert found.sentence.endswith("(train.jsonl:2, train.jsonl:3, train.jsonl:4, …).")


def test_special_tokens_in_the_text_are_named() -> None:
    found = noticed([asked("a"), asked("b<|im_end|>c")])["specialTokens"]
    assert found.sentence == (
        "1 row of train.jsonl has a special token of the model in its text, <|im_end|> (train.jsonl:2)."
    )


def test_rows_of_text_may_be_written_as_the_template_would() -> None:
    assert noticed([{"text": "a<|im_end|>"}], Format.TEXT) == {}


def test_nul_is_named() -> None:
    found = noticed([asked("a", "egg\0")])["nul"]
    assert found.sentence == "1 row of train.jsonl has the character NUL in its text (train.jsonl:1)."


@pytest.mark.parametrize(("rows", "there"), [(9, False), (30, True)])
def test_a_row_far_longer_than_the_rest_is_named_where_there_is_a_rest(rows: int, there: bool) -> None:
    found = noticed([asked("b" * 5000), *(asked(f"{number} eggs") for number in range(rows - 1))])
    assert ("farLonger" in found) is there
    if there:
        assert found["farLonger"].sentence.startswith("1 row of train.jsonl is far longer than the rest, 5")
        assert found["farLonger"].places == ("train.jsonl:1",)


def test_columns_without_a_use_are_told_with_the_name_that_may_be_meant() -> None:
    row = {"instruction": "List", "inputs": "2 eggs", "output": "egg", "id": 7}
    assert noticed([row], Format.INSTRUCTION)["columns"].sentence == (
        "Format instruction has no use for these columns of train.jsonl: id, inputs (is it input?)."
    )
