"""The report as one page of HTML that needs nothing but itself: no script, no font, no image from elsewhere.

Called by `stages.evaluate`, which writes it beside report.json, and by `finetune report`. What models and
users wrote is escaped.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined

from finetune_trainer.contract.results import TUNED, Contender, Score
from finetune_trainer.evaluation.benchmarks import told
from finetune_trainer.evaluation.costs import UNCOUNTED, amount, cached
from finetune_trainer.evaluation.cut import NOTE, marked
from finetune_trainer.evaluation.decision import Decision
from finetune_trainer.evaluation.definitions import DEFINITIONS, NORMALISED, unmeasured
from finetune_trainer.evaluation.trials import trial_rows

# A longer text is cut, and says so.
TEXT_LENGTH = 600
# The curve's own units; the page scales it.
WIDTH, HEIGHT = 600, 160


@dataclass(frozen=True)
class Span:
    """A score and its interval on an axis from 0 to 1, in percent of its length."""

    name: str
    text: str
    at: float
    low: float
    high: float


@dataclass(frozen=True)
class Bar:
    """A length, in percent of the longest."""

    name: str
    text: str
    length: float


@dataclass(frozen=True)
class Polyline:
    """A curve as the points of an SVG polyline, where it ends, and its last value."""

    name: str
    points: str
    end: str
    last: float


def render(decision: Decision) -> str:
    """The page."""
    result = decision.result
    contenders = {TUNED: result.tuned, **result.baselines}
    return _ENVIRONMENT.get_template("page.html.jinja").render(
        decision=decision,
        result=result,
        contenders=contenders,
        metric=decision.metric,
        definitions={metric.value: DEFINITIONS[metric] for metric in result.metrics},
        normalised=NORMALISED,
        spans=_spans(contenders, decision),
        bars=_bars(contenders),
        lines=_lines(decision),
        highest=max((loss for _, loss in _points(decision)), default=0.0),
        steps=max((step for step, _ in _points(decision)), default=0),
        tuned=TUNED,
        uncounted=UNCOUNTED,
        money=lambda money: amount(money, decision.prices.currency),
        shortened=_cut,
        cut_note=NOTE,
        marked=lambda contender, metric: marked(contender, result.rows, metric),
        interval=_interval,
        cached=cached(decision.costs, decision.prices),
        unmeasured=unmeasured(result),
        benchmarks=told(result.benchmarks),
        trials=trial_rows(decision.trials),
        remote={name: found.model for name, found in result.baselines.items() if found.remote},
    )


def _spans(contenders: dict[str, Contender], decision: Decision) -> list[Span]:
    scores = {name: each.scores[decision.metric] for name, each in contenders.items() if decision.metric in each.scores}
    return [
        Span(name, _interval(found), 100 * found.score, 100 * found.low, 100 * found.high)
        for name, found in scores.items()
    ]


def _bars(contenders: dict[str, Contender]) -> list[Bar]:
    tokens = {name: contender.requests.prompt_tokens for name, contender in contenders.items()}
    longest = max(tokens.values()) or 1
    return [Bar(name, f"{found:.0f}", 100 * found / longest) for name, found in tokens.items()]


def _points(decision: Decision) -> list[tuple[int, float]]:
    return [*decision.curve.loss, *decision.curve.validation_loss]


def _lines(decision: Decision) -> list[Polyline]:
    every = _points(decision)
    if not every:
        return []
    steps, highest = max(step for step, _ in every) or 1, max(loss for _, loss in every) or 1

    def line(name: str, curve: Sequence[tuple[int, float]]) -> Polyline:
        places = [f"{WIDTH * step / steps:.1f},{HEIGHT * (1 - loss / highest):.1f}" for step, loss in curve]
        return Polyline(name, " ".join(places), places[-1], curve[-1][1])

    named = (("training", decision.curve.loss), ("validation", decision.curve.validation_loss))
    return [line(name, curve) for name, curve in named if curve]


def _interval(score: Score) -> str:
    return f"{score.score:.3f} ({score.low:.2f} to {score.high:.2f})"


def _cut(text: str) -> str:
    return text if len(text) <= TEXT_LENGTH else f"{text[:TEXT_LENGTH]}… ({len(text)} characters)"


_ENVIRONMENT = Environment(
    loader=PackageLoader("finetune_trainer.evaluation", "."),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
