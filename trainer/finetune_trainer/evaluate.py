"""evaluate: the tuned model and each baseline answer the same test rows, on the engine that will serve.

Called by the program's `evaluate` command, on a pod without an accelerator. `evaluation.json` is written last: a run
for the same evaluation that finds it ends at once.
"""

import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from finetune_trainer import base
from finetune_trainer.config import BaselineConfig, BaselineType, EvaluationConfig, Metric, RunConfig, Workspace
from finetune_trainer.evaluation import contenders, metrics
from finetune_trainer.evaluation.ask import Candidate, Request
from finetune_trainer.evaluation.contenders import Chooser, Question
from finetune_trainer.evaluation.leakage import Clean, sample, without_leaks
from finetune_trainer.evaluation.result import TUNED, Asked, Measured, measured, summed_up
from finetune_trainer.outcome import Outcome, StageError
from finetune_trainer.report import EvaluateResult, PrepareResult
from finetune_trainer.server import Reporter

logger = logging.getLogger(__name__)

RESULT = "evaluation.json"
# What the base model is called that answers beside the tuned one.
BASE_SUFFIX = "-base"


def evaluate(
    config: RunConfig, evaluation: EvaluationConfig, workspace: Workspace, url: str, reporter: Reporter
) -> EvaluateResult:
    """Ask, score and write evaluation.json. `url`: the candidate's OpenAI-compatible endpoint. Raises StageError."""
    if done := complete(evaluation, workspace):
        logger.info("This was evaluated already.")
        return done
    workspace.evaluation(evaluation).mkdir(parents=True, exist_ok=True)
    reporter.update(activity="comparing the test rows with train")
    clean, train = _rows(workspace, evaluation)
    chosen, reason = _metrics(evaluation, clean.kept)
    candidate = Candidate(url, workspace.answers)
    served = candidate.served()
    if config.name not in served.names:
        raise StageError(
            Outcome.CONFIG_INVALID, f"{url} serves {', '.join(served.names)}, and not {config.name}: is it another's?"
        )
    fitting = _Fitting(config, workspace, served.context_length, clean.kept, train, evaluation.seed)
    baselines = evaluation.baselines if config.name + BASE_SUFFIX in served.names else ()
    asked = [fitting.tuned(), *(fitting.baseline(baseline) for baseline in baselines)]
    answers = _ask(candidate, asked, fitting.max_tokens, reporter)
    result = summed_up(evaluation, clean, chosen, reason, answers)
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


def _rows(workspace: Workspace, evaluation: EvaluationConfig) -> tuple[Clean, list[Question]]:
    """The test rows that are evaluated, and train's."""
    train, test = (_read(workspace.data / f"{split}.jsonl") for split in ("train", "test"))
    if not test:
        raise StageError(
            Outcome.CONFIG_INVALID, "There are no test rows to evaluate with: set dataset.test in the manifest."
        )
    clean = without_leaks(test, train)
    if not clean.kept:
        raise StageError(
            Outcome.DATA_INVALID,
            f"All {len(test)} test rows also stand in train ({clean.exact} exactly, {clean.near} nearly), so nothing "
            "is left to evaluate with: give dataset.test rows that train does not have.",
        )
    return Clean(sample(clean.kept, evaluation.sample_size, evaluation.seed), clean.exact, clean.near), train


def _read(path: Path) -> list[Question]:
    if not path.exists():
        return []
    with path.open("rb") as lines:
        return [contenders.read(line) for line in lines]


def _metrics(evaluation: EvaluationConfig, questions: Sequence[Question]) -> tuple[tuple[Metric, ...], str]:
    references = [question.reference for question in questions]
    if not evaluation.metrics:
        return metrics.choose(references)
    for metric in evaluation.metrics:
        if why := metrics.fits(metric, references):
            raise StageError(
                Outcome.CONFIG_INVALID, f"evaluation.metrics: {metric.value} can't be used with these rows: {why}."
            )
    return evaluation.metrics, "The manifest names it."


class _Fitting:
    """Every contender's prompts, fitted into the context together with the longest answer."""

    def __init__(
        self,
        config: RunConfig,
        workspace: Workspace,
        context_length: int | None,
        questions: Sequence[Question],
        train: Sequence[Question],
        seed: int,
    ) -> None:
        model = base.read(workspace.base_model(config), config.model)
        prepared = PrepareResult.model_validate_json(workspace.prepared.read_bytes())
        references = [question.reference for question in (*questions, *train)]
        self.max_tokens = contenders.answer_tokens(references, model.count)
        self._room = (context_length or prepared.plan.context_length) - self.max_tokens
        self._measure = contenders.measure_with(model.tokenizer)
        self._name, self._questions, self._train, self._seed = config.name, questions, train, seed

    def tuned(self) -> Asked:
        """The tuned model, asked as it was trained."""
        return self._asked(TUNED, self._name, 0, lambda question: ())

    def baseline(self, baseline: BaselineConfig) -> Asked:
        """The base model, asked as this baseline says."""
        return self._asked(baseline.type.value, self._name + BASE_SUFFIX, baseline.examples, self._chooser(baseline))

    def _chooser(self, baseline: BaselineConfig) -> Chooser:
        match baseline.type:
            case BaselineType.FEW_SHOT:
                return contenders.few_shot(self._train, baseline.examples, self._seed)
            case BaselineType.RETRIEVAL:
                return contenders.retrieval(self._train, baseline.examples)
            case BaselineType.ZERO_SHOT:
                return lambda question: ()

    def _asked(self, name: str, model: str, examples: int, choose: Chooser) -> Asked:
        prompts = (
            contenders.fit(question, choose(question), self._measure, self._room) for question in self._questions
        )
        return Asked(name, model, tuple(prompts), examples)


def _ask(candidate: Candidate, asked: Sequence[Asked], max_tokens: int, reporter: Reporter) -> list[Measured]:
    """Each contender's answers, one contender after the other: none's latency is another's doing."""
    total = sum(len(contender.prompts) for contender in asked)
    found: list[Measured] = []
    for number, contender in enumerate(asked):
        reporter.update(activity=f"asking {contender.name}", total_steps=total)
        before = number * len(contender.prompts)
        requests = [
            Request(contender.name, row, contender.model, prompt, max_tokens)
            for row, prompt in enumerate(contender.prompts)
            if prompt is not None
        ]
        answers = candidate.ask(requests, partial(_told, reporter, before))
        found.append(
            measured(contender, {request.row: answer for request, answer in zip(requests, answers, strict=True)})
        )
    return found


def _told(reporter: Reporter, before: int, there: int) -> None:
    reporter.update(step=before + there)
