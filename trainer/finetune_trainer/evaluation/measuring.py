"""One evaluation under way: who is asked what, and what it comes to by each metric.

The stage evaluate makes one and asks it for everything that needs an engine; what is made of the answers is elsewhere.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain

from finetune_trainer.contract.config import (
    BaselineConfig,
    BaselineType,
    EvaluationConfig,
    Metric,
    RunConfig,
    Workspace,
)
from finetune_trainer.contract.results import TUNED, Benchmark, PrepareResult
from finetune_trainer.data import base
from finetune_trainer.data.base import Base
from finetune_trainer.evaluation import benchmarks, choosers, contenders, general, likelihood, metrics, sql, testset
from finetune_trainer.evaluation.ask import AnswerRequest, Prediction, Served, Whom, by_engine, engines
from finetune_trainer.evaluation.choosers import Chooser, Choosers
from finetune_trainer.evaluation.contenders import Framing, Message, Prompt, Question
from finetune_trainer.evaluation.endpoint import ResponseFile
from finetune_trainer.evaluation.judge import Judge, Judged
from finetune_trainer.evaluation.likelihood import Likelihood, LikelihoodRequest
from finetune_trainer.evaluation.metrics import Statistic
from finetune_trainer.evaluation.normalise import said
from finetune_trainer.evaluation.others import probed
from finetune_trainer.evaluation.remote import Remote
from finetune_trainer.evaluation.result import ContenderPrompts, Measured, Predictions, predictions_of
from finetune_trainer.server import Reporter


class Measuring:
    """Asks the engines about these rows of test, with examples from these of train."""

    def __init__(
        self,
        config: RunConfig,
        evaluation: EvaluationConfig,
        workspace: Workspace,
        whom: Whom,
        questions: Sequence[Question],
        train: Sequence[Question],
        reporter: Reporter,
    ) -> None:
        self._name, self._evaluation, self._workspace, self._reporter = whom.model, evaluation, workspace, reporter
        self._questions = questions
        self._references = [question.reference for question in questions]
        self._predictions = ResponseFile(Prediction, workspace.answers)
        self._engines = engines(whom, self._predictions)
        self._base_name = whom.base
        self._compared = whom.base in self._engines
        self._base_model = workspace.base_model(config)
        self._base = base.read(self._base_model, config.model)

        def known() -> Iterator[str]:
            return (question.reference for question in chain(questions, train))

        served = self._engines[whom.model].served()
        self._fitting = _fitting(self._base, workspace, served, known(), evaluation.max_answer_tokens)
        self._choosers = Choosers(train, evaluation.seed)
        self._framing = (
            contenders.template(evaluation.chat_template_kwargs) if self._base.chat else contenders.verbatim(known())
        )

    def all(self, chosen: Sequence[Metric]) -> list[Measured]:
        """The tuned model, each baseline where the base model is served, too, and those that answer elsewhere."""
        others = probed(self._evaluation, self._workspace, self._reporter)
        asked = [self._asked(TUNED, self._name, 0, choosers.none, self._framing)]
        if self._compared:
            baselines, form = testset.baselines(self._evaluation, self._choosers.train)
            asked += [self._baseline(each, form) for each in baselines if not each.endpoint]
        found = self._ask(asked) + [self._elsewhere(remote) for remote in others.remotes]
        return [self._measured(each, chosen, others.judge) for each in found]

    def _elsewhere(self, remote: Remote) -> Predictions:
        told = partial(self._told, f"asking {remote.name}", 0, len(self._questions))
        return remote.ask(self._questions, self._fitting.room.most, self._predictions, told)

    def _measured(self, found: Predictions, chosen: Sequence[Metric], judge: Judge | None) -> Measured:
        judged = judge and self._judged(judge, found)
        statistics = {
            metric: metrics.mean(judged.scores) if judged and metric == Metric.JUDGE else self._statistic(metric, found)
            for metric in chosen
            if not (found.contender.remote and metric.likely)
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
                AnswerRequest("general", number, model, prompt, general.MAX_TOKENS)
                for number, prompt in enumerate(general.prompts(self._framing))
            ]
            texts[model] = [prediction.text for prediction in self._engines[model].ask(requests, told, timed=False)]
        return general.drift(*texts.values())

    def benchmarks(self) -> dict[str, Benchmark]:
        """What lm-evaluation-harness finds, where the manifest asks for it."""
        wanted = self._evaluation.lm_eval
        if wanted is None:
            return {}
        self._reporter.update(activity=f"running lm-evaluation-harness: {', '.join(wanted.tasks)}")
        urls = {model: engine.endpoint.url for model, engine in self._engines.items()}
        reached = benchmarks.HarnessTargets(urls, self._base_model, self._fitting.room.context)
        base = self._base_name if self._compared else None
        return benchmarks.measure(wanted, reached, self._name, base, self._alive)

    def _alive(self) -> None:
        """Raises StageError where an engine does not answer any more."""
        for engine in self._engines.values():
            engine.served()

    def _baseline(self, baseline: BaselineConfig, form: Message | None) -> ContenderPrompts:
        choose = self._choosers.of(baseline)
        more = (form or {}) if baseline.type == BaselineType.STRUCTURED else {}
        framing = Framing(self._framing.extra | more, baseline.prompt)
        return self._asked(baseline.type.value, self._base_name, baseline.examples, choose, framing)

    def _asked(self, name: str, model: str, examples: int, choose: Chooser, framing: Framing) -> ContenderPrompts:
        prompts = (self._fitting.fit(row, choose(row), framing) for row in self._questions)
        return ContenderPrompts(name, model, tuple(prompts), examples)

    def _ask(self, contenders: Sequence[ContenderPrompts]) -> list[Predictions]:
        asked = by_engine([_requests(contender) for contender in contenders], self._engines)
        total, names = sum(len(requests) for _, requests in asked), ", ".join(each.name for each in contenders)
        found: dict[tuple[str, int], Prediction] = {}
        for engine, requests in asked:
            predictions = engine.ask(requests, partial(self._told, f"asking {names}", len(found), total))
            pairs = zip(requests, predictions, strict=True)
            found |= {(request.contender, request.row): prediction for request, prediction in pairs}
        return [predictions_of(contender, found, self._questions) for contender in contenders]

    def _statistic(self, metric: Metric, found: Predictions) -> Statistic:
        if metric == Metric.INVERSE_PERPLEXITY:
            return self._likely(found)
        if metric == Metric.REWARD_ACCURACY:
            return self._rewarded(found)
        if metric == Metric.SQL_EXECUTION:
            return sql.statistic(self._questions, found.texts)
        return metrics.statistic(metric, found.texts, self._references)

    def _judged(self, judge: Judge, found: Predictions) -> Judged:
        told = partial(self._told, f"judging {found.contender.name}", 0, 2 * len(found.texts))
        return judge.judged(self._questions, [said(text) for text in found.texts], told)

    def _likely(self, found: Predictions) -> Statistic:
        known = self._likelihoods(found.contender, self._questions)
        rows = range(len(self._questions))
        tokens = [known[row].tokens if row in known else self._base.count(self._references[row]) + 1 for row in rows]
        vocabulary = len(self._base.tokenizer)
        logprobs = [known[row].logprob if row in known else likelihood.guessed(tokens[row], vocabulary) for row in rows]
        return likelihood.inverse_perplexity(logprobs, tokens)

    def _rewarded(self, found: Predictions) -> Statistic:
        """Which answer has gained more over what the base model, asked without examples, makes of it."""
        base = self._asked(BaselineType.ZERO_SHOT.value, self._base_name, 0, choosers.none, self._framing)
        rejected = [question.rejected or question for question in self._questions]
        gains: list[dict[int, float]] = []
        for answers in (self._questions, rejected):
            own, bases = (self._likelihoods(asked, answers) for asked in (found.contender, base))
            gains.append({row: own[row].logprob - bases[row].logprob for row in own})
        chosen, other = gains
        rows = range(len(self._questions))
        return metrics.mean([likelihood.preferred(chosen[row], other[row]) if row in chosen else 0.0 for row in rows])

    def _likelihoods(self, contender: ContenderPrompts, answers: Sequence[Question]) -> dict[int, Likelihood]:
        """How likely a contender finds these answers, by row; of rows that fit the context."""
        fitting = [(row, prompt) for row, prompt in enumerate(contender.prompts) if prompt is not None]
        pairs = [(row, likelihood.reference(self._base.tokenizer, prompt, answers[row])) for row, prompt in fitting]
        # A rejected answer may be longer than there is room for; the engine wants room for one token behind it.
        room = self._fitting.room.context - 1
        references = [
            LikelihoodRequest(contender.name, row, contender.model, asked, told[: room - len(asked)])
            for row, (asked, told) in pairs
        ]
        told = partial(self._told, f"measuring {contender.name}", 0, len(references))
        file = self._workspace.evaluations / "likelihoods.jsonl"
        measured = likelihood.measure(self._engines[contender.model].endpoint, references, file, told)
        return {asked.row: found for asked, found in zip(references, measured, strict=True)}

    def _told(self, activity: str, before: int, total: int, there: int) -> None:
        self._reporter.update(activity=activity, step=before + there, total_steps=total)


def _requests(contender: ContenderPrompts) -> list[AnswerRequest]:
    return [
        AnswerRequest(contender.name, row, contender.model, prompt, prompt.max_tokens)
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
    model: Base, workspace: Workspace, served: Served, known: Iterable[str], max_answer_tokens: int | None
) -> _Fitting:
    """`known`: the right answers, of which the longest says how much room there has to be."""
    planned = PrepareResult.model_validate_json(workspace.prepared.read_bytes()).plan.context_length
    room = contenders.room(known, model.count, served.context_length or planned, max_answer_tokens)
    return _Fitting(contenders.measure_with(model.tokenizer), room)
