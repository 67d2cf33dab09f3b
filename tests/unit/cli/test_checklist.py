"""`finetune report --checklist`: the whole page, and that what no run can know is said to be unknown."""

import json
from pathlib import Path

import pytest
from decisions import contender, decision, result
from finetune_cli.checklist import UNKNOWN, checklist, markdown
from finetune_cli.errors import UserError
from finetune_cli.main import app
from finetune_cli.output import OutputFormat
from finetune_cli.report import answer_checklist
from finetune_cli.store import Store
from finetune_operator.api.status import FineTuneJobStatus
from finetune_operator.finetunejob.stages.evaluate import evaluated
from finetune_trainer.contract.config import Prices
from finetune_trainer.contract.results import Benchmark
from finetune_trainer.evaluation.decision import Decision
from rendering import target
from rich.console import Console
from typer.testing import CliRunner

MANIFEST = {"training.method": "sft", "dataset.train": "s3://b/train.jsonl", "dataset.found.rows.train": "900"}
PAGE = (Path(__file__).parent / "checklist.md").read_text()
FOR, TRIED, DATA, QUALITY, COST, BENEFIT, WORSE = (each.question for each in checklist(decision()))


def told(found: Decision) -> dict[str, str]:
    """The answers by their questions."""
    return {each.question: " ".join(each.known) for each in checklist(found)}


def test_the_page() -> None:
    found = decision(prices=Prices(accelerator_hour=2.5), manifest=MANIFEST)
    assert markdown(found, checklist(found)) == PAGE


def test_every_question_says_what_only_people_know() -> None:
    assert all(each.unknown.endswith(".") for each in checklist(decision()))
    assert PAGE.count(f"- {UNKNOWN}") == PAGE.count("## ") == 7


def test_without_prices_no_money_is_told_and_what_would_tell_it_is() -> None:
    costs = told(decision())[COST]
    assert "USD" not in costs
    assert f"{UNKNOWN}what a request costs: there is no price (--million-prompt-tokens)." in costs
    assert "(--accelerator-hour)" in costs


def test_what_was_not_compared_is_not_called_a_benefit() -> None:
    answers = told(decision(result(baselines={}, drift=None)))
    assert "Not tried: the plain prompt (zero-shot); the same examples" in answers[TRIED]
    assert f"{UNKNOWN}the benefit over doing without" in answers[BENEFIT]
    assert f"{UNKNOWN}what it forgot" in answers[WORSE]
    assert f"{UNKNOWN}which rows would be answered better" in answers[WORSE]
    assert f"{UNKNOWN}how many rows were trained on." in answers[DATA]


def test_another_model_behind_an_endpoint_is_named_and_counts_as_tried() -> None:
    remote = contender(0.5, 90, 0.67).model_copy(update={"model": "large"})
    answers = told(decision(result(baselines={"theirs": remote})))
    assert "theirs on large at an endpoint, the best of these: exact_match 0.500" in answers[TRIED]
    assert "another model" not in answers[TRIED]


def test_rows_that_were_left_out_and_benchmarks_are_told() -> None:
    task = Benchmark(metric="acc", tuned=0.5, base=0.75)
    answers = told(decision(result(leaked=3, near_duplicates=4, benchmarks={"foods": task})))
    assert "7 more were left out: train has 3 of them exactly, 4 nearly." in answers[DATA]
    assert "Benchmark foods, acc: 0.500, the base model 0.750." in answers[WORSE]


class TestPrinted:
    @pytest.fixture(autouse=True)
    def here(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        store = Store("bookings", tmp_path / ".finetune")
        directory = store.workspace("0a1b2c3d").evaluations / "00000001"
        directory.mkdir(parents=True)
        (directory / "report.json").write_text(decision(manifest=MANIFEST).model_dump_json(by_alias=True))
        step = evaluated(decision().result, target("bookings").spec, (directory / "report.html").as_uri())
        with store.lock():
            store.write(FineTuneJobStatus(revision="0a1b2c3d", evaluation=step.status["evaluation"]))

    def test_with_prices_that_are_given_now(self) -> None:
        console = Console(width=40, color_system=None)
        with console.capture() as capture:
            answer_checklist("bookings", None, Prices(accelerator_hour=2.5), None, OutputFormat.TABLE, console)
        assert capture.get() == PAGE

    def test_as_json_and_into_a_file(self) -> None:
        printed = CliRunner().invoke(app, ["report", "--checklist", "-o", "json"], catch_exceptions=False).output
        assert [each["question"] for each in json.loads(printed)] == [FOR, TRIED, DATA, QUALITY, COST, BENEFIT, WORSE]
        said = CliRunner().invoke(app, ["report", "--checklist", "--save", "list.md"], catch_exceptions=False).output
        assert said == "The checklist: list.md\n"
        assert Path("list.md").read_text().startswith("# bookings, revision 0a1b2c3d: was fine-tuning the right")

    def test_it_is_of_one_job(self) -> None:
        with pytest.raises(UserError) as error:
            CliRunner().invoke(app, ["report", "--checklist", "a", "b"], catch_exceptions=False)
        assert error.value.message == "--checklist answers for one job: leave the other one out."
