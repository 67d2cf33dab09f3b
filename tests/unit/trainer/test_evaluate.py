"""The evaluate stage as the operator runs it: prepared rows and an endpoint in, the result and answers.jsonl out."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from finetune_trainer.contract import gate
from finetune_trainer.contract.config import (
    DEFAULT_BASELINES,
    BaselineConfig,
    BaselineType,
    DatasetConfig,
    EvaluationConfig,
    GateConfig,
    JudgeConfig,
    Metric,
    ModelConfig,
    RunConfig,
    Source,
    SplitConfig,
    Workspace,
)
from finetune_trainer.contract.outcome import Outcome, StageError
from finetune_trainer.contract.report import ArtifactReport, EvaluateResult, TrainResult, Usage
from finetune_trainer.evaluation import endpoint
from finetune_trainer.evaluation.decision import Decision
from finetune_trainer.evaluation.general import PROMPTS
from finetune_trainer.evaluation.inspection import Row
from finetune_trainer.server import Reporter
from finetune_trainer.stages.evaluate import evaluate
from finetune_trainer.stages.prepare import prepare
from small_engine import Engine, running
from tiny import CHATML, write_model

FOODS = ["egg", "flour", "rice", "leek", "pork"]
TRAIN = [
    {"prompt": f"list {number} cups of {FOODS[number % 5]}", "completion": FOODS[number % 5]} for number in range(40)
]
TEST = [
    {"prompt": f"what is in my big bowl of {number} {FOODS[number % 5]} dish", "completion": FOODS[number % 5]}
    for number in range(20)
]
BASELINES = (
    BaselineConfig(type=BaselineType.ZERO_SHOT),
    BaselineConfig(type=BaselineType.FEW_SHOT, examples=2),
    BaselineConfig(type=BaselineType.RETRIEVAL, examples=2),
)


def reply(model: str, messages: list[dict[str, str]]) -> str:
    """The tuned model is always right; the base model only when an example in its prompt had the same answer."""
    right = next((food for food in FOODS if food in messages[-1]["content"]), None)
    if right is None:
        # A general prompt, which tuning has not changed.
        return "as ever"
    if model == "recipes":
        return right
    return right if right in [message["content"] for message in messages if message["role"] == "assistant"] else "soup"


class Case:
    """Prepared rows, and an engine that serves their model."""

    def __init__(self, root: Path, engine: Engine) -> None:
        self.root, self.engine = root, engine
        self.workspace = Workspace(root / "workspace")
        self.workspace.root.mkdir()
        self.reporter = Reporter("evaluate")
        self.config: RunConfig | None = None

    def prepared(self, train: list[Any] = TRAIN, test: list[Any] = TEST, template: str | None = CHATML) -> None:
        sources = {}
        for split, rows in (("train", train), ("test", test)):
            path = self.root / f"{split}.jsonl"
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
            sources[split] = Source(uri=f"pvc://data/{split}.jsonl", path=path)
        self.config = RunConfig(
            name="recipes",
            revision="0a1b2c3d",
            model=ModelConfig(source=Source(uri="pvc://models/tiny", path=write_model(self.root / "model", template))),
            dataset=DatasetConfig(train=sources["train"], test=SplitConfig(source=sources["test"])),
        )
        prepare(self.config, self.workspace, Reporter("prepare"))
        self.workspace.artifact.mkdir()
        usage = Usage(trained_tokens=1000, seconds=10)
        trained = TrainResult(artifact=ArtifactReport(digest="sha256:0", bytes=1), usage=usage, steps=1)
        self.workspace.trained.write_text(trained.model_dump_json(by_alias=True))

    def evaluate(self, **fields: Any) -> EvaluateResult:
        assert self.config is not None
        evaluation = EvaluationConfig(**({"baselines": BASELINES} | fields))
        return evaluate(self.config, evaluation, self.workspace, self.engine.url, self.reporter)

    def refused(self, **fields: Any) -> StageError:
        with pytest.raises(StageError) as error:
            self.evaluate(**fields)
        return error.value

    def answers(self) -> list[dict[str, Any]]:
        """What was kept about the test rows."""
        found = (json.loads(line) for line in self.workspace.answers.read_text().splitlines())
        return [answer for answer in found if answer["contender"] != "general"]

    def asked(self) -> list[dict[str, Any]]:
        """What the engine was asked about the test rows."""
        general = set(PROMPTS)
        return [body for body in self.engine.asked if body["messages"][-1]["content"] not in general]


@pytest.fixture
def case(tmp_path: Path) -> Iterator[Case]:
    with running(Engine(reply)) as engine:
        yield Case(tmp_path, engine)


def test_the_tuned_model_is_measured_against_each_baseline_on_the_same_rows(case: Case) -> None:
    case.prepared()
    result = case.evaluate(metrics=(Metric.EXACT_MATCH,))
    assert result.rows == 20
    assert result.tuned.scores[Metric.EXACT_MATCH].score == 1
    scores = {name: found.scores[Metric.EXACT_MATCH].score for name, found in result.baselines.items()}
    assert scores["zero-shot"] == 0
    assert scores["zero-shot"] < scores["few-shot"] < scores["retrieval"]
    assert result.baselines["zero-shot"].comparisons[Metric.EXACT_MATCH].difference == 1


def test_examples_are_paid_for_in_prompt_tokens(case: Case) -> None:
    case.prepared()
    result = case.evaluate()
    assert result.baselines["retrieval"].requests.prompt_tokens > result.tuned.requests.prompt_tokens
    assert result.baselines["zero-shot"].requests.prompt_tokens == result.tuned.requests.prompt_tokens


def test_every_number_can_be_traced_to_its_rows(case: Case) -> None:
    case.prepared()
    case.evaluate()
    answers = case.answers()
    assert len(answers) == 80
    assert {(answer["contender"], answer["row"]) for answer in answers} == {
        (name, row) for name in ("tuned", "zero-shot", "few-shot", "retrieval") for row in range(20)
    }


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


def test_an_evaluation_that_was_stopped_asks_only_what_is_missing(case: Case) -> None:
    case.prepared()
    case.engine.healthy = 30
    error = case.refused()
    assert error.outcome == Outcome.UNAVAILABLE
    assert f"The candidate at {case.engine.url} answered 500" in error.message
    assert "the next run asks the rest" in error.message
    kept = len(case.answers())
    # A kill tore the last line.
    with case.workspace.answers.open("a") as file:
        file.write('{"key": "half')
    case.engine.healthy = 10_000
    asked = len(case.asked())
    case.evaluate()
    # On a busy machine one may be asked twice, because its answer was late.
    new = {json.dumps(request, sort_keys=True) for request in case.asked()[asked:]}
    assert len(new) == 80 - kept
    assert len(case.answers()) == 80


def test_the_same_evaluation_is_not_done_twice_and_other_metrics_ask_nothing_again(case: Case) -> None:
    case.prepared()
    first = case.evaluate()
    asked = len(case.engine.asked)
    assert case.evaluate() == first
    other = case.evaluate(metrics=(Metric.ROUGE_L,))
    assert other.metrics == (Metric.ROUGE_L,)
    assert len(case.engine.asked) == asked


def test_a_report_is_left_beside_the_result(case: Case) -> None:
    case.prepared()
    result = case.evaluate(metrics=(Metric.EXACT_MATCH,), baselines=BASELINES[:1])
    directory = case.workspace.evaluations / result.evaluation
    left = {path.name for path in directory.iterdir()}
    assert left == {"evaluation.json", "report.json", "report.html", "rows.jsonl"}
    decision = Decision.model_validate_json((directory / "report.json").read_bytes())
    assert decision.result == result
    assert decision.headline.startswith("Ship it: exact_match 1.000")
    assert decision.inspection.worse == 0
    assert "Ship it: exact_match 1.000" in (directory / "report.html").read_text()
    assert decision.manifest["model.source"] == "pvc://models/tiny"
    assert decision.manifest["dataset.found.rows.train"] == "40"
    assert 0 < decision.seconds < 600
    row = Row.model_validate_json((directory / "rows.jsonl").read_text().splitlines()[0])
    assert row.prompt == ({"role": "user", "content": TEST[0]["prompt"]},)
    assert row.scores == {Metric.EXACT_MATCH: {"tuned": 1, "zero-shot": 0}}


def test_another_gate_is_in_the_report_and_asks_nothing(case: Case) -> None:
    case.prepared()
    result = case.evaluate(baselines=BASELINES[:1])
    asked = len(case.engine.asked)
    case.evaluate(baselines=BASELINES[:1], gate=GateConfig(minimum=0.5, margin=0.999999))
    report = case.workspace.evaluations / result.evaluation / "report.json"
    decision = Decision.model_validate_json(report.read_bytes())
    assert decision.verdict.passed is False
    assert len(case.engine.asked) == asked


def test_another_versions_report_is_made_anew_from_the_answers_that_were_kept(case: Case) -> None:
    case.prepared()
    result = case.evaluate(baselines=BASELINES[:1])
    report = case.workspace.evaluations / result.evaluation / "report.json"
    report.write_text('{"anotherVersions": true}')
    asked = len(case.engine.asked)
    assert case.evaluate(baselines=BASELINES[:1]) == result
    assert Decision.model_validate_json(report.read_bytes()).result == result
    assert len(case.engine.asked) == asked


def test_rows_that_a_baseline_answered_better_stand_in_the_report(case: Case) -> None:
    case.engine.reply = lambda model, messages: "soup" if model == "recipes" else reply("recipes", messages)
    case.prepared()
    result = case.evaluate(baselines=BASELINES[:1])
    report = case.workspace.evaluations / result.evaluation / "report.json"
    decision = Decision.model_validate_json(report.read_bytes())
    assert decision.inspection.worse == 20
    assert decision.inspection.regressions[0].tuned == "soup"
    worst = decision.inspection.regressions[0]
    assert worst.answer == worst.reference
    # Of the rows of train those with the same words are the most like it.
    assert len(worst.learned) == 2
    assert worst.learned[0].reference == worst.reference
    assert decision.inspection.disagreements[0].scores == {"tuned": 0, "zero-shot": 1}


def test_rows_that_stand_in_train_are_left_out_and_counted(case: Case) -> None:
    case.prepared(test=[*TEST, TRAIN[0], TRAIN[7]])
    result = case.evaluate()
    assert (result.rows, result.leaked) == (20, 2)


def test_a_test_split_that_is_all_in_train_is_refused(case: Case) -> None:
    case.prepared(test=TRAIN[:3])
    error = case.refused()
    assert error.outcome == Outcome.DATA_INVALID
    assert error.message == (
        "All 3 test rows also stand in train (3 exactly, 0 nearly), so nothing is left to evaluate with: give "
        "dataset.test rows that train does not have, or set evaluation.enabled to false."
    )


def test_no_more_rows_are_asked_than_the_sample_has(case: Case) -> None:
    case.prepared()
    assert case.evaluate(sample_size=5).rows == 5
    assert len(case.asked()) == 20


def test_prompts_that_do_not_fit_are_said_and_not_cut(case: Case) -> None:
    case.prepared()
    # Room for a question of ten words, its frame and an answer, and for one example beside it, not for two.
    case.engine.context_length = 38
    result = case.evaluate()
    assert result.tuned.requests.too_long == 0
    assert result.baselines["few-shot"].requests.fewer_examples == 20
    case.engine.context_length = 12
    assert case.evaluate(sample_size=4).tuned.requests.too_long == 4


def test_one_long_answer_leaves_the_other_rows_whole(case: Case) -> None:
    long = {"prompt": "write me a whole book about leek", "completion": "leek " * 2000}
    case.prepared(test=[*TEST, long])
    result = case.evaluate(metrics=(Metric.EXACT_MATCH,))
    assert (result.rows, result.tuned.requests.too_long, result.tuned.requests.cut) == (21, 1, 0)
    assert result.tuned.scores[Metric.EXACT_MATCH].score == pytest.approx(20 / 21, abs=1e-4)
    assert result.baselines["retrieval"].requests.fewer_examples == 0


def test_without_the_base_model_there_is_nothing_to_compare_with(case: Case) -> None:
    case.engine.models = ("recipes",)
    case.prepared()
    assert case.evaluate().baselines == {}


def test_the_endpoint_of_another_job_is_refused(case: Case) -> None:
    case.engine.models = ("translator", "translator-base")
    case.prepared()
    error = case.refused()
    assert error.outcome == Outcome.CONFIG_INVALID
    assert "serves translator, translator-base, and not recipes" in error.message


def test_a_metric_that_does_not_fit_the_rows_is_refused(case: Case) -> None:
    case.prepared()
    error = case.refused(metrics=(Metric.JSON_FIELDS_F1,))
    assert error.outcome == Outcome.CONFIG_INVALID
    assert error.message.startswith("evaluation.metrics: json_fields_f1 can't be used with these rows: ")
    assert case.engine.asked == []


def test_a_candidate_that_does_not_answer_is_worth_another_try(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    case.prepared()
    monkeypatch.setattr(endpoint, "RETRIES", 0)
    case.engine.url = "http://127.0.0.1:9/v1"
    assert case.refused().outcome == Outcome.UNAVAILABLE


def test_progress_says_who_is_asked(case: Case) -> None:
    case.prepared()
    case.evaluate()
    progress = case.reporter.progress
    assert (progress.step, progress.total_steps) == (24, 24)
    assert progress.activity == "asking general prompts"


def test_a_tuned_model_that_answers_as_before_has_not_drifted(case: Case) -> None:
    case.prepared()
    drift = case.evaluate(sample_size=2).drift
    assert drift is not None
    assert drift.score == 0


def test_a_tuned_model_that_answers_everything_alike_has_drifted(case: Case) -> None:
    case.engine.reply = lambda model, messages: "egg" if model == "recipes" else "a long answer"
    case.prepared()
    drift = case.evaluate(sample_size=2).drift
    assert drift is not None
    assert drift.score == 1


def test_empty_answers_are_wrong_and_no_error(case: Case) -> None:
    case.engine.reply = lambda model, messages: ""
    case.prepared()
    result = case.evaluate(metrics=(Metric.EXACT_MATCH, Metric.TOKEN_F1, Metric.ROUGE_L))
    assert {score.score for score in result.tuned.scores.values()} == {0}


def test_the_references_likelihood_is_asked_of_the_engine(case: Case) -> None:
    case.engine.likelihoods = {"recipes": 0.5, "recipes-base": 0.125}
    case.prepared()
    result = case.evaluate(metrics=(Metric.INVERSE_PERPLEXITY,), baselines=BASELINES[:1])
    assert result.tuned.scores[Metric.INVERSE_PERPLEXITY].score == 0.5
    assert result.baselines["zero-shot"].scores[Metric.INVERSE_PERPLEXITY].score == 0.125


def test_an_engine_that_knows_no_likelihoods_is_told_of(case: Case) -> None:
    case.prepared()
    error = case.refused(metrics=(Metric.INVERSE_PERPLEXITY,))
    assert error.outcome == Outcome.CONFIG_INVALID
    assert error.message.startswith("The engine gives no prompt_logprobs, which the metric inverse_perplexity needs")


class TestTheJudge:
    @pytest.fixture
    def judge(self) -> Iterator[Engine]:
        """Likes what is longer, and finds texts of one length equally good."""

        def longer(model: str, messages: list[dict[str, str]]) -> str:
            told = messages[-1]["content"]
            first, second = told.split("Answer A:\n")[1].split("\n\nWhich")[0].split("\n\nAnswer B:\n")
            return "tie" if len(first) == len(second) else "A." if len(first) > len(second) else "B"

        with running(Engine(longer)) as engine:
            yield engine

    @pytest.fixture(autouse=True)
    def key(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FINETUNE_JUDGE_OPENAI_API_KEY", "sk-secret")

    def judged(self, case: Case, judge: Engine) -> dict[str, Any]:
        return {
            "metrics": (Metric.JUDGE,),
            "baselines": BASELINES[:1],
            "judge": JudgeConfig(url=judge.url, model="large"),
        }

    def test_it_compares_each_answer_with_the_reference(self, case: Case, judge: Engine) -> None:
        case.engine.reply = lambda model, messages: "a long answer" if model == "recipes" else "x"
        case.prepared()
        result = case.evaluate(**self.judged(case, judge))
        assert result.tuned.scores[Metric.JUDGE].score == 1
        assert result.baselines["zero-shot"].scores[Metric.JUDGE].score == 0
        assert judge.keys == {"Bearer sk-secret"}

    def test_the_same_words_are_as_good_and_need_no_judge(self, case: Case, judge: Engine) -> None:
        case.prepared()
        result = case.evaluate(**self.judged(case, judge) | {"baselines": ()})
        assert result.tuned.scores[Metric.JUDGE].score == 0.5
        assert len(judge.asked) == 1, "the easy question alone"

    def test_one_that_always_likes_the_first_likes_nobody(self, case: Case, judge: Engine) -> None:
        judge.reply = lambda model, messages: "A"
        case.engine.reply = lambda model, messages: "anything else"
        case.prepared()
        result = case.evaluate(**self.judged(case, judge))
        assert result.tuned.scores[Metric.JUDGE].score == 0.5

    def test_one_that_says_neither_is_a_tie(self, case: Case, judge: Engine) -> None:
        judge.reply = lambda model, messages: "Both have merits."
        case.engine.reply = lambda model, messages: "anything else"
        case.prepared()
        result = case.evaluate(**self.judged(case, judge))
        assert result.tuned.scores[Metric.JUDGE].score == 0.5

    def test_words_that_could_not_be_read_are_counted_and_told(self, case: Case, judge: Engine) -> None:
        judge.reply = lambda model, messages: "Both have merits."
        case.engine.reply = lambda model, messages: "anything else"
        case.prepared()
        result = case.evaluate(**self.judged(case, judge))
        assert (result.tuned.unread, result.baselines["zero-shot"].unread) == (40, 40)
        message = gate.check(result, None).message
        assert "The judge named neither answer nor a tie 80 times, which count as ties." in message

    def test_one_that_thinks_is_asked_in_its_own_words(self, case: Case, judge: Engine) -> None:
        judge.thinks = True
        judge.reply = lambda model, messages: "<think>Is it A? B.</think> A"
        case.engine.reply = lambda model, messages: "anything else"
        case.prepared()
        result = case.evaluate(**self.judged(case, judge))
        assert result.tuned.unread == 0
        assert {tuple(sorted(body)) for body in judge.asked} == {("max_completion_tokens", "messages", "model")}

    @pytest.mark.parametrize("thinks", [True, False])
    def test_one_that_says_neither_is_asked_as_it_allows(self, case: Case, judge: Engine, thinks: bool) -> None:
        judge.thinks = thinks
        judge.reply = lambda model, messages: "Both have merits."
        case.engine.reply = lambda model, messages: "anything else"
        case.prepared()
        assert case.evaluate(**self.judged(case, judge)).tuned.unread == 40
        assert ("max_completion_tokens" in judge.asked[-1]) is thinks

    def test_one_that_cannot_be_asked_costs_nobody_an_answer(self, case: Case, judge: Engine) -> None:
        judge.healthy, judge.broken = 0, 404
        case.prepared()
        error = case.refused(**self.judged(case, judge))
        assert error.outcome == Outcome.CONFIG_INVALID
        assert error.message.startswith(f"The judge at {judge.url} answered 404")
        assert case.engine.asked == []

    @pytest.mark.parametrize(
        ("status", "outcome", "said"),
        [(503, Outcome.UNAVAILABLE, "answered 503"), (401, Outcome.ACCESS_DENIED, "refused the key")],
    )
    def test_one_that_is_down_loses_nothing(
        self, case: Case, judge: Engine, status: int, outcome: Outcome, said: str
    ) -> None:
        judge.healthy, judge.broken = 5, status
        case.engine.reply = lambda model, messages: "anything else"
        case.prepared()
        error = case.refused(**self.judged(case, judge))
        assert error.outcome == outcome
        assert error.message.startswith(f"The judge at {judge.url} {said}")
        assert "is kept" in error.message
        asked = len(case.engine.asked)
        judge.healthy = 10_000
        case.evaluate(**self.judged(case, judge))
        assert len(case.asked()) == 40
        # The general prompts alone come after the judge.
        assert len(case.engine.asked) - asked == 48

    def test_its_key_stands_nowhere(self, case: Case, judge: Engine) -> None:
        judge.healthy, judge.broken = 3, 401
        case.engine.reply = lambda model, messages: "anything else"
        case.prepared()
        assert "sk-secret" not in case.refused(**self.judged(case, judge)).message
        files = [path for path in case.workspace.root.rglob("*") if path.is_file()]
        assert files
        assert not [path for path in files if b"sk-secret" in path.read_bytes()]


def test_a_metric_that_does_not_fit_is_refused_before_anything_is_trained(case: Case) -> None:
    case.prepared()
    assert case.config is not None
    evaluation = EvaluationConfig(metrics=(Metric.JSON_VALID,))
    with pytest.raises(StageError) as error:
        prepare(case.config, case.workspace, Reporter("prepare"), evaluation)
    assert error.value.message == (
        "evaluation.metrics: json_valid can't be used with these rows: their answers are not all JSON objects or "
        "arrays."
    )
    assert not case.workspace.prepared.exists()
