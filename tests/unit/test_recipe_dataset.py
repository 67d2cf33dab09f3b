"""The recipe assistant's dataset is what its README says: reproducible, held out by dish, answered by one rule."""

import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "recipe-assistant"
SPLITS = ("train", "test")


def entries(name: str) -> list[str]:
    lines = (EXAMPLE / name).read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and line[0] not in "#["]


def conversations(split: str) -> list[list[dict[str, str]]]:
    lines = (EXAMPLE / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["messages"] for line in lines]


def dish_of(user: str) -> str:
    heading = user.splitlines()[0]
    return max((title for title in DISHES if title in heading), key=len)


def answers(split: str) -> list[list[str]]:
    return [messages[2]["content"].split(", ") for messages in conversations(split)]


DISHES = [line.split(": ")[0] for line in entries("dishes.txt")]
# Every form that a text may use → the generic name that the answer uses.
FORMS = {
    form.lower(): line.split(":")[0].split("/")[0].lower()
    for line in entries("ingredients.txt")
    for form in line.split(":")[0].split("/")
}
ANY_FORM = re.compile("|".join(rf"\b{re.escape(form)}\b" for form in sorted(FORMS, key=len, reverse=True)), re.I)


def names_in(text: str) -> list[str]:
    """The README's rule: the vocabulary's names, singular, lower case, in order; the longest where several fit."""
    return [FORMS[found.lower()] for found in ANY_FORM.findall(text)]


def test_the_generator_writes_the_committed_bytes(tmp_path: Path) -> None:
    subprocess.run([sys.executable, EXAMPLE / "make_dataset.py", tmp_path], check=True)
    for split in SPLITS:
        assert (tmp_path / f"{split}.jsonl").read_bytes() == (EXAMPLE / f"{split}.jsonl").read_bytes()


def test_a_word_that_is_dropped_before_one_name_is_part_of_no_other() -> None:
    dropped = {
        word for line in entries("ingredients.txt") for word in re.split(", | ", line.partition(": ")[2]) if word
    }
    assert dropped & {word for form in FORMS for word in form.split()} == set()


@pytest.mark.parametrize("split", SPLITS)
def test_every_row_is_one_question_with_one_answer(split: str) -> None:
    rows = conversations(split)
    assert {tuple(message["role"] for message in messages) for messages in rows} == {("system", "user", "assistant")}
    assert len({messages[0]["content"] for messages in rows}) == 1
    assert all(3 <= len(answer) <= 6 for answer in answers(split))


@pytest.mark.parametrize("split", SPLITS)
def test_the_answer_can_be_read_off_the_ingredient_lines(split: str) -> None:
    for messages in conversations(split):
        user = messages[1]["content"]
        ingredients = user.replace(dish_of(user), "", 1)
        assert ", ".join(names_in(ingredients)) == messages[2]["content"], user


def test_sizes() -> None:
    assert len(answers("train")) >= 300
    assert len(answers("test")) == 40
    assert len({name for answer in answers("train") for name in answer}) >= 150


def test_no_test_dish_is_in_train() -> None:
    trained = "\n".join(messages[1]["content"].splitlines()[0] for messages in conversations("train")).lower()
    held_out = {dish_of(messages[1]["content"]) for messages in conversations("test")}
    assert len(held_out) == 40
    assert [dish for dish in held_out if dish.lower() in trained] == []


def test_test_asks_for_known_ingredients_in_new_combinations() -> None:
    trained = Counter(name for answer in answers("train") for name in answer)
    assert min(trained[name] for answer in answers("test") for name in answer) >= 5
    seen = {frozenset(answer) for answer in answers("train")}
    assert [answer for answer in answers("test") if frozenset(answer) in seen] == []


def test_no_two_rows_say_the_same() -> None:
    users = [messages[1]["content"] for split in SPLITS for messages in conversations(split)]
    assert len({dish_of(user) for user in users}) == len(users)
