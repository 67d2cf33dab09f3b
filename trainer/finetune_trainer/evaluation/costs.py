"""What the model took to make, what a request to each contender costs, and when the one has paid for the other.

Called by `decision`. Pure. Tokens, time and money each have their say: a shorter prompt may be answered more slowly.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from finetune_trainer.contract.config import Contract, Prices
from finetune_trainer.contract.report import Contender, EvaluateResult, Usage
from finetune_trainer.evaluation.inspection import TUNED

# Training a token costs as much as serving three: 6N against 2N operations for N parameters (Kaplan et al. 2020,
# "Scaling Laws for Neural Language Models", section 2.1).
TRAINED_TO_SERVED = 3
# What nobody measures.
UNCOUNTED = (
    "Not counted: preparing the data, which holds no accelerator; tries that failed before a checkpoint; waiting for "
    "pods and images, and loading the model."
)
HOUR, MILLION = 3600, 1_000_000


class Making(Contract):
    """What it took until the verdict. `money` is None without a price or an accelerator.

    `evaluation_hours` are of the engine, and `evaluation_tokens` of all contenders' requests.
    """

    trained_tokens: int
    hours: float
    accelerator_hours: float
    evaluation_tokens: int
    evaluation_hours: float
    evaluation_accelerator_hours: float
    money: float | None


class Cost(Contract):
    """A thousand requests to one contender. `seconds`: of all accelerators that serve, or of the machine without any.

    None where there is no price, or nothing was measured.
    """

    prompt_tokens: float
    completion_tokens: float
    seconds: float | None
    money_by_tokens: float | None
    money_by_time: float | None


class By(StrEnum):
    """What is reckoned in."""

    TOKENS = "tokens"
    TIME = "time"
    MONEY = "money"


class BreakEven(Contract):
    """After how many requests training is paid back against the best baseline; None: never. `told`: as a sentence."""

    by: By
    requests: int | None
    told: str


def making(result: EvaluateResult, usage: Usage, prices: Prices, accelerators: int, seconds: float) -> Making:
    """Training and evaluation. `accelerators` serve, and were held for the evaluation's `seconds`."""
    hours, measuring = usage.accelerator_seconds / HOUR, seconds * accelerators / HOUR
    asked = (result.tuned, *result.baselines.values())
    tokens = sum((result.rows - each.requests.too_long) * _tokens(each) for each in asked)
    priced = prices.accelerator_hour is not None and hours + measuring > 0
    return Making(
        trained_tokens=usage.trained_tokens,
        hours=usage.seconds / HOUR,
        accelerator_hours=hours,
        evaluation_tokens=round(tokens),
        evaluation_hours=seconds / HOUR,
        evaluation_accelerator_hours=measuring,
        money=(hours + measuring) * (prices.accelerator_hour or 0) if priced else None,
    )


def cost(contender: Contender, prices: Prices, accelerators: int) -> Cost:
    """By the token where tokens have prices, and by the time that requests keep the accelerators busy."""
    took = contender.requests
    prompt, completion = 1000 * took.prompt_tokens, 1000 * took.completion_tokens
    seconds = 1000 / took.requests_per_second * max(1, accelerators) if took.requests_per_second else None
    by_tokens = by_time = None
    if prices.million_prompt_tokens is not None or prices.million_completion_tokens is not None:
        by_tokens = prompt * (prices.million_prompt_tokens or 0) + completion * (prices.million_completion_tokens or 0)
        by_tokens /= MILLION
    if prices.accelerator_hour is not None and accelerators and seconds is not None:
        by_time = seconds / HOUR * prices.accelerator_hour
    return Cost(
        prompt_tokens=prompt,
        completion_tokens=completion,
        seconds=seconds,
        money_by_tokens=by_tokens,
        money_by_time=by_time,
    )


def break_even(
    made: Making, costs: Mapping[str, Cost], best: str | None, accelerators: int, currency: str
) -> tuple[BreakEven, ...]:
    """In tokens, in time and in money, as far as each is known. `accelerators` serve."""
    if best is None:
        return ()
    tuned, other = costs[TUNED], costs[best]
    ways = [_by_tokens(made, tuned, other), _by_money(made, tuned, other, currency)]
    # Hours of accelerators and of machines without any don't compare.
    if bool(made.accelerator_hours) == bool(accelerators):
        ways.insert(1, _by_time(made, tuned, other))
    return tuple(_paid_back(way, best) for way in ways if way)


def amount(money: float | None, currency: str) -> str:
    """Two digits behind the point, and of less than one as many as show something."""
    if money is None:
        return "no price"
    return f"{currency} {money:,.2f}" if money >= 1 or money == 0 else f"{currency} {money:.2g}"


@dataclass(frozen=True)
class _Way:
    """What it is reckoned in, what training took of it, what a request `takes`, and to the baseline `would` take."""

    by: By
    spent: float
    takes: float
    would: float
    told: Callable[[float], str]


def _by_tokens(made: Making, tuned: Cost, other: Cost) -> _Way:
    spent = TRAINED_TO_SERVED * made.trained_tokens + made.evaluation_tokens
    takes, would = ((each.prompt_tokens + each.completion_tokens) / 1000 for each in (tuned, other))
    return _Way(By.TOKENS, spent, takes, would, lambda tokens: f"{1000 * tokens:,.0f} tokens")


def _by_time(made: Making, tuned: Cost, other: Cost) -> _Way | None:
    if not tuned.seconds or not other.seconds:
        return None
    hours = made.accelerator_hours + made.evaluation_accelerator_hours or made.hours + made.evaluation_hours
    takes, would = tuned.seconds / 1000, other.seconds / 1000
    return _Way(By.TIME, hours * HOUR, takes, would, lambda seconds: f"{1000 * seconds:,.0f} s")


def _by_money(made: Making, tuned: Cost, other: Cost, currency: str) -> _Way | None:
    """By the tokens' prices where there are any: they are the endpoint's."""
    takes, would = tuned.money_by_tokens, other.money_by_tokens
    if takes is None or would is None:
        takes, would = tuned.money_by_time, other.money_by_time
    if made.money is None or takes is None or would is None:
        return None
    return _Way(By.MONEY, made.money, takes / 1000, would / 1000, lambda money: amount(1000 * money, currency))


def _paid_back(way: _Way, best: str) -> BreakEven:
    saved = way.would - way.takes
    told = f"a thousand requests take {way.told(way.takes)} of the tuned model and {way.told(way.would)} of {best}"
    # A saving that is lost in rounding is none.
    if saved <= 1e-9 * way.would:
        return BreakEven(by=way.by, requests=None, told=f"By {way.by.value}, training is never paid back: {told}.")
    requests = -int(-way.spent // saved)
    after = f"By {way.by.value}, training is paid back after {requests:,} requests"
    return BreakEven(by=way.by, requests=requests, told=f"{after}: {told}.")


def _tokens(contender: Contender) -> float:
    return contender.requests.prompt_tokens + contender.requests.completion_tokens
