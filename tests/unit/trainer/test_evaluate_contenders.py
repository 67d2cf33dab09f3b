"""How each contender is asked: its prompt, its form, its room for an answer."""

import json
from collections import Counter
from threading import Barrier
from typing import Any

import pytest
from evaluating import BASELINES, FOODS, TEST, TRAIN, Case, reply
from finetune_trainer.contract.config import (
    DEFAULT_BASELINES,
    BaselineConfig,
    BaselineType,
    EvaluationConfig,
    Metric,
)
from finetune_trainer.contract.outcome import Outcome, StageError
from finetune_trainer.evaluation import endpoint
from finetune_trainer.evaluation.decision import Decision
from finetune_trainer.server import Reporter
from finetune_trainer.stages.prepare import prepare
from tiny import CHATML


def test_all_ask_at_temperature_0_and_for_as_long_an_answer(case: Case) -> None:
    case.prepared()
    case.evaluate()
    assert {(asked["temperature"], asked["max_tokens"]) for asked in case.asked()} == {(0, 256)}


def test_a_model_without_a_chat_template_is_asked_as_it_was_trained(case: Case) -> None:
    case.engine.reply = lambda model, messages: " egg\n\nand what is in my soup" if model == "recipes" else " rice"
    train = [{"prompt": f"list {number} cups of:", "completion": f" {FOODS[number % 5]}"} for number in range(40)]
    test = [{"prompt": f"a big bowl of {number} dishes is:", "completion": " egg"} for number in range(5)]
    case.prepared(train, test, template=None)
    result = case.evaluate(metrics=(Metric.EXACT_MATCH,), baselines=BASELINES[1:2], chat_template_kwargs={"a": 1})
    assert result.tuned.scores[Metric.EXACT_MATCH].score == 1
    shots = [body for body in case.engine.asked if body["model"] == "recipes-base"]
    assert {(body["prompt"].count("of: "), body["prompt"].count("\n\n")) for body in shots} == {(2, 2)}
    assert {(tuple(body["stop"]), "chat_template_kwargs" in body) for body in case.engine.asked} == {(("\n",), False)}


CALLING = CHATML.replace(
    " <|im_end|>", "{% for call in message.tool_calls or [] %} {{ call.function | tojson }}{% endfor %} <|im_end|>"
)


def test_tool_calls_are_right_in_whatever_form_they_are_written(case: Case) -> None:
    def called(people: int, arguments: Any) -> dict[str, Any]:
        call = {"type": "function", "function": {"name": "book", "arguments": arguments}}
        asked = {"role": "user", "content": f"I want a very good table for {people} dear people"}
        return {"messages": [asked, {"role": "assistant", "content": "", "tool_calls": [call]}]}

    case.engine.reply = lambda model, messages: (
        f'<tool_call>{{"name": "book", "arguments": {{"people": {messages[-1]["content"].split()[-3]}}}}}</tool_call>'
        if model == "recipes" and messages[-1]["content"].startswith("I want")
        else "A table it is."
    )
    train = [called(people, {"people": people}) for people in range(40)]
    test = [called(people * 1111, json.dumps({"people": people * 1111})) for people in range(1, 9)]
    case.prepared(train, test, CALLING)
    result = case.evaluate(baselines=BASELINES[:1])
    assert result.metrics[0] == Metric.JSON_FIELDS_F1
    assert result.tuned.scores[Metric.EXACT_MATCH].score == 1
    assert result.baselines["zero-shot"].scores[Metric.EXACT_MATCH].score == 0


DOCUMENTS = [row | {"completion": json.dumps({"food": row["completion"], "cups": 2})} for row in TRAIN]
DOCUMENT_TEST = [row | {"completion": json.dumps({"food": row["completion"], "cups": 2})} for row in TEST]


def test_answers_of_a_form_are_compared_with_the_base_model_kept_to_it(case: Case) -> None:
    case.prepared(DOCUMENTS, DOCUMENT_TEST)
    result = case.evaluate(baselines=DEFAULT_BASELINES, sample_size=2)
    assert list(result.baselines) == ["zero-shot", "few-shot", "retrieval", "structured"]
    asked = [body["response_format"] for body in case.asked() if "response_format" in body]
    assert len(asked) == 2
    assert asked[0]["json_schema"]["schema"]["properties"] == {"food": {"type": "string"}, "cups": {"type": "integer"}}
    assert result.baselines["structured"].requests.prompt_tokens == result.tuned.requests.prompt_tokens


