"""What each contender is asked: the row alone, or behind examples from train that fit the context."""

import json
from typing import Any

import jinja2
import pytest
from finetune_trainer.contract.outcome import Outcome, StageError
from finetune_trainer.evaluation import contenders
from finetune_trainer.evaluation.contenders import END_TOKENS, Framing, Prompt, Question, Room

SYSTEM = {"role": "system", "content": "List the ingredients."}
DISHES = ["egg soup with leek", "rice with pork", "flour dumplings", "leek pie", "pork roast with rice and egg"]


def question(text: str, reference: str = "", system: bool = True) -> Question:
    user = {"role": "user", "content": text}
    return Question((SYSTEM, user) if system else (user,), reference or text.split()[0])


TRAIN = [question(dish) for dish in DISHES]


def turns(prompt: Prompt) -> list[tuple[str, str]]:
    return [(message["role"], message["content"]) for message in prompt.prompt if isinstance(message, dict)]


def words(prompt: Prompt) -> int:
    return sum(len(content.split()) for _, content in turns(prompt))


def count(text: str) -> int:
    return len(text.split())


def room(prompt: int, most: int = 1 + END_TOKENS) -> Room:
    """Room for so long a prompt, and for an answer of one word."""
    return Room(prompt + 1 + END_TOKENS, most, 1 + END_TOKENS, count)


class TestReading:
    def test_a_chat_is_asked_up_to_its_last_answer(self) -> None:
        chat = [SYSTEM, *({"role": role, "content": text} for role, text in (("user", "pie?"), ("assistant", "flour")))]
        found = contenders.read(json.dumps({"messages": chat}))
        assert found == Question((SYSTEM, chat[1]), "flour")
        assert found.asked == "pie?"

    def test_prompt_and_completion_as_messages_or_text(self) -> None:
        row = {
            "prompt": [{"role": "user", "content": "pie?"}],
            "completion": [{"role": "assistant", "content": "flour"}],
        }
        assert contenders.read(json.dumps(row)).reference == "flour"
        assert contenders.read('{"prompt": "pie?", "completion": " flour"}') == Question("pie?", " flour")

    def test_an_answer_that_calls_a_tool_is_its_call(self) -> None:
        call: dict[str, Any] = {"type": "function", "function": {"name": "book", "arguments": {"people": 2}}}
        chat = [{"role": "user", "content": "a table"}, {"role": "assistant", "tool_calls": [call]}]
        found = contenders.read(json.dumps({"messages": chat, "tools": json.dumps([{"type": "function"}])}))
        assert json.loads(found.reference) == [{"name": "book", "arguments": {"people": 2}}]
        assert found.calls == {"role": "assistant", "content": "", "tool_calls": [call]}
        assert found.tools == ({"type": "function"},)

    def test_plain_text_has_no_answer(self) -> None:
        with pytest.raises(StageError) as error:
            contenders.read('{"text": "once upon a time"}')
        assert error.value.outcome == Outcome.CONFIG_INVALID
        assert error.value.message.startswith("Rows of format text have no answer that could be compared")


class TestExamples:
    def test_they_stand_between_the_system_message_and_the_question(self) -> None:
        prompt = contenders.with_examples(question("apple pie"), TRAIN[:2])
        assert turns(prompt) == [
            ("system", SYSTEM["content"]),
            *(("user", DISHES[0]), ("assistant", "egg")),
            *(("user", DISHES[1]), ("assistant", "rice")),
            ("user", "apple pie"),
        ]

    def test_without_a_chat_template_they_are_text_before_it(self) -> None:
        prompt = contenders.with_examples(Question("pie: ", "flour"), [Question("soup: ", "leek")])
        assert prompt.prompt == "soup: leek\n\npie: "

    @pytest.mark.parametrize(
        ("answers", "stop", "joint"),
        [
            ([" leek", " flour"], "\n", "\n\n"),
            ([" leek\negg", " flour"], "\n\n", "\n\n"),
            ([" leek\n\negg"], "\n\n###\n\n", "\n\n###\n\n"),
        ],
    )
    def test_an_answer_stops_at_what_no_known_answer_has(self, answers: list[str], stop: str, joint: str) -> None:
        framing = contenders.verbatim(iter(answers))
        found = contenders.with_examples(Question("pie:", ""), [Question("soup:", answers[0])], framing)
        assert found.extra == {"stop": [stop]}
        assert found.prompt == f"soup:{answers[0]}{joint}pie:"

    def test_a_baselines_own_prompt_takes_the_place_of_the_rows_system_message(self) -> None:
        framing = Framing(system="Name every food.")
        told = turns(contenders.with_examples(question("apple pie"), TRAIN[:1], framing))
        assert told[0] == ("system", "Name every food.")
        assert [role for role, _ in told] == ["system", "user", "assistant", "user"]
        developer = Question(({"role": "developer", "content": "Be brief."}, *question("pie", system=False).prompt), "")
        assert turns(contenders.with_examples(developer, (), framing)) == [told[0], ("user", "pie")]
        plain = contenders.with_examples(Question("pie: ", "flour"), [Question("soup: ", "leek")], framing)
        assert plain.prompt == "Name every food.\n\nsoup: leek\n\npie: "

    def test_the_least_similar_go_first_when_they_do_not_fit(self) -> None:
        prompt = contenders.fit(question("apple pie"), TRAIN[:3], words, room(11))
        assert prompt is not None
        assert prompt.examples == 1
        assert ("user", DISHES[2]) in turns(prompt)

    def test_a_question_that_fits_only_alone_is_asked_alone(self) -> None:
        prompt = contenders.fit(question("apple pie"), TRAIN[:3], words, room(5))
        assert prompt is not None
        assert prompt.prompt == question("apple pie").prompt

    def test_the_tools_go_with_the_question(self) -> None:
        asked = Question(({"role": "user", "content": "a table"},), "[]", ({"type": "function"},))
        assert contenders.with_examples(asked, TRAIN[:1]).tools == asked.tools

    def test_a_question_that_never_fits_is_not_cut(self) -> None:
        assert contenders.fit(question("apple pie"), TRAIN, words, room(4)) is None


