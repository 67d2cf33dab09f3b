"""What a report reckons beside the base model: another model's prices, and the prefix cache's."""

import pytest
from decisions import contender, decision, result
from finetune_trainer.contract.config import Prices, TokenPrices
from finetune_trainer.evaluation.costs import cached
from finetune_trainer.evaluation.decision import Decision
from finetune_trainer.evaluation.page import render


class TestAModelBehindAnEndpoint:
    """Its tokens, its speed and its prices are its own."""

    PRICES = Prices(
        accelerator_hour=3.6,
        endpoints={"gpt": TokenPrices(million_prompt_tokens=10, million_completion_tokens=100)},
    )

    def found(self, score: float = 0.61, prices: Prices = PRICES) -> Decision:
        other = contender(score, 100, 0.67).model_copy(update={"model": "gpt-9"})
        return decision(result(baselines={"zero-shot": contender(0.2, 73, 0.67), "gpt": other}), prices=prices)

    def test_the_winner_is_named_and_not_called_the_base_model(self) -> None:
        assert self.found(0.7).headline.endswith("Use gpt instead.")

    def test_it_costs_its_own_price_and_keeps_no_accelerator_busy(self) -> None:
        found = self.found().costs["gpt"]
        assert found.money_by_tokens == pytest.approx(1 + 1.2)
        assert (found.seconds, found.money_by_time) == (None, None)
        assert self.found(prices=Prices(million_prompt_tokens=1)).costs["gpt"].money_by_tokens is None

    def test_what_it_was_asked_is_paid_and_is_no_work_of_ours(self) -> None:
        made = self.found().making
        assert made.evaluation_tokens == 200 * 2 * (73 + 12)
        assert made.money == pytest.approx(3.6 + 200 * 0.0022)

    def test_training_is_paid_back_in_money_alone(self) -> None:
        (found,) = self.found().break_even
        # 3.6 and the 0.44 of the evaluation, over 0.0022 less 0.073 s of an accelerator.
        assert (found.by.value, found.requests) == ("money", 1900)
        assert "USD 0.073 of the tuned model and USD 2.20 of gpt" in found.told

    def test_without_its_price_nobody_can_say_when(self) -> None:
        found = self.found(prices=Prices(accelerator_hour=3.6))
        assert found.break_even == ()
        assert "Without prices nobody can say when training is paid back against gpt." in render(found)


class TestThePrefixCache:
    def found(self, prices: Prices) -> Decision:
        tuned = contender(0.67, 73)
        tuned = tuned.model_copy(update={"requests": tuned.requests.model_copy(update={"cached_tokens": 43.0})})
        return decision(result(tuned=tuned), prices=prices)

    def test_what_it_has_costs_its_own_price(self) -> None:
        found = self.found(Prices(million_prompt_tokens=10, million_cached_tokens=1))
        assert found.costs["tuned"].money_by_tokens == pytest.approx((30 * 10 + 43 * 1) / 1000)
        assert cached(found.costs, found.prices) == (
            "Cached tokens of a prompt stood in the prefix cache, as the engine reports it."
        )

    def test_without_one_it_costs_as_much_as_the_rest_and_that_is_said(self) -> None:
        found = self.found(Prices(million_prompt_tokens=10))
        assert found.costs["tuned"].money_by_tokens == pytest.approx(0.73)
        assert str(cached(found.costs, found.prices)).endswith(
            "Those of tuned count at the full price: no other is given."
        )

    def test_an_engine_that_tells_of_none_is_not_talked_of(self) -> None:
        found = decision(prices=Prices(million_prompt_tokens=10))
        assert cached(found.costs, found.prices) is None
        assert ">cached<" not in render(found)
