"""What a decision-maker reads: ship it or not, what it costs, what got worse, what next."""

import json
from pathlib import Path

import pytest
from decisions import CURVE, ROWS, contender, decision, result, sure_of
from finetune_trainer.contract.config import GateConfig, Metric, Prices
from finetune_trainer.contract.results import Contender, EvaluateResult, Score
from finetune_trainer.evaluation.advice import Curve
from finetune_trainer.evaluation.cut import marked
from finetune_trainer.evaluation.decision import Decision, again, curve
from finetune_trainer.evaluation.inspection import Row
from finetune_trainer.evaluation.standing import Recommendation


class TestShouldItShip:
    def test_a_clear_winner_ships(self) -> None:
        found = decision()
        assert found.recommendation == Recommendation.SHIP
        assert found.headline == (
            "Ship it: exact_match 0.670 against 0.610 of the best baseline, retrieval, a difference between +0.010 and "
            "+0.110."
        )

    def test_a_loser_does_not_and_the_winner_is_named(self) -> None:
        found = decision(result(0.6))
        assert found.recommendation == Recommendation.KEEP
        assert found.headline.startswith("Don't ship it: it is no better.")
        assert found.headline.endswith("Use retrieval on the base model instead.")

    def test_a_lead_within_the_noise_is_not_clear(self) -> None:
        found = decision(result(0.63))
        assert found.recommendation == Recommendation.UNSURE
        assert "a difference between -0.030 and +0.070" in found.headline

    def test_a_winner_below_the_gate_does_not_ship(self) -> None:
        found = decision(gate=GateConfig(minimum=0.9))
        assert found.recommendation == Recommendation.KEEP
        assert found.headline.startswith("Don't ship it: it misses the gate, though it is better")
        assert not found.verdict.passed

    def test_an_unclear_one_that_the_gate_refuses_does_not_ship(self) -> None:
        found = decision(result(0.63), gate=GateConfig())
        assert found.recommendation == Recommendation.KEEP
        assert found.headline.startswith("Don't ship it: it misses the gate, and may not even be better")
        assert found.headline.endswith("Evaluate on more rows than 200, or use retrieval.")

    @pytest.mark.parametrize(
        ("gate", "answer"),
        [
            (None, Recommendation.UNSURE),
            (GateConfig(minimum=0.5), Recommendation.SHIP),
            (GateConfig(minimum=0.9), Recommendation.KEEP),
        ],
    )
    def test_compared_with_nothing_the_gate_decides(self, gate: GateConfig | None, answer: Recommendation) -> None:
        assert decision(result(baselines={}), gate=gate).recommendation == answer

    def test_another_gate_is_decided_without_measuring(self) -> None:
        found = again(decision(), GateConfig(minimum=0.9), Prices(accelerator_hour=2))
        assert (found.recommendation, found.verdict.passed) == (Recommendation.KEEP, False)
        assert found.making.money == 2
        assert found.result == decision().result


class TestCutAnswers:
    def cut(self, contender: Contender, cut: int) -> Contender:
        return contender.model_copy(update={"requests": contender.requests.model_copy(update={"cut": cut})})

    def decided(self, found: EvaluateResult, gate: GateConfig | None = None, **cuts: int) -> Decision:
        tuned = self.cut(found.tuned, cuts.get("tuned", 0))
        others = {name: self.cut(each, cuts.get(name, 0)) for name, each in found.baselines.items()}
        return decision(found.model_copy(update={"tuned": tuned, "baselines": others}), gate)

    def test_a_winner_over_cut_answers_is_not_clear(self) -> None:
        found = self.decided(result(), retrieval=13)
        assert found.recommendation == Recommendation.UNSURE
        assert found.headline.startswith("Not clear: exact_match 0.670")
        assert found.headline.endswith(
            "But 13 of 200 answers of retrieval were cut, and right ones might have been no worse than the tuned "
            "model. Set evaluation.maxAnswerTokens, or raise hosting.contextLength."
        )

    def test_one_that_wins_whatever_was_cut_ships(self) -> None:
        assert self.decided(result(), retrieval=11).recommendation == Recommendation.SHIP

    @pytest.mark.parametrize("metric", [Metric.INVERSE_PERPLEXITY, Metric.REWARD_ACCURACY])
    def test_no_likelihood_hangs_on_answers(self, metric: Metric) -> None:
        tuned = self.cut(result().tuned, 200)
        assert marked(tuned, 200, Metric.EXACT_MATCH)
        assert not marked(tuned, 200, metric)

    def test_a_few_cut_answers_are_as_good_as_none(self) -> None:
        assert self.decided(result(0.615), gate=None, retrieval=4).headline == decision(result(0.615)).headline

    def test_any_baseline_that_was_cut_counts(self) -> None:
        assert self.decided(result(), **{"zero-shot": 140}).recommendation == Recommendation.UNSURE

    def test_a_loser_whose_answers_were_cut_is_not_clear(self) -> None:
        assert self.decided(result(0.6), tuned=5).recommendation == Recommendation.UNSURE
        assert self.decided(result(0.3), tuned=5).recommendation == Recommendation.KEEP

    def test_nor_is_a_missed_gate(self) -> None:
        found = self.decided(result(), GateConfig(minimum=0.7), tuned=40)
        assert found.recommendation == Recommendation.UNSURE
        assert "40 of 200 answers of the tuned model were cut" in found.headline


