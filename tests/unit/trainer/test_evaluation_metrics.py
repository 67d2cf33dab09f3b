"""Each metric by hand-worked cases, against independent libraries, and by what must hold for any answers."""

import string
from time import process_time

import numpy as np
import pytest
from finetune_trainer.contract.config import Metric
from finetune_trainer.evaluation import metrics
from finetune_trainer.evaluation.definitions import DEFINITIONS
from finetune_trainer.evaluation.likelihood import inverse_perplexity
from hypothesis import given
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer
from sklearn.metrics import f1_score

# Others are measured by asking again, or by running what is answered.
ELSEWHERE = (
    Metric.INVERSE_PERPLEXITY,
    Metric.REWARD_ACCURACY,
    Metric.RANKING_ACCURACY,
    Metric.JUDGE,
    Metric.SQL_EXECUTION,
)
TEXTUAL = [metric for metric in Metric if metric not in ELSEWHERE]
EITHER_WAY = [Metric.TOKEN_F1, Metric.ROUGE_L, Metric.EXACT_MATCH, Metric.LABEL_ACCURACY]
TEXTS = st.lists(st.tuples(st.text(max_size=30), st.text(max_size=30)), min_size=1, max_size=8)
# Words that ROUGE's own tokenizer keeps as they are.
WORDS = st.lists(st.text(string.ascii_lowercase, min_size=1, max_size=3), min_size=1, max_size=8).map(" ".join)
LABELS = st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from("abc")), min_size=1, max_size=30)


def value(metric: Metric, answers: list[str], references: list[str]) -> float:
    return float(metrics.statistic(metric, answers, references)(np.ones((1, len(answers))))[0])


def one(metric: Metric, answer: str, reference: str) -> float:
    return value(metric, [answer], [reference])


FENCED = '```json\n{"a": 1}\n```'


