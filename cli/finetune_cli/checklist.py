"""`finetune report --checklist`: the questions that whoever decides about a fine-tuning asks, answered from a report.

What no run can know is said to be so, by name: an empty answer would look like a good one. Pure; `report` prints it.
"""

from collections.abc import Iterator, Sequence

from finetune_trainer.contract.config import BaselineType, Contract
from finetune_trainer.contract.results import TUNED, Contender
from finetune_trainer.evaluation.costs import UNCOUNTED, amount
from finetune_trainer.evaluation.decision import Decision
from finetune_trainer.evaluation.definitions import DEFINITIONS

from finetune_cli.words import shortened

UNKNOWN = "Not known here: "
# Characters of a row.
SHOWN = 160
_MEANT = {
    BaselineType.ZERO_SHOT: "the plain prompt (zero-shot)",
    BaselineType.FEW_SHOT: "the same examples in each prompt (few-shot)",
    BaselineType.RETRIEVAL: "the most similar examples in each prompt (retrieval)",
}


class ChecklistItem(Contract):
    """One question, and what can be said about it in sentences; `unknown` is what only people can add."""

    question: str
    known: tuple[str, ...]
    unknown: str


def checklist(decision: Decision) -> list[ChecklistItem]:
    """The questions in the order in which they are asked."""
    return [
        ChecklistItem(
            question="What is it for?",
            known=tuple(_purpose(decision)),
            unknown="who asks it and how often, and what a wrong answer costs.",
        ),
        ChecklistItem(
            question="What was tried without fine-tuning, and how good was it?",
            known=tuple(_alternatives(decision)),
            unknown="prompts that nobody wrote into evaluation.baselines, and larger models that no baseline names.",
        ),
        ChecklistItem(
            question="What data is it made from and measured on?",
            known=tuple(_data(decision)),
            unknown="whether these rows are what users will ask, who wrote the answers, and whether they may be used.",
        ),
        ChecklistItem(
            question="How is its quality measured, and how sure is that?",
            known=(_metric(decision), decision.verdict.message, *filter(None, [decision.evidence])),
            unknown=f"whether {decision.metric.value} is what your users would call good.",
        ),
        ChecklistItem(
            question="What does it cost?",
            known=tuple(_costs(decision)),
            unknown="people's time, an endpoint that waits for requests, and training again when data or model change.",
        ),
        ChecklistItem(
            question="What is the benefit?",
            known=tuple(_benefit(decision)),
            unknown="what a better answer is worth to you.",
        ),
        ChecklistItem(
            question="What got worse?",
            known=tuple(_worse(decision)),
            unknown="how it answers what is not like these rows, and what it says when somebody means harm.",
        ),
    ]


def markdown(decision: Decision, items: Sequence[ChecklistItem]) -> str:
    """The checklist as a page to pass on."""
    parts = [f"# {decision.name}, revision {decision.revision}: was fine-tuning the right choice?"]
    for number, item in enumerate(items, 1):
        lines = [*item.known, f"{UNKNOWN}{item.unknown}"]
        parts.append("\n".join([f"## {number}. {item.question}", "", *(f"- {line}" for line in lines)]))
    return "\n\n".join(parts) + "\n"


def _purpose(decision: Decision) -> Iterator[str]:
    told = decision.manifest
    method = f" by {told['training.method']}" if "training.method" in told else ""
    yield f"{decision.base_model} was trained{method} to answer as the rows do, as model {decision.name}."
    rows = [(each.prompt, each.reference) for each in decision.inspection.disagreements]
    for prompt, reference in rows[:1]:
        yield f"One of the test rows asks “{shortened(prompt, SHOWN)}”; right is “{shortened(reference, SHOWN)}”."


def _alternatives(decision: Decision) -> Iterator[str]:
    result = decision.result
    for name, found in {**result.baselines, TUNED: result.tuned}.items():
        tokens = f"{found.requests.prompt_tokens:.0f} prompt tokens a request"
        yield f"{_who(decision, name, found)}: {_score(decision, found)}, {tokens}."
    missing = [meant for kind, meant in _MEANT.items() if kind not in result.baselines]
    if missing:
        yield f"Not tried: {'; '.join(missing)}. evaluation.baselines asks for it, and nothing is trained again."
    if not any(each.remote for each in result.baselines.values()):
        yield "Not tried: another model. A baseline of type endpoint measures one on the same rows."