class TestTheTemplatesVariables:
    class Tokenizer:
        chat_template = "there is one"

        def apply_chat_template(self, turns: list[Any], thinking: bool = True, **_: Any) -> str:
            return "<think> " * thinking + " ".join(turn["content"] for turn in turns)

        def __call__(self, text: str, add_special_tokens: bool) -> dict[str, list[str]]:
            return {"input_ids": text.split()}

    def test_a_prompt_is_measured_with_them(self) -> None:
        framing = contenders.template({"thinking": False})
        measure = contenders.measure_with(self.Tokenizer())
        plain, told = (contenders.with_examples(question("pie"), (), each) for each in (contenders.PLAIN, framing))
        assert measure(plain) - measure(told) == 1

    def test_a_template_that_refuses_a_prompt_is_told_of(self) -> None:
        class Gemma(self.Tokenizer):  # type: ignore[name-defined, misc]
            def apply_chat_template(self, turns: list[Any], **_: Any) -> str:
                raise jinja2.TemplateError("System role not supported")

        with pytest.raises(StageError) as error:
            contenders.measure_with(Gemma())(contenders.with_examples(question("pie"), ()))
        assert error.value.outcome == Outcome.CONFIG_INVALID
        assert error.value.message.endswith("refuses the prompt of a contender: System role not supported")


class TestRoom:
    @pytest.mark.parametrize(("longest", "most"), [(8, 256), (170, 256), (200, 300)])
    def test_an_answer_gets_half_more_than_the_longest_known_one_and_never_little(
        self, longest: int, most: int
    ) -> None:
        assert contenders.room(["a b", "a " * longest], count, context=4096).most == most

    def test_of_answers_that_stream_the_longest_count_each_once(self) -> None:
        # In tokens the last one is the longest, in characters the first: they are told apart as long as both are kept.
        answers = ["x" * 900, *("y" * (length + 1) for length in range(300, 340)), "a " * 200]
        for order in (answers * 60, answers[::-1] * 60):
            assert contenders.room(iter(order), count, context=4096).most == 300
        few = [*("y" * (length + 1) for length in range(500, 560)), "a " * 200]
        assert contenders.room(iter(few), count, context=4096).most == 256

    def test_the_manifest_says_it(self) -> None:
        assert contenders.room(["a b", "a " * 200], count, context=4096, most=50).most == 50

    def test_a_short_context_leaves_less(self) -> None:
        found = contenders.fit(question("apple pie"), (), words, room(5, most=100))
        assert found is not None
        assert found.max_tokens == 6 + END_TOKENS - words(found)

    def test_examples_go_before_the_longest_known_answer_is_cut(self) -> None:
        room = contenders.room(["a " * 10], count, context=16 + 10 + END_TOKENS)
        found = contenders.fit(question("apple pie"), TRAIN, words, room)
        assert found is not None
        assert (found.examples, found.max_tokens) == (2, 19)

    def test_one_long_answer_takes_the_examples_from_no_row(self) -> None:
        room = contenders.room(["leek", "a " * 500], count, context=60)
        found = contenders.fit(question("apple pie"), TRAIN, words, room)
        assert found is not None
        assert found.examples == len(TRAIN)
        assert contenders.fit(question("apple pie", "a " * 60), TRAIN, words, room) is None

    def test_a_row_whose_own_answer_fits_is_asked(self) -> None:
        room = contenders.room(["a " * 500], count, context=22)
        found = contenders.fit(question("one two three four five six"), (), words, room)
        assert found is not None
        assert found.max_tokens == 22 - words(found)