@pytest.mark.parametrize(
    ("metric", "answer", "reference", "score"),
    [
        (Metric.JSON_VALID, FENCED, "{}", 1),
        (Metric.JSON_FIELDS_F1, FENCED, '{"a": 1}', 1),
        (Metric.JSON_FIELDS_F1, f"Certainly!\n\n{FENCED}\nIs there more?", '{"a": 1}', 1),
        (Metric.JSON_FIELDS_F1, '{"a": "```\\n1\\n```"}', '{"a": "```\\n1\\n```"}', 1),
        (Metric.JSON_FIELDS_F1, '<think>perhaps {"b": 2}</think>\n{"a": 1}', '{"a": 1}', 1),
        (Metric.JSON_VALID, "```json\n{oops\n```", "{}", 0),
        (Metric.EXACT_MATCH, '```\n{"a": 1}\n```', '{"a": 1}', 1),
        (Metric.EXACT_MATCH, "<think>\neggs, or rice?\n</think>\n\neggs", "eggs", 1),
        (Metric.EXACT_MATCH, "eggs, or rice?\n</think>\n\neggs", "eggs", 1),
        (Metric.EXACT_MATCH, "<think>\neggs", "eggs", 0),
        (Metric.EXACT_MATCH, "eggs", "<think>\nno doubt\n</think>\neggs", 1),
        (Metric.TOKEN_F1, "<think>flour, and a lot of it</think> eggs", "eggs", 1),
        (Metric.ROUGE_L, "<think>flour, and a lot of it</think> eggs", "eggs", 1),
        (Metric.LABEL_ACCURACY, '"Refund".', "refund", 1),
        (Metric.LABEL_ACCURACY, "“refund.”", "refund", 1),
        (Metric.LABEL_ACCURACY, "<think>they want money</think>Refund.", "refund", 1),
        (Metric.LABEL_ACCURACY, "***", "**", 0),
        (Metric.LABEL_ACCURACY, ".", "", 0),
        (Metric.MACRO_F1, "'refund'", "refund", 1),
        (Metric.TOKEN_F1, "我要退款。", "我要换货", 0.5),
        (Metric.TOKEN_F1, "ขอบคุณ", "ขอบใจ", 6 / 11),
        (Metric.ROUGE_L, "我要退款", "我要換款 now", 2 * 3 / 9),
        (Metric.EXACT_MATCH, " eggs\n", "eggs", 1),
        (Metric.EXACT_MATCH, "Eggs", "eggs", 0),
        (Metric.TOKEN_F1, "The eggs, and a flour", "eggs flour", 0.8),
        (Metric.TOKEN_F1, "egg egg", "egg", 2 / 3),
        (Metric.TOKEN_F1, "", "", 1),
        (Metric.TOKEN_F1, "", "egg", 0),
        (Metric.ROUGE_L, "the cat sat", "the cat lay", 2 / 3),
        (Metric.ROUGE_L, "sat cat the", "the cat sat", 1 / 3),
        (Metric.JSON_VALID, '{"a": 1}', "{}", 1),
        (Metric.JSON_VALID, '{"a": NaN}', "{}", 0),
        (Metric.JSON_VALID, "3", "{}", 0),
        (Metric.JSON_VALID, 'Sure! {"a": 1}', "{}", 0),
        (Metric.JSON_FIELDS_F1, '{"b": 2, "a": 1}', '{"a": 1, "b": 2}', 1),
        (Metric.JSON_FIELDS_F1, '{"a": 1}', '{"a": 1, "b": 2}', 2 / 3),
        (Metric.JSON_FIELDS_F1, '{"a": 1, "c": 3}', '{"a": 1, "b": 2}', 0.5),
        (Metric.JSON_FIELDS_F1, '{"a": true}', '{"a": 1}', 0),
        (Metric.JSON_FIELDS_F1, '{"a": ["y", "x"]}', '{"a": ["x", "y"]}', 1),
        (Metric.JSON_FIELDS_F1, '{"a": {"b": 1}}', '{"b": 1}', 0),
        (Metric.JSON_FIELDS_F1, '{"a": [{"b": 1}, {"b": 2}]}', '{"a": [{"b": 2}, {"b": 3}]}', 0.5),
        (Metric.JSON_FIELDS_F1, '{"a": null}', '{"a": "null"}', 0),
        (Metric.JSON_FIELDS_F1, '{"a": []}', '{"a": []}', 1),
        (Metric.JSON_FIELDS_F1, "{}", "{}", 1),
        (Metric.JSON_FIELDS_F1, "{}", '{"a": 1}', 0),
        (Metric.JSON_FIELDS_F1, "no idea", "{}", 0),
        (Metric.LABEL_ACCURACY, " Refund ", "refund", 1),
        (Metric.LABEL_ACCURACY, "a refund", "refund", 0),
    ],
)
def test_a_score_worked_by_hand(metric: Metric, answer: str, reference: str, score: float) -> None:
    assert one(metric, answer, reference) == pytest.approx(score)


def test_macro_f1_counts_every_label_alike() -> None:
    # a: F1 of 2/3 (one of two found, nothing else taken for it); b: 0.8 (two of two, one wrong).
    assert value(Metric.MACRO_F1, ["a", "b", "b", "b"], ["a", "a", "b", "b"]) == pytest.approx((2 / 3 + 0.8) / 2)


def test_a_label_that_no_resample_has_is_left_out_of_it() -> None:
    statistic = metrics.statistic(Metric.MACRO_F1, ["a", "x"], ["a", "b"])
    assert list(statistic(np.array([[2.0, 0.0], [0.0, 2.0], [1.0, 1.0]]))) == [1, 0, 0.5]


@pytest.mark.parametrize("depth", range(900, 1010))
def test_an_answer_nested_without_end_is_wrong_and_no_failure(depth: int) -> None:
    assert one(Metric.JSON_FIELDS_F1, "[" * depth + "1" + "]" * depth, "{}") == 0


def test_perplexity_is_over_all_tokens_and_not_a_mean_of_rows() -> None:
    statistic = inverse_perplexity([np.log(0.5) * 3, np.log(0.125)], [3, 1])
    assert float(statistic(np.ones((1, 2)))[0]) == pytest.approx(0.5 ** (6 / 4))


