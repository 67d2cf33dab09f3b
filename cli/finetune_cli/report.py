"""`finetune report`: whether it was worth it, here as text, and as a page to pass on.

The numbers are those that evaluate left in report.json; the gate is the manifest's as it is now, and the prices are
those given here, else those that the report was made with.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from finetune_trainer.contract.config import Prices
from finetune_trainer.contract.results import TUNED, Contender, EvaluateResult, Score
from finetune_trainer.evaluation.benchmarks import told
from finetune_trainer.evaluation.costs import UNCOUNTED, amount, cached
from finetune_trainer.evaluation.cut import NOTE, marked
from finetune_trainer.evaluation.decision import REPORT, Decision, again
from finetune_trainer.evaluation.definitions import unmeasured
from finetune_trainer.evaluation.failures import pairs
from finetune_trainer.evaluation.page import render
from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from finetune_cli.checklist import checklist, markdown
from finetune_cli.cluster import Cluster
from finetune_cli.output import OutputFormat, document, dump, written
from finetune_cli.reported import decision_of, reported
from finetune_cli.trials import trials_table
from finetune_cli.words import shortened

# A longer text is cut: the page has it.
SHOWN = 160


def print_run(page: Path, console: Console) -> None:
    """Print the summary of a report on this machine, and where its page is."""
    console.print(summary(decision_of(page.with_name(REPORT).read_text("utf-8"))))
    _print_place(page, console)


def report_on(
    name: str | None, cluster: Cluster | None, prices: Prices, save: Path | None, output: OutputFormat, console: Console
) -> None:
    """Print the report and say where the page is, or print it as JSON. `cluster` None: wherever there is one."""
    found = reported(name, cluster)
    decision = again(found.decision, found.decision.gate, _merged(found.decision.prices, prices))
    page = found.page
    if save or (output == OutputFormat.TABLE and (page is None or prices != Prices())):
        page = save or Path(f"{decision.name}-{decision.revision}.html")
        page.write_text(render(decision), encoding="utf-8")
    if output == OutputFormat.TABLE:
        console.print(Group(summary(decision), *_details(decision)))
        _print_place(page, console)
    else:
        dump(document(decision), output, console)


def answer_checklist(
    name: str | None, cluster: Cluster | None, prices: Prices, save: Path | None, output: OutputFormat, console: Console
) -> None:
    """Print the decision checklist, or write it into `save`."""
    found = reported(name, cluster).decision
    decision = again(found, found.gate, _merged(found.prices, prices))
    answers = checklist(decision)
    whole = [document(each) for each in answers]
    text = markdown(decision, answers) if output == OutputFormat.TABLE else written(whole, output)
    if save:
        save.write_text(text, encoding="utf-8")
        console.print(f"The checklist: {save}", highlight=False, soft_wrap=True)
    else:
        _print_text(text.rstrip(), console)


def write_failures(
    name: str | None, cluster: Cluster | None, save: Path | None, console: Console, notes: Console
) -> None:
    """Write the answers that are wrong as preference pairs, one JSON document a line, into `save` or the console."""
    found = reported(name, cluster)
    lines = [json.dumps(pair, ensure_ascii=False) for pair in pairs(found.rows(), found.decision.metric)]
    if save:
        save.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    elif lines:
        _print_text("\n".join(lines), console)
    notes.print(
        f"{len(lines)} pairs of {found.decision.result.rows} test rows, by {found.decision.metric.value}. A model that "
        "learns from them has seen its test: measure it on other rows.",
        highlight=False,
    )


def given_prices(
    currency: str | None,
    accelerator_hour: float | None,
    prompt: float | None,
    completion: float | None,
    cached: float | None = None,
) -> Prices:
    """The prices that were given, and no others; tokens' prices by the million."""
    given = {
        "currency": currency,
        "accelerator_hour": accelerator_hour,
        "million_prompt_tokens": prompt,
        "million_completion_tokens": completion,
        "million_cached_tokens": cached,
    }
    return Prices.model_validate({name: value for name, value in given.items() if value is not None})


def _merged(before: Prices, given: Prices) -> Prices:
    return before.model_copy(update=given.model_dump(exclude_unset=True))


def _print_text(text: str, console: Console) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def _print_place(page: Path | None, console: Console) -> None:
    console.print(f"The report: {page}", highlight=False, soft_wrap=True)


def summary(decision: Decision) -> RenderableType:
    """The recommendation, for each contender a line of scores and one of requests, and the gate's word."""
    cut = NOTE if any(each.requests.cut for each in _contenders(decision.result).values()) else None
    return Group(
        "",
        Text(decision.headline, "bold"),
        _scores(decision),
        *(Text(note, "dim") for note in (cut, unmeasured(decision.result)) if note),
        _requests(decision),
        Text(decision.verdict.message),
    )


def table(*columns: str) -> Table:
    """An empty table: names at the left, numbers at the right."""
    shown = Table(box=box.SIMPLE, pad_edge=False)
    shown.add_column(columns[0], no_wrap=True)
    for column in columns[1:]:
        shown.add_column(column, justify="right")
    return shown