def _who(decision: Decision, name: str, found: Contender) -> str:
    if name == TUNED:
        return "The tuned model"
    where = f"{found.model} at an endpoint" if found.remote else decision.base_model
    best = ", the best of these" if name == decision.best_baseline else ""
    return f"{name} on {where}{best}" if name != found.model else f"{where}{best}"


def _score(decision: Decision, found: Contender) -> str:
    score = found.scores.get(decision.metric)
    if score is None:
        return f"no {decision.metric.value}"
    return f"{decision.metric.value} {score.score:.3f} ({score.low:.2f} to {score.high:.2f})"


def _data(decision: Decision) -> Iterator[str]:
    told, result = decision.manifest, decision.result
    rows = told.get("dataset.found.rows.train")
    source = f" of {told['dataset.train']}" if "dataset.train" in told else ""
    yield f"{rows} rows{source} were trained on." if rows else f"{UNKNOWN}how many rows were trained on."
    yield f"{result.rows} rows of test, which training never saw, were asked."
    left = result.leaked + result.near_duplicates
    if left:
        yield f"{left} more were left out: train has {result.leaked} of them exactly, {result.near_duplicates} nearly."


def _metric(decision: Decision) -> str:
    meaning = DEFINITIONS[decision.metric]
    return f"{decision.metric.value} decides: {meaning}. {decision.result.reason}"


def _costs(decision: Decision) -> Iterator[str]:
    made, currency = decision.making, decision.prices.currency
    yield (
        f"To make: {made.trained_tokens:,} tokens trained in {made.hours:.2f} hours ({made.accelerator_hours:.2f} "
        f"accelerator hours), and {made.evaluation_tokens:,} tokens to measure it."
    )
    if made.money is not None:
        yield f"That is {amount(made.money, currency)}."
    else:
        yield f"{UNKNOWN}what that is in money: no accelerator was held, or it has no price (--accelerator-hour)."
    for name, cost in decision.costs.items():
        prompt, answer = cost.prompt_tokens / 1000, cost.completion_tokens / 1000
        money = f"; {amount(cost.money, currency)} for a thousand" if cost.money is not None else ""
        yield f"To use {name}: {prompt:,.0f} prompt and {answer:,.0f} answer tokens a request{money}."
    if all(cost.money is None for cost in decision.costs.values()):
        yield f"{UNKNOWN}what a request costs: there is no price (--million-prompt-tokens)."
    yield UNCOUNTED


def _benefit(decision: Decision) -> Iterator[str]:
    yield decision.headline
    best = decision.result.baselines.get(decision.best_baseline or "")
    if best is None:
        yield f"{UNKNOWN}the benefit over doing without: nothing was measured beside it."
        return
    tuned, other = decision.result.tuned.requests, best.requests
    yield (
        f"Against {decision.best_baseline} a prompt has {tuned.prompt_tokens:.0f} tokens in place of "
        f"{other.prompt_tokens:.0f}, and half the answers come within {tuned.latency_p50:.2f} s in place of "
        f"{other.latency_p50:.2f} s."
    )
    yield from (each.told for each in decision.break_even)


def _worse(decision: Decision) -> Iterator[str]:
    result, found = decision.result, decision.inspection
    if result.baselines:
        yield f"{found.worse} of {result.rows} rows were answered better by a baseline: the report shows them."
    else:
        yield f"{UNKNOWN}which rows would be answered better without it: nothing was measured beside it."
    if result.drift is None:
        yield f"{UNKNOWN}what it forgot: the base model was not asked general questions beside it."
    else:
        yield f"Answers to general prompts drifted by {result.drift.score:.2f} (0: the same words, 1: none in common)."
    for name, task in result.benchmarks.items():
        base = "" if task.base is None else f", the base model {task.base:.3f}"
        yield f"Benchmark {name}, {task.metric}: {task.tuned:.3f}{base}."