@pytest.mark.parametrize("metric", TEXTUAL)
@given(pairs=st.one_of(TEXTS, LABELS))
def test_each_row_by_itself_is_the_metric_of_a_resample_that_has_no_other(
    metric: Metric, pairs: list[tuple[str, str]]
) -> None:
    statistic = metrics.statistic(metric, [pair[0] for pair in pairs], [pair[1] for pair in pairs])
    assert list(statistic.rows) == pytest.approx(list(statistic(np.eye(len(pairs)))))


def test_perplexity_has_rows_too() -> None:
    statistic = inverse_perplexity([np.log(0.5) * 3, np.log(0.125)], [3, 1])
    assert list(statistic.rows) == pytest.approx([0.5, 0.125])


def test_as_many_rows_as_a_manifest_may_ask_are_told_apart_in_no_time() -> None:
    answers, references = ["yes", "no"] * 50_000, ["yes", "yes"] * 50_000
    began = process_time()
    found = metrics.statistic(Metric.MACRO_F1, answers, references).rows
    # A look at all rows for each of them takes more than ten times as long.
    assert process_time() - began < 5
    assert sum(found) == 50_000


@given(LABELS)
def test_macro_f1_is_scikit_learns(pairs: list[tuple[str, str]]) -> None:
    answers, references = ([pair[index] for pair in pairs] for index in (0, 1))
    labels = sorted(set(references))
    expected = f1_score(references, answers, labels=labels, average="macro", zero_division=0)
    assert value(Metric.MACRO_F1, answers, references) == pytest.approx(expected)


@given(LABELS, st.data())
def test_macro_f1_of_a_resample_is_scikit_learns_of_its_rows(pairs: list[tuple[str, str]], data: st.DataObject) -> None:
    drawn = data.draw(st.lists(st.sampled_from(range(len(pairs))), min_size=len(pairs), max_size=len(pairs)))
    weights = np.bincount(drawn, minlength=len(pairs)).astype(float)
    said, right = ([pairs[row][index] for row in drawn] for index in (0, 1))
    expected = f1_score(right, said, labels=sorted(set(right)), average="macro", zero_division=0)
    statistic = metrics.statistic(Metric.MACRO_F1, [pair[0] for pair in pairs], [pair[1] for pair in pairs])
    assert float(statistic(weights[None])[0]) == pytest.approx(expected)


@given(WORDS, WORDS)
def test_rouge_l_is_googles(answer: str, reference: str) -> None:
    expected = RougeScorer(["rougeL"]).score(reference, answer)["rougeL"].fmeasure
    assert one(Metric.ROUGE_L, answer, reference) == pytest.approx(expected)


@pytest.mark.parametrize("metric", TEXTUAL)
@given(pairs=TEXTS)
def test_any_score_lies_between_0_and_1(metric: Metric, pairs: list[tuple[str, str]]) -> None:
    assert 0 <= value(metric, [pair[0] for pair in pairs], [pair[1] for pair in pairs]) <= 1


@pytest.mark.parametrize("metric", [metric for metric in TEXTUAL if metric not in (Metric.JSON_VALID,)])
@given(texts=st.lists(st.sampled_from(['{"a": 1}', "{}", "[1, 2]"]), min_size=1, max_size=5))
def test_the_references_themselves_are_right(metric: Metric, texts: list[str]) -> None:
    assert value(metric, texts, texts) == 1


@pytest.mark.parametrize("metric", [*EITHER_WAY, Metric.MACRO_F1])
@given(texts=st.lists(st.text(max_size=30), min_size=1, max_size=5))
def test_the_same_text_is_right(metric: Metric, texts: list[str]) -> None:
    assert value(metric, texts, texts) == 1


@pytest.mark.parametrize("metric", EITHER_WAY)
@given(answer=st.text(max_size=30), reference=st.text(max_size=30))
def test_which_is_the_answer_makes_no_difference(metric: Metric, answer: str, reference: str) -> None:
    assert one(metric, answer, reference) == pytest.approx(one(metric, reference, answer))


