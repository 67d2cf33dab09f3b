"""Rows of test that stand in train, and the sample of those that don't."""

from collections import Counter

import pytest
from finetune_trainer.evaluation import leakage, near
from finetune_trainer.evaluation.contenders import Question
from finetune_trainer.evaluation.leakage import Clean
from hypothesis import given, settings
from hypothesis import strategies as st

LONG = "I would like to book a table for two people at seven on Friday evening, please"


def without_leaks(test: list[Question], train: list[Question]) -> Clean:
    return leakage.without_leaks(test, train, size=len(test), seed=0)


def sample(test: list[Question], size: int, seed: int) -> tuple[Question, ...]:
    return leakage.without_leaks(test, [], size, seed).kept


def ask(*texts: str) -> list[Question]:
    return [Question(({"role": "user", "content": text},), "{}") for text in texts]


def test_the_same_question_is_left_out_and_counted() -> None:
    found = without_leaks(ask("A table for two", "hello there"), ask("a  table for TWO"))
    assert [row.asked for row in found.kept] == ["hello there"]
    assert (found.exact, found.near) == (1, 0)


def test_nearly_the_same_question_is_left_out_and_counted_apart() -> None:
    found = without_leaks(ask(LONG.replace("please", "pleas")), ask(LONG))
    assert (found.kept, found.exact, found.near) == ((), 0, 1)


def test_a_question_about_something_else_stays() -> None:
    found = without_leaks(ask(LONG.replace("two people at seven", "six adults at noon")), ask(LONG))
    assert len(found.kept) == 1


def test_one_letter_of_a_short_question_makes_another() -> None:
    assert len(without_leaks(ask("table 4"), ask("table 5")).kept) == 1
    # They share 14 of 15 shingles, which makes a longer one a near duplicate.
    assert len(without_leaks(ask("book a table for 12"), ask("book a table for 1")).kept) == 1
    assert without_leaks(ask("book a big table for 12"), ask("book a big table for 1")).near == 1


@pytest.mark.parametrize("role", ["system", "developer"])
def test_the_answer_and_the_system_message_make_no_difference(role: str) -> None:
    told = Question(({"role": role, "content": "Be brief."}, {"role": "user", "content": LONG}), "yes")
    assert without_leaks([told], ask(LONG)).exact == 1


def test_a_row_in_train_twice_or_in_test_twice_is_counted_by_test() -> None:
    found = without_leaks(ask("hello there", "hello there"), ask("hello there", "Hello there"))
    assert (found.kept, found.exact, found.near) == ((), 2, 0)


def test_prompts_without_a_chat_template_are_compared_alike() -> None:
    found = without_leaks([Question(f"{LONG} ", "yes"), Question("hello there", "yes")], [Question(LONG, "no")])
    assert ([row.prompt for row in found.kept], found.exact) == (["hello there"], 1)


def test_the_same_last_turn_of_another_conversation_is_another_question() -> None:
    def talk(first: str) -> Question:
        return Question(({"role": "user", "content": first}, {"role": "user", "content": "yes please"}), "{}")

    assert len(without_leaks([talk("a table for two?")], [talk("shall I cancel it?")]).kept) == 1


@given(st.permutations(["a table for two", LONG, "hello there, my friend of old", "yes"]))
def test_the_order_of_train_makes_no_difference(order: list[str]) -> None:
    test = ask("hello there, my friend of old!", "yes", "something else entirely, for once")
    assert without_leaks(test, ask(*order)) == without_leaks(test, ask(*sorted(order)))


INSTRUCTION = " ".join(f"Rule {number}: mind case {number * 7919 % 1000}." for number in range(60))


def test_an_instruction_that_all_rows_share_makes_none_alike() -> None:
    messages = [f"We are {number} and come at {number % 7} o'clock" for number in range(40)]
    train, test = (ask(*(f"{INSTRUCTION} {text}" for text in some)) for some in (messages[:30], messages[30:]))
    assert without_leaks(test, train).near == 0
    # A row that train has nearly is found behind the instruction too.
    again = ask(f"{INSTRUCTION} {LONG.replace('please', 'pleas')}")
    assert without_leaks(again, [*train, *ask(f"{INSTRUCTION} {LONG}")]).near == 1


