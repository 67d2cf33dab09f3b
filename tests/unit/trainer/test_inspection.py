"""Rows for a second look, and wrong answers as the dataset of a DPO job."""

from decisions import ROWS
from finetune_trainer.contract.config import Metric
from finetune_trainer.evaluation.failures import pairs
from finetune_trainer.evaluation.inspection import Learned, Row, WinsAndLosses, inspect

EXACT = Metric.EXACT_MATCH


def row(prompt: str, metric: Metric = EXACT, answer: str = "wrong", **scores: float) -> Row:
    answers = {name: "right" if score == 1 else answer for name, score in scores.items()}
    return Row(prompt=prompt, reference="right", answers=answers, scores={metric: scores})


def none(row: Row) -> tuple[()]:
    return ()


def test_the_row_that_half_of_them_answer_comes_before_one_that_all_but_one_do() -> None:
    rows = [
        row("all", tuned=1, few=1, zero=1, retrieval=1),
        row("one", tuned=1, few=0, zero=0, retrieval=0),
        row("half", tuned=1, few=1, zero=0, retrieval=0),
    ]
    assert [each.prompt for each in inspect(rows, EXACT, none).disagreements] == ["half", "one"]


def test_rows_won_and_lost_are_counted_against_each_baseline() -> None:
    rows = [row("a", tuned=1, few=0, zero=1), row("b", tuned=0, few=1, zero=0), row("c", tuned=1, few=0, zero=0)]
    found = inspect(rows, EXACT, none)
    assert found.differences == {"few": WinsAndLosses(wins=2, losses=1), "zero": WinsAndLosses(wins=1, losses=0)}
    assert found.binary
    assert not inspect([row("d", tuned=0.5, few=1)], EXACT, none).binary


def test_rows_of_train_are_looked_up_for_those_that_got_worse_only() -> None:
    asked = []

    def similar(row: Row) -> list[Learned]:
        asked.append(row.asked)
        return [Learned(prompt="like it", reference="another")]

    found = inspect([row("better", tuned=1, few=0), row("worse", tuned=0, few=1)], EXACT, similar)
    assert asked == ["worse"]
    assert found.regressions[0].learned == (Learned(prompt="like it", reference="another"),)


def test_a_right_answer_is_no_failure_and_by_the_judge_half_a_point_is_right() -> None:
    assert [pair["prompt"] for pair in pairs([row("a", tuned=1), row("b", tuned=0.2)], EXACT)] == ["b"]
    judged = [row("as good", Metric.JUDGE, tuned=0.5), row("worse", Metric.JUDGE, tuned=0.0)]
    assert [pair["prompt"] for pair in pairs(judged, Metric.JUDGE)] == ["worse"]


def test_the_right_words_are_never_rejected_and_rows_with_tools_are_left_out() -> None:
    assert pairs([row("a", Metric.INVERSE_PERPLEXITY, answer=" right", tuned=0.1)], Metric.INVERSE_PERPLEXITY) == []
    called = ROWS[0].model_copy(update={"tools": ({"type": "function"},)})
    assert len(pairs([ROWS[0]], EXACT)) == 1
    assert pairs([called], EXACT) == []