def _scores(decision: Decision) -> Table:
    result, decides = decision.result, decision.metric
    others = [metric for metric in result.metrics if metric != decides]
    shown = table("", decides.value, *(metric.value for metric in others), "cut")
    shown.columns[1].no_wrap = True
    for name, contender in _contenders(result).items():
        score, mark = contender.scores[decides], " *" if marked(contender, result.rows, decides) else ""
        shown.add_row(
            name,
            f"{score.score:.3f} ({score.low:.2f} to {score.high:.2f}){mark}",
            *(f"{contender.scores[metric].score:.3f}" if metric in contender.scores else "-" for metric in others),
            f"{contender.requests.cut}",
            style="bold" if name == TUNED else "",
        )
    return shown


def _requests(decision: Decision) -> Table:
    shown = table("", "prompt tokens", "answer tokens", "p50 s", "p95 s", "req/s")
    for name, contender in _contenders(decision.result).items():
        took = contender.requests
        shown.add_row(
            name,
            f"{took.prompt_tokens:.0f}",
            f"{took.completion_tokens:.0f}",
            f"{took.latency_p50:.2f}",
            f"{took.latency_p95:.2f}",
            f"{took.requests_per_second:.2f}",
            style="bold" if name == TUNED else "",
        )
    return shown


def _contenders(result: EvaluateResult) -> dict[str, Contender]:
    return {TUNED: result.tuned, **result.baselines}


def _details(decision: Decision) -> Iterator[RenderableType]:
    """What the page has beside the summary, in its order."""
    yield from (Text(told) for told in (decision.evidence, _left_out(decision)) if told)
    yield _titled("What did training cost?", [*_making(decision), UNCOUNTED])
    if decision.trials:
        yield trials_table(decision.trials)
    yield _titled("What do a thousand requests cost?", [])
    yield _costs(decision)
    yield from (Text(each) for each in (cached(decision.costs, decision.prices),) if each)
    yield from (Text(each.told) for each in decision.break_even)
    yield from _rows(decision)
    yield _titled("What was forgotten?", [_forgotten(decision.result.drift), *told(decision.result.benchmarks)])
    yield _titled("What to try next", decision.advice)


def _titled(title: str, sentences: Sequence[str]) -> Text:
    return Text.assemble(("\n" + title, "bold"), *(f"\n{sentence}" for sentence in sentences))


def _left_out(decision: Decision) -> str:
    result = decision.result
    return f"Left out since they stand in train: {result.leaked} rows exactly, {result.near_duplicates} nearly."


def _forgotten(drift: Score | None) -> str:
    if drift is None:
        return "Not measured: the base model was not asked, or has no chat template."
    return f"Answers to general prompts have drifted by {drift.score:.2f} ({drift.low:.2f} to {drift.high:.2f})."


def _making(decision: Decision) -> Iterator[str]:
    made = decision.making
    yield (
        f"Training: {made.trained_tokens:,} tokens, {made.hours:.2f} hours, {made.accelerator_hours:.2f} accelerator "
        "hours."
    )
    yield (
        f"Evaluation: {made.evaluation_tokens:,} tokens, {made.evaluation_hours:.2f} hours, "
        f"{made.evaluation_accelerator_hours:.2f} accelerator hours."
    )
    if made.money is not None:
        yield f"Together: {amount(made.money, decision.prices.currency)}."


def _costs(decision: Decision) -> Table:
    shown = table("", "by tokens", "by time", "prompt tokens", "of them cached", "answer tokens")
    for name, cost in decision.costs.items():
        money = (amount(each, decision.prices.currency) for each in (cost.money_by_tokens, cost.money_by_time))
        found = "-" if cost.cached_tokens is None else f"{cost.cached_tokens:,.0f}"
        shown.add_row(name, *money, f"{cost.prompt_tokens:,.0f}", found, f"{cost.completion_tokens:,.0f}")
    return shown


def _rows(decision: Decision) -> Iterator[RenderableType]:
    found = decision.inspection
    yield _titled(
        "What got worse?", [f"{found.worse} of {decision.result.rows} rows were answered better by a baseline."]
    )
    for row in found.regressions:
        texts = {"right answer": row.reference, TUNED: row.tuned, row.baseline: row.answer}
        yield _row(row.prompt, texts | {f"train: {each.prompt}": each.reference for each in row.learned})
    if found.disagreements:
        yield _titled("Where do the answers disagree most?", [])
    for apart in found.disagreements:
        yield _row(apart.prompt, {"right answer": apart.reference, **apart.answers})


def _row(prompt: str, texts: dict[str, str]) -> Text:
    lines = (f"\n  {shortened(name, SHOWN)}: {shortened(text, SHOWN) or '(nothing)'}" for name, text in texts.items())
    return Text.assemble((shortened(prompt, SHOWN), "italic"), *lines)
