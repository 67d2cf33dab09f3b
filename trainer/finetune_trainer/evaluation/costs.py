"""What the model took to make, what a request to each contender costs, and when the one has paid for the other.

Called by `decision`. Pure. Tokens, time and money each have their say: a shorter prompt may be answered more slowly.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from finetune_trainer.contract.config import Contract, Prices, TokenPrices
from finetune_trainer.contract.results import TUNED, Contender, EvaluateResult, Usage

# Training a token costs as much as serving three: 6N against 2N operations for N parameters (Kaplan et al. 2020,
# "Scaling Laws for Neural Language Models", section 2.1).
TRAINED_TO_SERVED = 3
# What nobody measures.
UNCOUNTED = (
    "Not counted: preparing the data, which holds no accelerator; waiting for pods and images; loading the model to "
    "evaluate it."
)
HOUR, MILLION = 3600, 1_000_000


class Making(Contract):
    """What it took until the verdict. `money` is None without a price or an accelerator.

    `evaluation_hours` are of the engine, and `evaluation_tokens` of all requests that it answered. What baselines with
    endpoints of their own were asked is part of `money`, where that has a price.
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

    None where there is no price, or nothing was measured. `cached_tokens`: those of prompts in the prefix cache.
    `remote`: it keeps none of our accelerators busy, and its tokens are another model's.
    """

    prompt_tokens: float
    completion_tokens: float
    seconds: float | None
    money_by_tokens: float | None
    money_by_time: float | None
    cached_tokens: float | None = None
    remote: bool = False

    @property
    def money(self) -> float | None:
        """By the tokens' prices where there are any: they are the endpoint's."""
        return self.money_by_time if self.money_by_tokens is None else self.money_by_tokens


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
    """Training and evaluation. `accelerators`, of all engines together, were held for the evaluation's `seconds`."""
    hours, measuring = usage.accelerator_seconds / HOUR, seconds * accelerators / HOUR
    ours = (result.tuned, *(each for each in result.baselines.values() if not each.remote))
    tokens = sum((result.rows - each.requests.too_long) * _tokens(each) for each in ours)
    remote = {name: each for name, each in result.baselines.items() if each.remote}
    elsewhere = sum(_by_tokens(each, prices.of(name, remote=True)) or 0 for name, each in remote.items())
    priced = prices.accelerator_hour is not None and hours + measuring > 0
    return Making(
        trained_tokens=usage.trained_tokens,
        hours=usage.seconds / HOUR,
        accelerator_hours=hours,
        evaluation_tokens=round(tokens),
        evaluation_hours=seconds / HOUR,
        evaluation_accelerator_hours=measuring,
        money=(hours + measuring) * (prices.accelerator_hour or 0) + result.rows * elsewhere if priced else None,
    )


def cost(name: str, contender: Contender, prices: Prices, accelerators: int) -> Cost:
    """By the token where tokens have prices, and by the time that requests keep the accelerators busy."""
    took, remote = contender.requests, contender.remote
    money, seconds, by_time = _by_tokens(contender, prices.of(name, remote)), None, None
    if took.requests_per_second and not remote:
        seconds = 1000 / took.requests_per_second * max(1, accelerators)
        if prices.accelerator_hour is not None and accelerators:
            by_time = seconds / HOUR * prices.accelerator_hour
    return Cost(
        prompt_tokens=1000 * took.prompt_tokens,
        completion_tokens=1000 * took.completion_tokens,
        seconds=seconds,
        money_by_tokens=None if money is None else 1000 * money,
        money_by_time=by_time,
        cached_tokens=None if took.cached_tokens is None else 1000 * took.cached_tokens,
        remote=remote,
    )


def _by_tokens(contender: Contender, prices: TokenPrices) -> float | None:
    """What the tokens of a request cost; those of the prefix cache as much as others where they have no price."""
    full, completion = prices.million_prompt_tokens, prices.million_completion_tokens
    if full is None and completion is None:
        return None
    took, reduced = contender.requests, prices.million_cached_tokens
    cached = took.cached_tokens or 0
    prompt = (took.prompt_tokens - cached) * (full or 0) + cached * ((full or 0) if reduced is None else reduced)
    return (prompt + took.completion_tokens * (completion or 0)) / MILLION


def cached(costs: Mapping[str, Cost], prices: Prices) -> str | None:
    """What the prefix cache had of the prompts, as a sentence; None where no engine tells of any."""
    told = {name: each for name, each in costs.items() if each.cached_tokens}
    if not told:
        return None
    sentence = "Cached tokens of a prompt stood in the prefix cache, as the engine reports it"
    full = [
        name
        for name, each in told.items()
        if each.money_by_tokens is not None and prices.of(name, each.remote).million_cached_tokens is None
    ]
    if not full:
        return f"{sentence}."
    return f"{sentence}. Those of {' and '.join(full)} count at the full price: no other is given."


def break_even(
    made: Making, costs: Mapping[str, Cost], best: str | None, accelerators: int, currency: str
) -> tuple[BreakEven, ...]:
    """In tokens, in time and in money, as far as each is known. `accelerators` serve."""
    if best is None:
        return ()
    tuned, other = costs[TUNED], costs[best]
    ways = [_tokens_back(made, tuned, other), _money_back(made, tuned, other, currency)]
    # Hours of accelerators and of machines without any don't compare.
    if bool(made.accelerator_hours) == bool(accelerators):
        ways.insert(1, _time_back(made, tuned, other))
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


def _tokens_back(made: Making, tuned: Cost, other: Cost) -> _Way | None:
    if other.remote:
        return None
    spent = TRAINED_TO_SERVED * made.trained_tokens + made.evaluation_tokens
    takes, would = ((each.prompt_tokens + each.completion_tokens) / 1000 for each in (tuned, other))
    return _Way(By.TOKENS, spent, takes, would, lambda tokens: f"{1000 * tokens:,.0f} tokens")


def _time_back(made: Making, tuned: Cost, other: Cost) -> _Way | None:
    if not tuned.seconds or not other.seconds:
        return None
    hours = made.accelerator_hours + made.evaluation_accelerator_hours or made.hours + made.evaluation_hours
    takes, would = tuned.seconds / 1000, other.seconds / 1000
    return _Way(By.TIME, hours * HOUR, takes, would, lambda seconds: f"{1000 * seconds:,.0f} s")


def _money_back(made: Making, tuned: Cost, other: Cost, currency: str) -> _Way | None:
    takes, would = tuned.money, other.money
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
