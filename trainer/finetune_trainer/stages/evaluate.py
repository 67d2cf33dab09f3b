"""evaluate: the tuned model and each baseline answer the same test rows, on the engine that will serve.

Called by the program's `evaluate` command, on a pod without an accelerator. `evaluation.json` is written last: a run
for the same evaluation that finds it ends at once.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path

from pydantic import ValidationError

from finetune_trainer.contract.config import (
    BaselineConfig,
    BaselineType,
    EvaluationConfig,
    Metric,
    RunConfig,
    Workspace,
)
from finetune_trainer.contract.outcome import Outcome, StageError
from finetune_trainer.contract.report import Benchmark, EvaluateResult, PrepareResult, TrainResult
from finetune_trainer.data import base
from finetune_trainer.data.base import Base
from finetune_trainer.evaluation import (
    benchmarks,
    choosers,
    contenders,
    decision,
    general,
    likelihood,
    manifest,
    metrics,
    page,
    testset,
)
from finetune_trainer.evaluation.ask import Answer, Request, Served, by_engine, engines
from finetune_trainer.evaluation.choosers import Chooser, Choosers
from finetune_trainer.evaluation.contenders import Framing, Message, Prompt, Question
from finetune_trainer.evaluation.decision import Decision, Found
from finetune_trainer.evaluation.endpoint import Kept
from finetune_trainer.evaluation.inspection import Learned, Row, Similar
from finetune_trainer.evaluation.judge import Judge, Judged
from finetune_trainer.evaluation.leakage import Clean
from finetune_trainer.evaluation.likelihood import Likelihood, Reference
from finetune_trainer.evaluation.metrics import Statistic
from finetune_trainer.evaluation.normalise import said
from finetune_trainer.evaluation.others import probed
from finetune_trainer.evaluation.remote import Remote
from finetune_trainer.evaluation.result import TUNED, Answered, Asked, Measured, answered, summed_up
from finetune_trainer.server import Reporter

logger = logging.getLogger(__name__)

RESULT, REPORT, PAGE = "evaluation.json", "report.json", "report.html"
ROWS, METRICS = "rows.jsonl", "metrics.jsonl"
# Rows of train to hold beside a row that got worse.
LEARNED = 2


def evaluate(
    config: RunConfig,
    evaluation: EvaluationConfig,
    workspace: Workspace,
    url: str,
    reporter: Reporter,
    base_url: str | None = None,
) -> EvaluateResult:
    """Ask, score and write evaluation.json. `url`: the candidate's OpenAI-compatible endpoint; `base_url`: that of the
    base model, where it has one of its own. Raises StageError.
    """
    done, before = complete(evaluation, workspace), _reported(evaluation, workspace)
    if done and before:
        logger.info("This was evaluated already.")
        decided = decision.again(before, evaluation.gate, evaluation.prices, evaluation.accelerators)
        _write_report(workspace.evaluation(evaluation), decided)
        return done
    if evaluation.base_alone and not base_url:
        message = "The base model has an engine of its own: --base-endpoint must say where."
        raise StageError(Outcome.CONFIG_INVALID, message)
    workspace.evaluation(evaluation).mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    reporter.update(activity="comparing the test rows with train")
    test, train = (testset.questions(workspace, split) for split in ("test", "train"))
    clean = testset.clean(test, train, evaluation)
    chosen, reason = testset.chosen(evaluation, test)
    measuring = _Measuring(config, evaluation, workspace, (url, base_url), clean, train, reporter)
    found = measuring.all(chosen)
    result = summed_up(evaluation, clean, chosen, reason, found, measuring.drift(), measuring.benchmarks())
    table, seconds = _table(clean.kept, found, chosen), time.monotonic() - began
    _report(config, evaluation, workspace, result, table, seconds, _similar(train))
    _write(workspace.evaluation(evaluation) / RESULT, result)
    logger.info("%s", result.model_dump_json(by_alias=True))
    return result


def complete(evaluation: EvaluationConfig, workspace: Workspace) -> EvaluateResult | None:
    """What this evaluation came to, when it was done before."""
    file = workspace.evaluation(evaluation) / RESULT
    return EvaluateResult.model_validate_json(file.read_bytes()) if file.exists() else None


def _write(path: Path, result: EvaluateResult) -> None:
    draft = path.with_suffix(".partial")
    draft.write_text(result.model_dump_json(by_alias=True, indent=2) + "\n")
    draft.replace(path)


def _table(questions: Sequence[Question], contenders: Sequence[Measured], chosen: Sequence[Metric]) -> list[Row]:
    """Every row with each contender's answer and scores."""
    found = {each.name: each for each in contenders}
    scores = {
        metric: {name: each.statistics[metric].rows for name, each in found.items() if metric in each.statistics}
        for metric in chosen
    }
    return [
        Row(
            prompt=question.prompt,
            tools=question.tools,
            reference=question.reference,
            answers={name: each.answered.texts[row] for name, each in found.items()},
            scores={metric: {name: rows[row] for name, rows in by.items()} for metric, by in scores.items()},
        )
        for row, question in enumerate(questions)
    ]


