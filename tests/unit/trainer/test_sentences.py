"""No two sentences of a report contradict each other, whatever came out: the space of outcomes is walked.

Each sentence is read as claims (`READ`); one that makes none that is known here has to be read first.
"""

import itertools
import re
from dataclasses import dataclass

import pytest
from decisions import BOUNDS, CURVE, contender, decision, result
from finetune_trainer.contract.config import GateConfig, Metric, Prices
from finetune_trainer.contract.results import EvaluateResult
from finetune_trainer.evaluation.advice import Curve
from finetune_trainer.evaluation.decision import Decision

FIRST = Metric.EXACT_MATCH
BASELINES = ("zero-shot", "few-shot", "retrieval")
# By how much the tuned model leads, and by how much it surely does.
LEADS = {
    "wins": (0.06, 0.02),
    "hardly wins": (0.015, 0.002),
    "unclear": (0.03, -0.01),
    "ties": (0.0, -0.04),
    "loses": (-0.1, -0.14),
}
GATES = {
    "no gate": None,
    "a gate": GateConfig(),
    "a low one": GateConfig(minimum=0.1, margin=-0.5),
    "a high one": GateConfig(minimum=0.99),
    "an unsure one": GateConfig(confidence=0.8),
    "one by another metric": GateConfig(metric=Metric.TOKEN_F1, margin=0.05),
}
COSTS = {"cheaper": (300, 1.0), "dearer": (20, 1.0), "cheaper and slower": (300, 40.0), "alike": (73, 13.7)}
PRICES = {"no prices": Prices(), "prices": Prices(accelerator_hour=2, million_prompt_tokens=1)}
CURVES = {
    "settled": CURVE,
    "falling": Curve(loss=tuple((step, 2 - step / 50) for step in range(1, 51))),
    "overfitted": Curve(loss=CURVE.loss, validation_loss=((10, 0.4), (40, 0.9))),
}
# What a sentence says, by a part of it. `not X` contradicts `X`; one of a pair `use A`, `use B` contradicts the other.
READ = {
    r"^Ship it": {"ship", "better or alone"},
    r"^Don't ship it": {"not ship"},
    r"^Not clear": {"not ship", "unsure"},
    r"it is no better": {"not better"},
    r"may not even be better|may not be better": {"not surely better"},
    r"though it is better": {"better"},
    r"It is better than (\S+) by no more than 0": {"better"},
    r"[Uu]se (\S+?)( on the base model)?( instead)?\.$": {"use {}"},
    r"best baseline, (\S+?)[.,:;]": {"best {}"},
    r"better than (\S+) by no more than": {"best {}"},
    r"more rows than": {"not surely better", "more rows"},
    r"misses the gate|It misses gate|gate\.margin asks": {"not gate"},
    r"The gate is met|No gate was set|the gate allows": {"gate"},
    r"Nothing in the measurements suggests another try": {"not again"},
    r"No measurement says what would help": {"again"},
    r"train more steps": {"again", "more steps"},
    r"Train fewer epochs": {"again", "not more steps"},
    r"a difference of less than (\S+) could not be told": {"smallest"},
    r"^By (\S+), training is paid back": {"saves {}"},
    r"^By (\S+), training is never": {"not saves {}"},
    r"of the tuned model and .* of (\S+)\.$": {"best {}"},
    r"wide: about": {"more rows"},
}