class TestWhatItCosts:
    def paid_back(self, found: Decision) -> dict[str, int | None]:
        return {each.by.value: each.requests for each in found.break_even}

    def test_training_is_paid_by_the_accelerators_hour(self) -> None:
        assert decision(prices=Prices(accelerator_hour=2.5), accelerator_seconds=7200).making.money == 5
        assert decision(prices=Prices(accelerator_hour=2.5), accelerator_seconds=0).making.money is None
        assert decision().making.money is None

    def test_so_is_the_evaluation_which_holds_those_that_serve(self) -> None:
        found = decision(prices=Prices(accelerator_hour=2.5), accelerators=4, seconds=1800)
        assert found.making.evaluation_accelerator_hours == 2
        assert found.making.money == 2.5 + 5
        # 200 rows, of each contender its prompt and 12 tokens of answer.
        assert found.making.evaluation_tokens == 200 * (73 + 73 + 173 + 203 + 4 * 12)

    def test_an_engine_for_the_base_model_is_held_beside_it_and_serves_nobody(self) -> None:
        prices = Prices(accelerator_hour=2.5)
        found = decision(prices=prices, accelerators=4, seconds=1800, base_alone=True)
        assert found.making.evaluation_accelerator_hours == 4
        assert found.making.money == 2.5 + 10
        assert found.costs == decision(prices=prices, accelerators=4, seconds=1800).costs
        assert again(found, None, prices, accelerators=1).making.evaluation_accelerator_hours == 1

    def test_requests_are_paid_by_the_token_and_by_the_time_that_they_keep_accelerators_busy(self) -> None:
        prices = Prices(accelerator_hour=3.6, million_prompt_tokens=1, million_completion_tokens=10)
        found = decision(prices=prices, accelerators=2).costs
        assert found["tuned"].prompt_tokens == 73_000
        assert found["tuned"].money_by_tokens == pytest.approx(0.073 + 0.12)
        assert found["retrieval"].money_by_tokens == pytest.approx(0.203 + 0.12)
        # 73 s for a thousand requests, on two accelerators at a thousandth a second each.
        assert found["tuned"].money_by_time == pytest.approx(0.146)

    def test_without_accelerators_time_has_no_price(self) -> None:
        found = decision(prices=Prices(accelerator_hour=3.6), accelerators=0).costs["tuned"]
        assert (found.money_by_time, found.money_by_tokens) == (None, None)
        assert found.seconds == pytest.approx(73)

    def test_training_is_paid_back_in_tokens_time_and_money_each_by_itself(self) -> None:
        found = decision(prices=Prices(accelerator_hour=1.3, million_prompt_tokens=1))
        assert self.paid_back(found) == {
            # 3 x 100,000 and the 114,000 of the evaluation, over 130 less on each request.
            "tokens": 3185,
            # An hour, over 0.13 s less on each.
            "time": 27693,
            # 1.3 for training; 130 prompt tokens less on each request.
            "money": 10_000,
        }
        assert found.break_even[0].told == (
            "By tokens, training is paid back after 3,185 requests: a thousand requests take 85,000 tokens of the "
            "tuned model and 215,000 tokens of retrieval."
        )

    def test_without_a_price_for_tokens_money_follows_time(self) -> None:
        assert self.paid_back(decision(prices=Prices(accelerator_hour=9)))["money"] == 27693
        assert "money" not in self.paid_back(decision())

    def test_a_model_that_saves_tokens_and_serves_more_slowly_is_never_paid_back_by_time(self) -> None:
        slow = contender(0.67, 73)
        slow = slow.model_copy(update={"requests": slow.requests.model_copy(update={"requests_per_second": 2.0})})
        found = decision(result(tuned=slow))
        assert self.paid_back(found) == {"tokens": 3185, "time": None}
        assert found.break_even[1].told == (
            "By time, training is never paid back: a thousand requests take 500 s of the tuned model and 203 s of "
            "retrieval."
        )

    def test_a_baseline_that_is_as_cheap_is_never_paid_back(self) -> None:
        found = decision(result(baselines={"zero-shot": contender(0.5, 73, tuned=0.67)}))
        assert set(self.paid_back(found).values()) == {None}
        assert found.break_even[0].told == (
            "By tokens, training is never paid back: a thousand requests take 85,000 tokens of the tuned model and "
            "85,000 tokens of zero-shot."
        )

    def test_hours_of_accelerators_and_of_machines_without_any_are_not_compared(self) -> None:
        assert set(self.paid_back(decision(accelerators=0, seconds=60))) == {"tokens"}

    def test_compared_with_nothing_nothing_is_saved(self) -> None:
        assert decision(result(baselines={})).break_even == ()