def _similar(train: Sequence[Question]) -> Similar:
    """The rows of train that are most like one of test, the most similar first."""
    # Whoever has no regression needs no index.
    index = cache(lambda: choosers.retrieval(train, LEARNED))

    def similar(row: Row) -> list[Learned]:
        found = index()(Question(row.prompt, row.reference, row.tools))
        return [Learned(prompt=each.asked, reference=each.reference) for each in reversed(found)]

    return similar


def _report(
    config: RunConfig,
    evaluation: EvaluationConfig,
    workspace: Workspace,
    result: EvaluateResult,
    table: list[Row],
    seconds: float,
    similar: Similar,
) -> None:
    """Leave rows.jsonl, report.json and report.html beside the result."""
    trained = TrainResult.model_validate_json(workspace.trained.read_bytes())
    curve = decision.curve(workspace.artifact / METRICS)
    told = manifest.fields(config, evaluation, PrepareResult.model_validate_json(workspace.prepared.read_bytes()))
    lines = "".join(row.model_dump_json(by_alias=True) + "\n" for row in table)
    (workspace.evaluation(evaluation) / ROWS).write_text(lines)
    found = Found(result, table, trained.usage, curve, seconds, similar, told, trained.chosen)
    _write_report(workspace.evaluation(evaluation), decision.decide(config, evaluation, found, datetime.now(UTC)))