@dataclass(frozen=True)
class Case:
    lead: str
    best: str
    gate: str
    cost: str
    prices: str
    curve: str

    def decision(self) -> Decision:
        return decision(self.result(), GATES[self.gate], PRICES[self.prices], curve=CURVES[self.curve], rows=())

    def result(self) -> EvaluateResult:
        difference, bound = LEADS[self.lead]
        tokens, speed = COSTS[self.cost]
        metrics = (Metric.EXACT_MATCH, Metric.TOKEN_F1)
        # By token_f1, which is one gate's, it is the other way round: a sentence by exact_match is caught.
        other = 0.0 if difference <= 0 else 0.65
        found = {}
        for name in BASELINES:
            score = 0.7 - difference if name == self.best else 0.2
            measured = contender(score, tokens, 0.7)
            compared = measured.comparisons[FIRST]
            if name == self.best:
                compared = compared.model_copy(update={"bounds": dict.fromkeys(BOUNDS, bound) | {"0.8": bound + 0.015}})
            far = contender(other, tokens, 0.7)
            requests = measured.requests.model_copy(update={"requests_per_second": speed})
            found[name] = measured.model_copy(
                update={
                    "scores": dict(
                        zip(metrics, (each.scores[Metric.EXACT_MATCH] for each in (measured, far)), strict=True)
                    ),
                    "comparisons": dict(zip(metrics, (compared, far.comparisons[Metric.EXACT_MATCH]), strict=True)),
                    "requests": requests,
                }
            )
        tuned = contender(0.7, 73)
        tuned = tuned.model_copy(update={"scores": dict.fromkeys(metrics, tuned.scores[FIRST])})
        return result(metrics=metrics, tuned=tuned, baselines=found)


CASES = [Case(*found) for found in itertools.product(LEADS, BASELINES, GATES, COSTS, PRICES, CURVES)]


def sentences(found: Decision) -> list[str]:
    return [found.headline, found.evidence, found.verdict.message, *costs(found), *found.advice]


def costs(found: Decision) -> list[str]:
    return [each.told for each in found.break_even]


def claims(sentence: str) -> set[str]:
    read = {
        claim.format(*match.groups())
        for pattern, made in READ.items()
        for match in [re.search(pattern, sentence)]
        if match
        for claim in made
    }
    assert read, f"what does this say? {sentence}"
    return read


def contradiction(one: set[str], other: set[str]) -> str | None:
    for claim in one:
        if f"not {claim}" in other or claim.removeprefix("not ") in other - one - {claim}:
            return claim
        kind, _, name = claim.partition(" ")
        if kind in ("use", "best") and any(
            said.startswith(("use ", "best ")) and said.partition(" ")[2] != name for said in other
        ):
            return claim
    return None


@pytest.mark.parametrize("lead", LEADS)
@pytest.mark.parametrize("gate", GATES)
def test_no_two_sentences_contradict_each_other(lead: str, gate: str) -> None:
    for case in (each for each in CASES if (each.lead, each.gate) == (lead, gate)):
        told = sentences(case.decision())
        for one, other in itertools.permutations(told, 2):
            found = contradiction(claims(one), claims(other))
            assert found is None, f"{case}: {found!r}\n{one}\n{other}"


@pytest.mark.parametrize("lead", LEADS)
@pytest.mark.parametrize("gate", GATES)
def test_what_is_said_is_so(lead: str, gate: str) -> None:
    for case in (each for each in CASES if (each.lead, each.gate) == (lead, gate)):
        holds(case)


def holds(case: Case) -> None:
    found = case.decision()
    said = set().union(*(claims(sentence) for sentence in sentences(found)))
    compared = found.result.baselines[found.best_baseline or ""].comparisons[found.metric]
    surely = compared.bounds["0.95"] > 0
    assert ("not better" in said) <= (compared.difference <= 0)
    assert ("better" in said) <= surely
    assert ("not surely better" in said) <= (not surely)
    assert ("gate" in said) == found.verdict.passed
    assert ("ship" in said) <= (surely and found.verdict.passed)
    assert ("saves tokens" in said) == ("cheaper" in case.cost)
    assert ("saves time" in said) == (case.cost in ("cheaper", "dearer"))
    smallest = float(re.findall(r"less than (\S+) could", found.evidence)[0])
    assert surely == (smallest < compared.difference)
    assert (f"best {found.best_baseline}" in said) or found.best_baseline is None


def test_who_contradicts_himself_is_caught() -> None:
    assert contradiction({"ship"}, {"not ship"})
    assert contradiction({"not ship"}, {"ship"})
    assert contradiction({"use retrieval"}, {"best few-shot"})
    assert not contradiction({"ship", "best few-shot"}, {"better", "best few-shot"})
    with pytest.raises(AssertionError, match="what does this say"):
        claims("Who knows.")
