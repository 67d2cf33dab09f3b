"""The page: what it says, in which order, and that nothing which a model wrote can run in it."""

import re
from html.parser import HTMLParser

from decisions import CURVE, ROWS, TRIALS, decision, result
from finetune_trainer.contract.config import GateConfig, Metric, Prices
from finetune_trainer.contract.results import Contender, Score
from finetune_trainer.evaluation.advice import Curve
from finetune_trainer.evaluation.decision import again
from finetune_trainer.evaluation.inspection import Learned
from finetune_trainer.evaluation.page import TEXT_LENGTH, render

HEADINGS = [
    "Should you ship it?",
    "How much better, how sure?",
    "What did training cost?",
    "What does a request cost?",
    "What got worse?",
    "What was forgotten?",
    "What to try next",
    "How it was trained and measured",
]
VOID = {"meta", "br", "link"}


class Page(HTMLParser):
    """Its headings, its attributes, and whether every tag is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.headings: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attributes
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "h2":
            self.headings.append(data)


def test_it_answers_a_decision_makers_questions_in_order() -> None:
    text = render(decision())
    assert Page(text).headings == HEADINGS
    assert "Ship it: exact_match 0.670 against 0.610" in text
    assert "By tokens, training is paid back after 3,185 requests" in text
    assert "A table for two at seven" in text


def test_scores_stand_with_their_intervals() -> None:
    assert "<td>0.610 (0.55 to 0.67)</td>" in render(decision())


def test_cut_answers_have_a_column_and_mark_the_score() -> None:
    assert "*" not in render(decision()).split("</style>")[1]
    measured = result()
    tuned = measured.tuned
    cut = tuned.model_copy(update={"requests": tuned.requests.model_copy(update={"cut": 39})})
    text = render(decision(measured.model_copy(update={"tuned": cut})))
    assert "<td>0.670 (0.61 to 0.73) *</td><td>39</td>" in text
    assert "<td>0.610 (0.55 to 0.67)</td><td>0</td>" in text
    assert "More than 2% of the answers were cut" in text


def test_it_needs_nothing_but_itself() -> None:
    text = render(decision())
    page = Page(text)
    assert not {"script", "img", "link", "iframe", "object"} & set(page.tags)
    assert not {"src", "href", "srcset"} & {name for name, _ in page.attributes}
    assert not re.search(r"url\(|@import", text)
    assert "default-src 'none'" in text


def test_what_a_model_wrote_is_text() -> None:
    wrote = "<script>alert(1)</script>"
    row = ROWS[0].model_copy(update={"prompt": wrote, "answers": {"tuned": wrote, "retrieval": wrote}})
    text = render(decision(rows=(row,)))
    assert "script" not in Page(text).tags
    assert "&lt;script&gt;" in text


def test_a_long_answer_is_cut_and_says_so() -> None:
    row = ROWS[0].model_copy(update={"answers": {"tuned": "x" * 5000, "retrieval": ""}})
    text = render(decision(rows=(row,)))
    assert "x" * (TEXT_LENGTH + 1) not in text
    assert "(5000 characters)" in text


def test_rows_for_a_second_look_stand_beside_what_was_learned() -> None:
    learned = Learned(prompt="A table for three at six", reference='{"people": "three"}')
    text = render(decision(similar=lambda row: [learned]))
    assert "A table for three at six" in text
    assert "most like it" in text
    assert "Where do the answers disagree most?" in text
    assert "<dt>retrieval, 1.00</dt>" in text
    assert "most like it" not in render(decision())
    alike = ROWS[2]
    assert "Where do the answers disagree most?" not in render(decision(rows=(alike,)))


def test_prices_show_where_they_are_known() -> None:
    assert "EUR 2.50" in render(decision(prices=Prices(currency="EUR", accelerator_hour=2.5)))
    assert "no price" in render(decision())


def test_what_was_not_measured_is_said() -> None:
    text = render(decision(result(baselines={}, drift=None), curve=Curve(), rows=()))
    assert "Not measured" in text
    assert "No row:" in text
    assert "Loss by step" not in text


def test_a_training_without_validation_has_one_curve() -> None:
    text = render(decision(curve=Curve(loss=CURVE.loss)))
    assert text.count("<polyline") == 1
    assert render(decision()).count("<polyline") == 2


def test_the_chart_and_the_rows_are_by_the_metric_that_the_gate_decides_by() -> None:
    measured = result()
    tuned, *others = (both(each) for each in (measured.tuned, *measured.baselines.values()))
    found = measured.model_copy(
        update={
            "metrics": (Metric.EXACT_MATCH, Metric.TOKEN_F1),
            "tuned": tuned,
            "baselines": dict(zip(measured.baselines, others, strict=True)),
        }
    )
    before = decision(found)
    assert "2 of 200 rows were answered better by a baseline, by exact_match" in render(before)
    text = render(again(before, GateConfig(metric=Metric.TOKEN_F1), Prices()))
    assert "<title>tuned: 0.900 (0.80 to 1.00)</title>" in text
    assert "token_f1 of 200 test rows" in text
    assert "1 of 200 rows were answered better by a baseline, by token_f1" in text


def both(contender: Contender) -> Contender:
    """Measured by token_f1 too."""
    score = Score(score=0.9, low=0.8, high=1)
    measured = contender.comparisons.get(Metric.EXACT_MATCH)
    comparisons = contender.comparisons | ({Metric.TOKEN_F1: measured} if measured else {})
    return contender.model_copy(
        update={
            "scores": contender.scores | {Metric.TOKEN_F1: score},
            "comparisons": comparisons,
        }
    )


def test_it_says_where_the_artifact_is_not_of_the_last_step() -> None:
    sentence = "The artifact has the weights of step 20 of 40"
    assert sentence in render(decision(chosen=sentence))
    assert sentence not in render(decision())


def test_the_trials_of_a_sweep_are_a_table_of_which_the_one_that_was_taken_stands_out() -> None:
    said = render(decision(trials=TRIALS))
    Page(said)
    (caption,) = re.findall('id="trials">([^<]*)<', said)
    assert "the cost is that of all" in caption
    rows = re.findall(r'<tr( class="tuned")?><th scope="row">(\d)</th>(.*?)</tr>', said)
    cells = [[re.sub("<[^>]*>", "", cell) for cell in row[2].split("</td>")[:-1]] for row in rows]
    assert cells[0] == ["8", "0.0001", "-", "-", "-", "Diverged: The loss is &lt;nan&gt;."]
    assert cells[1] == ["32", "0.0003", "0.3100", "30,000", "60", "taken"]
    assert [bool(row[0]) for row in rows] == [False, True]
    assert 'id="trials"' not in render(decision())