def _reported(evaluation: EvaluationConfig, workspace: Workspace) -> Decision | None:
    """The report that lies there; the gate and the prices may be others by now. None for another version's."""
    file = workspace.evaluation(evaluation) / REPORT
    try:
        return Decision.model_validate_json(file.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def _write_report(directory: Path, decided: Decision) -> None:
    (directory / REPORT).write_text(decided.model_dump_json(by_alias=True, indent=2) + "\n")
    (directory / PAGE).write_text(page.render(decided))


class _Measuring:
    """One evaluation under way: who is asked what, and what it comes to by each metric."""

    def __init__(
        self,
        config: RunConfig,
        evaluation: EvaluationConfig,
        workspace: Workspace,
        urls: tuple[str, str | None],
        clean: Clean,
        train: Sequence[Question],
        reporter: Reporter,
    ) -> None:
        self._name, self._evaluation, self._workspace, self._reporter = config.name, evaluation, workspace, reporter
        self._questions = clean.kept
        self._references = [question.reference for question in clean.kept]
        self._answers = Kept(Answer, workspace.answers)
        self._engines = engines(config, *urls, self._answers)
        self._base_name = config.base_name
        self._compared = config.base_name in self._engines
        self._base_model = workspace.base_model(config)
        self._base = base.read(self._base_model, config.model)
        known = [question.reference for question in (*clean.kept, *train)]
        served = self._engines[config.name].served()
        self._fitting = _fitting(self._base, workspace, served, known, evaluation.max_answer_tokens)
        self._choosers = Choosers(train, evaluation.seed)
        self._framing = (
            contenders.template(evaluation.chat_template_kwargs) if self._base.chat else contenders.verbatim(known)
        )

    def all(self, chosen: Sequence[Metric]) -> list[Measured]:
        """The tuned model, each baseline where the base model is served, too, and those that answer elsewhere."""
        others = probed(self._evaluation, self._workspace, self._reporter)
        asked = [self._asked(TUNED, self._name, 0, choosers.none, self._framing)]
        if self._compared:
            baselines, form = testset.baselines(self._evaluation, self._choosers.train)
            asked += [self._baseline(each, form) for each in baselines if not each.endpoint]
        found = [*self._ask(asked), *(self._elsewhere(remote) for remote in others.remotes)]
        return [self._measured(each, chosen, others.judge) for each in found]

    def _elsewhere(self, remote: Remote) -> Answered:
        told = partial(self._told, f"asking {remote.name}", 0, len(self._questions))
        return remote.ask(self._questions, self._fitting.room.most, self._answers, told)

    def _measured(self, found: Answered, chosen: Sequence[Metric], judge: Judge | None) -> Measured:
        judged = judge and self._judged(judge, found)
        statistics = {
            metric: metrics.mean(judged.scores) if judged and metric == Metric.JUDGE else self._statistic(metric, found)
            for metric in chosen
            if not (found.asked.remote and metric.likely)
        }
        return Measured(found, statistics, judged.unread if judged else 0)

    def drift(self) -> Statistic | None:
        """How far the tuned model is from the base model on general prompts; None where these can't be compared."""
        if not self._compared or not self._base.chat:
            return None
        told = partial(self._told, "asking general prompts", 0, len(general.PROMPTS))
        texts = {}
        for model in (self._base_name, self._name):
            requests = [
                Request("general", number, model, prompt, general.MAX_TOKENS)
                for number, prompt in enumerate(general.prompts(self._framing))
            ]
            texts[model] = [answer.text for answer in self._engines[model].ask(requests, told, timed=False)]
        return general.drift(*texts.values())

    def benchmarks(self) -> dict[str, Benchmark]:
        """What lm-evaluation-harness finds, where the manifest asks for it."""
        wanted = self._evaluation.lm_eval
        if wanted is None:
            return {}
        self._reporter.update(activity=f"running lm-evaluation-harness: {', '.join(wanted.tasks)}")
        urls = {model: engine.endpoint.url for model, engine in self._engines.items()}
        reached = benchmarks.Engines(urls, self._base_model, self._fitting.room.context)
        base = self._base_name if self._compared else None
        return benchmarks.measure(wanted, reached, self._name, base, self._alive)

    def _alive(self) -> None:
        """Raises StageError where an engine does not answer any more."""
        for engine in self._engines.values():
            engine.served()

    def _baseline(self, baseline: BaselineConfig, form: Message | None) -> Asked:
        choose = self._choosers.of(baseline)
        more = (form or {}) if baseline.type == BaselineType.STRUCTURED else {}
        framing = Framing(self._framing.extra | more, baseline.prompt)
        return self._asked(baseline.type.value, self._base_name, baseline.examples, choose, framing)

    def _asked(self, name: str, model: str, examples: int, choose: Chooser, framing: Framing) -> Asked:
        prompts = (self._fitting.fit(row, choose(row), framing) for row in self._questions)
        return Asked(name, model, tuple(prompts), examples)

    def _ask(self, contenders: Sequence[Asked]) -> list[Answered]:
        asked = by_engine([_requests(contender) for contender in contenders], self._engines)
        total, names = sum(len(requests) for _, requests in asked), ", ".join(each.name for each in contenders)
        found: dict[tuple[str, int], Answer] = {}
        for engine, requests in asked:
            answers = engine.ask(requests, partial(self._told, f"asking {names}", len(found), total))
            found |= {(each.contender, each.row): answer for each, answer in zip(requests, answers, strict=True)}
        return [answered(contender, found, self._questions) for contender in contenders]

    def _statistic(self, metric: Metric, found: Answered) -> Statistic:
        if metric == Metric.INVERSE_PERPLEXITY:
            return self._likely(found)
        if metric == Metric.REWARD_ACCURACY:
            return self._rewarded(found)
        return metrics.statistic(metric, found.texts, self._references)

    def _judged(self, judge: Judge, found: Answered) -> Judged:
        told = partial(self._told, f"judging {found.asked.name}", 0, 2 * len(found.texts))
        return judge.judged(self._questions, [said(text) for text in found.texts], told)

    def _likely(self, found: Answered) -> Statistic:
        known = self._likelihoods(found.asked, self._questions)
        rows = range(len(self._questions))
        tokens = [known[row].tokens if row in known else self._base.count(self._references[row]) + 1 for row in rows]
        vocabulary = len(self._base.tokenizer)
        logprobs = [known[row].logprob if row in known else likelihood.guessed(tokens[row], vocabulary) for row in rows]
        return likelihood.inverse_perplexity(logprobs, tokens)

    def _rewarded(self, found: Answered) -> Statistic:
        """Which answer has gained more over what the base model, asked without examples, makes of it."""
        base = self._asked(BaselineType.ZERO_SHOT.value, self._base_name, 0, choosers.none, self._framing)
        rejected = [question.rejected or question for question in self._questions]
        gains: list[dict[int, float]] = []
        for answers in (self._questions, rejected):
            own, bases = (self._likelihoods(asked, answers) for asked in (found.asked, base))
            gains.append({row: own[row].logprob - bases[row].logprob for row in own})
        chosen, other = gains
        rows = range(len(self._questions))
        return metrics.mean([likelihood.preferred(chosen[row], other[row]) if row in chosen else 0.0 for row in rows])

    def _likelihoods(self, contender: Asked, answers: Sequence[Question]) -> dict[int, Likelihood]:
        """How likely a contender finds these answers, by row; of rows that fit the context."""
        fitting = [(row, prompt) for row, prompt in enumerate(contender.prompts) if prompt is not None]
        pairs = [(row, likelihood.reference(self._base.tokenizer, prompt, answers[row])) for row, prompt in fitting]
        # A rejected answer may be longer than there is room for; the engine wants room for one token behind it.
        room = self._fitting.room.context - 1
        references = [
            Reference(contender.name, row, contender.model, asked, told[: room - len(asked)])
            for row, (asked, told) in pairs
        ]
        told = partial(self._told, f"measuring {contender.name}", 0, len(references))
        file = self._workspace.evaluations / "likelihoods.jsonl"
        measured = likelihood.measure(self._engines[contender.model].endpoint, references, file, told)
        return {asked.row: found for asked, found in zip(references, measured, strict=True)}

    def _told(self, activity: str, before: int, total: int, there: int) -> None:
        self._reporter.update(activity=activity, step=before + there, total_steps=total)


def _requests(contender: Asked) -> list[Request]:
    return [
        Request(contender.name, row, contender.model, prompt, prompt.max_tokens)
        for row, prompt in enumerate(contender.prompts)
        if prompt is not None
    ]


@dataclass(frozen=True)
class _Fitting:
    """Fits prompts into the context together with an answer."""

    measure: Callable[[Prompt], int]
    room: contenders.Room

    def fit(self, question: Question, examples: Sequence[Question], framing: Framing) -> Prompt | None:
        return contenders.fit(question, examples, self.measure, self.room, framing)


def _fitting(
    model: Base, workspace: Workspace, served: Served, known: Sequence[str], max_answer_tokens: int | None
) -> _Fitting:
    """`known`: the right answers, of which the longest says how much room there has to be."""
    planned = PrepareResult.model_validate_json(workspace.prepared.read_bytes()).plan.context_length
    room = contenders.room(known, model.count, served.context_length or planned, max_answer_tokens)
    return _Fitting(contenders.measure_with(model.tokenizer), room)