def test_no_more_rows_are_compared_than_will_be_asked() -> None:
    test = ask(*(f"question {row}" for row in range(100)))
    first = leakage.without_leaks(test, [], 5, seed=1).kept
    found = leakage.without_leaks(test, [first[0], *ask("question 999")], 5, seed=1)
    assert (len(found.kept), found.exact) == (5, 1)
    assert all(row in found.kept for row in first if row.asked != first[0].asked)
    # Of the other 94 it is not known.
    assert leakage.without_leaks(test, test, 5, seed=1).exact == 100
    assert leakage.without_leaks(test, [row for row in test if row not in first], 5, seed=1).exact == 0


@pytest.mark.parametrize("size", [0, 3, 50])
def test_a_sample_keeps_the_order_and_its_size(size: int) -> None:
    rows = ask(*(f"question {row}" for row in range(20)))
    chosen = sample(rows, size, seed=1)
    assert len(chosen) == min(size, 20)
    places = [rows.index(row) for row in chosen]
    assert places == sorted(places)


def test_a_row_that_was_not_chosen_can_go_without_changing_the_sample() -> None:
    rows = ask(*(f"question {row}" for row in range(40)))
    chosen = sample(rows, 10, seed=1)
    fewer = [row for row in rows if row in chosen or rows.index(row) % 2]
    assert len(fewer) < len(rows)
    assert sample(fewer, 10, seed=1) == chosen


def test_the_seed_chooses_the_sample_and_more_rows_keep_what_was_chosen() -> None:
    rows = ask(*(f"question {row}" for row in range(40)))
    assert sample(rows, 10, seed=1) == sample(rows, 10, seed=1)
    assert sample(rows, 10, seed=1) != sample(rows, 10, seed=2)
    assert {row.asked for row in sample(rows, 10, seed=1)} <= {row.asked for row in sample(rows, 20, seed=1)}


def shingles(text: str) -> set[str]:
    return {text[start : start + 5] for start in range(len(text) - 4)}


def plainly(texts: set[str], others: list[str]) -> tuple[set[str], set[str]]:
    """What `near.found` finds, by its definition."""
    held = Counter(shingle for other in others for shingle in shingles(other))
    common = {shingle for shingle, rows in held.items() if rows > max(10, len(others) / 2)}

    def own(text: str) -> set[str]:
        return shingles(text) - common

    def alike(ours: set[str], theirs: set[str]) -> bool:
        return bool(ours & theirs) and len(ours & theirs) / len(ours | theirs) >= 0.9

    long = [own(other) for other in others if len(other) >= 20]
    same = texts & set(others)
    asked = {text: own(text) for text in texts - same if len(text) >= 20}
    return same, {text for text, ours in asked.items() if any(alike(ours, each) for each in long)}


@st.composite
def rows_and_train(draw: st.DrawFn) -> tuple[set[str], list[str]]:
    """Rows of test that are rows of train changed here and there, or not; all may share an instruction."""
    chance = draw(st.randoms(use_true_random=False))
    letters = draw(st.sampled_from(["ab", "abcdefgh ", "\u6587\u5b57\U0001f600\n "]))

    def text() -> str:
        return "".join(chance.choices(letters, k=chance.choice([3, 19, 20, 24, 60, 120])))

    def changed(known: str) -> str:
        at = chance.randrange(len(known))
        return known[:at] + chance.choice(["", "x", "xy", letters[0] * 9]) + known[at + chance.randint(0, 2) :]

    shared = draw(st.sampled_from(["", "answer as the menu says: "]))
    train = [shared + text() for _ in range(chance.choice([1, 5, 24]))]
    train += [changed(each) for each in train if chance.random() < 0.3]
    test = [changed(each) for each in train if chance.random() < 0.5]
    test += [each for each in train if chance.random() < 0.1] + [shared + text() for _ in range(5)]
    return set(test), train


@pytest.mark.parametrize("bits", [3, 16])
@settings(max_examples=40)
@given(case=rows_and_train())
def test_what_is_found_is_what_comparing_all_with_all_finds(bits: int, case: tuple[set[str], list[str]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        # With few bits all shingles have a hash with others.
        patch.setattr(near, "BITS", bits)
        patch.setattr(near, "CHARACTERS", 100)
        texts, others = case
        assert near.found(texts, lambda: others, len(others)) == plainly(texts, others)


def test_no_near_duplicates_are_looked_for_where_all_rows_stand_in_train() -> None:
    assert near.found({"a table for two at the window"}, lambda: ["a table for two at the window"], 1)[1] == set()
    assert near.found(set(), lambda: ["a table for two at the window"], 1) == (set(), set())