@pytest.mark.parametrize("metric", TEXTUAL)
@given(pairs=TEXTS, seed=st.randoms())
def test_the_order_of_rows_makes_no_difference(metric: Metric, pairs: list[tuple[str, str]], seed: object) -> None:
    mixed = list(pairs)
    seed.shuffle(mixed)  # type: ignore[attr-defined]
    scores = [value(metric, [each[0] for each in rows], [each[1] for each in rows]) for rows in (pairs, mixed)]
    assert scores[0] == pytest.approx(scores[1])


class TestWhatFits:
    @pytest.mark.parametrize("metric", [Metric.JSON_VALID, Metric.JSON_FIELDS_F1])
    def test_json_metrics_want_json(self, metric: Metric) -> None:
        assert metrics.fits(metric, ["{}", "[]"]) is None
        assert metrics.fits(metric, ["{}", "flour"]) == "their answers are not all JSON objects or arrays"

    def test_formatting_makes_no_other_rows(self) -> None:
        assert metrics.choose([FENCED, f"<think>hm</think>{FENCED}"])[0][0] == Metric.JSON_FIELDS_F1
        assert metrics.choose(["yes", "Yes.", '"no"', "no", "no"] * 2)[1] == "The answers are 2 labels that recur."

    @pytest.mark.parametrize("metric", [Metric.LABEL_ACCURACY, Metric.MACRO_F1])
    def test_label_metrics_want_labels(self, metric: Metric) -> None:
        assert metrics.fits(metric, ["yes", "no"] * 5) is None
        assert str(metrics.fits(metric, [f"answer {row}" for row in range(20)])).startswith(
            "their answers are no labels"
        )

    @pytest.mark.parametrize(("labels", "rows", "fit"), [(20, 5, True), (21, 5, False), (4, 4, False)])
    def test_labels_are_few_and_recur(self, labels: int, rows: int, fit: bool) -> None:
        references = [f"label {number}" for number in range(labels)] * rows
        assert (metrics.fits(Metric.LABEL_ACCURACY, references) is None) == fit

    def test_whole_sentences_that_recur_are_no_labels(self) -> None:
        assert metrics.fits(Metric.LABEL_ACCURACY, ["one two three four five"] * 5) is None
        assert metrics.fits(Metric.LABEL_ACCURACY, ["one two three four five six"] * 5)

    @pytest.mark.parametrize("metric", [Metric.EXACT_MATCH, Metric.TOKEN_F1, Metric.ROUGE_L])
    def test_metrics_of_text_want_nothing(self, metric: Metric) -> None:
        assert metrics.fits(metric, ["{}", "flour", ""]) is None

    @pytest.mark.parametrize(
        ("references", "first", "why"),
        [
            (['{"a": 1}', "{}"], Metric.JSON_FIELDS_F1, "All answers are JSON."),
            (["yes", "no"] * 5, Metric.LABEL_ACCURACY, "The answers are 2 labels that recur."),
            (["egg, flour", "rice"], Metric.EXACT_MATCH, "Answers are short, 2 words on average."),
            (["word " * 30], Metric.ROUGE_L, "Answers are long, 30 words on average."),
            (["字" * 60], Metric.ROUGE_L, "Answers are long, 30 words on average."),
            (["字" * 30, "典" * 40], Metric.EXACT_MATCH, "Answers are short, 18 words on average."),
            (["退款请求问题", "换货"] * 5, Metric.LABEL_ACCURACY, "The answers are 2 labels that recur."),
        ],
    )
    def test_left_out_they_are_chosen_and_the_reason_said(self, references: list[str], first: Metric, why: str) -> None:
        chosen, reason = metrics.choose(references)
        assert chosen[0] == first
        assert reason == why
        assert all(metrics.fits(metric, references) is None for metric in chosen)


def test_every_metric_is_defined() -> None:
    assert set(DEFINITIONS) == set(Metric)