class TestTheEvidence:
    def rows(self, wins: int, losses: int) -> tuple[Row, ...]:
        scores = [(1.0, 0.0)] * wins + [(0.0, 1.0)] * losses + [(1.0, 1.0)] * (200 - wins - losses)
        return tuple(
            ROWS[0].model_copy(update={"scores": {Metric.EXACT_MATCH: {"tuned": ours, "retrieval": theirs}}})
            for ours, theirs in scores
        )

    def test_rows_won_and_lost_the_exact_test_and_the_smallest_difference(self) -> None:
        found = decision(sure_of(0.015, 0), rows=self.rows(3, 0))
        assert found.recommendation == Recommendation.UNSURE
        assert found.evidence == (
            "Against retrieval it has won 3 rows and lost 0 (McNemar's exact test: p = 0.25). On these 200 rows a "
            "difference of less than 0.025 could not be told from none."
        )

    def test_of_rows_that_are_half_right_the_bootstrap_says_it(self) -> None:
        assert decision().evidence == (
            "Against retrieval it has won 0 rows and lost 2. On these 200 rows a difference of less than 0.040 "
            "could not be told from none."
        )


def test_what_got_worse_comes_worst_first() -> None:
    found = decision()
    assert found.inspection.worse == 2
    assert [row.lost for row in found.inspection.regressions] == [1.0, 0.33]
    assert found.inspection.regressions[0].baseline == "retrieval"
    assert found.inspection.regressions[0].answer == "{}"


class TestWhatNext:
    def advice(self, found: Decision) -> str:
        return " ".join(found.advice)

    def test_a_falling_loss_asks_for_more_steps(self) -> None:
        falling = Curve(loss=tuple((step, 2 - step / 50) for step in range(1, 51)))
        assert "still falling at the end" in self.advice(decision(curve=falling))
        assert "still falling" not in self.advice(decision())

    def test_a_rising_validation_loss_is_overfitting(self) -> None:
        rising = Curve(loss=CURVE.loss, validation_loss=((10, 0.4), (20, 0.5), (40, 0.9)))
        assert "Overfitting: the validation loss ended at 0.900, after 0.400 at its lowest" in self.advice(
            decision(curve=rising)
        )

    def test_a_training_loss_far_below_validation_is_overfitting(self) -> None:
        apart = Curve(loss=CURVE.loss, validation_loss=((40, 0.6),))
        assert "with a training loss of 0.300" in self.advice(decision(curve=apart))
        near = Curve(loss=CURVE.loss, validation_loss=((40, 0.4),))
        assert "Overfitting" not in self.advice(decision(curve=near))

    def test_a_small_lead_is_told_to_be_weighed_against_its_cost(self) -> None:
        assert "better than retrieval by no more than 0.015" in self.advice(decision(sure_of(0.015)))
        assert "no more than" not in self.advice(decision())

    def test_a_wide_interval_asks_for_more_rows(self) -> None:
        few = result(rows=20, tuned=contender(0.67, 73, half=0.2))
        assert "about 320 test rows in place of 20" in self.advice(decision(few))

    def test_leaked_rows_prompts_that_did_not_fit_and_drift_are_told(self) -> None:
        tight = contender(0.67, 73)
        tight = tight.model_copy(update={"requests": tight.requests.model_copy(update={"too_long": 3})})
        drift = Score(score=0.8, low=0.7, high=0.9)
        told = self.advice(decision(result(leaked=2, near_duplicates=1, tuned=tight, drift=drift)))
        assert "3 test rows also stand in train (2 exactly, 1 nearly)" in told
        assert "did not fit the context whole (3 of the tuned model)" in told
        assert "(drift 0.80)" in told

    def test_silence_is_said(self) -> None:
        assert decision().advice == ("Nothing in the measurements suggests another try.",)
        assert decision(result(0.6)).advice == (
            "No measurement says what would help: look at the rows that got worse, and at what train lacks of them.",
        )


def test_the_curve_is_read_from_what_train_left(tmp_path: Path) -> None:
    lines = [{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0, "validationLoss": 1.5}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert curve(tmp_path / "metrics.jsonl") == Curve(loss=((1, 2.0), (2, 1.0)), validation_loss=((2, 1.5),))
    assert curve(tmp_path / "none.jsonl") == Curve()


def test_the_report_survives_its_file() -> None:
    found = decision(gate=GateConfig(metric=Metric.EXACT_MATCH, minimum=0.5))
    assert Decision.model_validate_json(found.model_dump_json(by_alias=True)) == found


def test_no_path_of_the_users_machine_is_in_it() -> None:
    assert "anna" not in decision().model_dump_json()