def test_labels_are_what_the_base_model_may_choose_from(case: Case) -> None:
    case.prepared()
    case.evaluate(baselines=DEFAULT_BASELINES, sample_size=2)
    choices = [body["structured_outputs"] for body in case.asked() if "structured_outputs" in body]
    assert choices == [{"choice": sorted(FOODS)}] * 2


def test_a_manifest_that_names_its_baselines_gets_no_other(case: Case) -> None:
    case.prepared()
    found = case.evaluate(baselines=DEFAULT_BASELINES, only_these=True, sample_size=2)
    assert list(found.baselines) == ["zero-shot", "few-shot", "retrieval"]


def test_a_form_that_answers_do_not_have_is_refused_before_anything_is_trained(case: Case) -> None:
    case.prepared([row | {"completion": f"{row['completion']} {number}"} for number, row in enumerate(TRAIN)])
    assert case.config is not None
    evaluation = EvaluationConfig(baselines=(BaselineConfig(type=BaselineType.STRUCTURED),))
    with pytest.raises(StageError) as error:
        prepare(case.config, case.workspace, Reporter("prepare"), evaluation)
    assert error.value.outcome == Outcome.CONFIG_INVALID
    assert error.value.message.startswith("evaluation.baselines: structured can't be used with these rows: ")


def test_a_baseline_is_told_the_task_in_its_own_words(case: Case) -> None:
    case.prepared()
    told = BaselineConfig(type=BaselineType.ZERO_SHOT, prompt="Name the food.")
    case.evaluate(baselines=(told,), sample_size=2)
    system = [
        message["content"] for body in case.asked() for message in body["messages"] if message["role"] == "system"
    ]
    assert system == ["Name the food."] * 2


def test_the_chat_templates_variables_go_with_every_question(case: Case) -> None:
    case.prepared()
    kwargs = {"enable_thinking": False, "date": "today"}
    case.evaluate(sample_size=2, chat_template_kwargs=kwargs)
    assert {json.dumps(asked.get("chat_template_kwargs")) for asked in case.engine.asked} == {json.dumps(kwargs)}
    # Another way of asking is another question.
    before = len(case.asked())
    case.evaluate(sample_size=2)
    assert len(case.asked()) == 2 * before


def test_the_manifest_can_say_how_long_an_answer_may_be(case: Case) -> None:
    case.prepared()
    case.evaluate(max_answer_tokens=7)
    assert {asked["max_tokens"] for asked in case.asked()} == {7}


def test_cut_answers_are_counted_and_a_verdict_that_hangs_on_them_is_not_clear(case: Case) -> None:
    case.engine.reply = lambda model, messages: (
        reply(model, messages) if model == "recipes" else f"Certainly! Here it is: {reply('recipes', messages)}"
    )
    case.prepared()
    fields = {"metrics": (Metric.TOKEN_F1,), "baselines": BASELINES[:1]}
    result = case.evaluate(**fields, max_answer_tokens=4)
    assert (result.tuned.requests.cut, result.baselines["zero-shot"].requests.cut) == (0, 20)
    assert {(answer["contender"], answer["finishReason"]) for answer in case.answers()} == {
        ("tuned", "stop"),
        ("zero-shot", "length"),
    }
    report = case.workspace.evaluations / result.evaluation / "report.json"
    headline = Decision.model_validate_json(report.read_bytes()).headline
    assert headline.startswith("Not clear: token_f1 1.000")
    assert "20 of 20 answers of zero-shot were cut" in headline
    assert case.evaluate(**fields).baselines["zero-shot"].requests.cut == 0


def test_the_engine_is_warmed_up_for_each_contender_at_full_concurrency(case: Case) -> None:
    together, warmed = Barrier(endpoint.CONCURRENCY), []

    def warm(body: dict[str, Any]) -> None:
        warmed.append((body["model"], len(body["messages"])))
        together.wait(60)

    case.engine.warm = warm
    case.prepared()
    case.evaluate(baselines=BASELINES[:2])
    assert Counter(warmed) == {("recipes", 1): 16, ("recipes-base", 1): 16, ("recipes-base", 5): 16}


def test_no_contender_finds_anothers_prompts_in_the_prefix_cache(case: Case) -> None:
    warmed: list[str] = []
    case.engine.warm = lambda body: warmed.append(body["cache_salt"])
    case.prepared()
    case.evaluate(baselines=BASELINES[:2])
    assert set(warmed) == {"warming up"}
    assert Counter(body["cache_salt"] for body in case.asked()) == {"tuned": 20, "zero-shot": 20, "few-shot": 20}
