"""evaluate: the candidate is measured against the base model, and the gate decides whether it is promoted.

What was measured stays in status, so that another gate, or a promotion by hand, is decided without asking again.
"""

from collections.abc import Mapping
from typing import Any

from finetune_trainer.config import Format, Metric
from finetune_trainer.gate import best_baseline, deciding, judge
from finetune_trainer.report import EvaluateResult

from finetune_operator import names
from finetune_operator.api.status import ContenderStatus, EvaluationStatus, ScoreStatus, StageState
from finetune_operator.api.v1alpha1 import FineTuneJobSpec
from finetune_operator.conditions import Reason, Type
from finetune_operator.finetunejob.desired.evaluation import evaluation_id, gate_config
from finetune_operator.finetunejob.desired.jobs import evaluate_job
from finetune_operator.finetunejob.observe import JobState
from finetune_operator.finetunejob.stages.base import Context, State, Step
from finetune_operator.finetunejob.stages.job import JobStage
from finetune_operator.finetunejob.target import Manifest, Target

TUNED = "tuned"
REPORT = "report.html"


class Evaluate(JobStage):
    """The Job that asks, and the gate."""

    name = "evaluate"
    condition = Type.EVALUATED
    frees_serving = True
    unwanted = "evaluation.enabled is false."

    def wanted(self, spec: FineTuneJobSpec) -> bool:
        """Unless evaluation.enabled is false."""
        return spec.evaluation.enabled

    def job(self, target: Target, inputs: str, suspended: bool) -> Manifest:
        """The evaluate Job."""
        return evaluate_job(target, inputs, suspended)

    def started_with(self, context: Context) -> dict[str, Any]:
        """Beside what every Job gets, what is measured, and the judge's key."""
        judge = context.spec.evaluation.judge
        key = judge and judge.credentials
        measured = {"evaluation": evaluation_id(context.target), "judge": key and key.secret_ref.name}
        return super().started_with(context) | measured

    def remembered(self, context: Context) -> Step | None:
        """The verdict on what status has, if that is what the manifest asks for now."""
        dataset = context.status.dataset
        if dataset and dataset.format == Format.TEXT:
            return without_answers(context.spec)
        known = context.status.evaluation
        if known is None or known.id != evaluation_id(context.target):
            return None
        return evaluated(result_of(known), context.spec, known.report)

    def ended(self, context: Context, inputs: str) -> Step | None:
        """A person's word counts for more than the gate's, and than a measurement that failed."""
        found = super().ended(context, inputs)
        if context.world.promote != context.target.revision or (found and found.passed):
            return found
        if found:
            message = f"{found.message} The annotation {names.PROMOTE} promotes it by hand."
            return Step(State.SUCCEEDED, Reason.PROMOTED_BY_HAND, message, report=found.report)
        return self._promoted_before(context, inputs)

    def _promoted_before(self, context: Context, inputs: str) -> Step | None:
        """The same word, once status says no more that the measurement failed."""
        record = context.record(self.name)
        if record is None or record.state != StageState.SUCCEEDED or record.inputs != inputs:
            return None
        return Step(State.SUCCEEDED, Reason.PROMOTED_BY_HAND, record.message or "")

    def outdated(self, job: JobState, inputs: str) -> bool:
        """A Job that measured something else says nothing, complete or not."""
        return job.inputs != inputs

    def conclude(self, context: Context, result: Mapping[str, Any]) -> Step:
        """The verdict."""
        measured = EvaluateResult.model_validate(result)
        claim = names.of_revision(context.target.name, context.target.revision)
        return evaluated(measured, context.spec, f"pvc://{claim}/evaluations/{measured.evaluation}/{REPORT}")


def without_answers(spec: FineTuneJobSpec) -> Step:
    """Rows of format text are not measured; who has set metrics or a gate counts on it, and is told."""
    if spec.evaluation.metrics or spec.evaluation.gate:
        message = "Rows of format text have no answer to measure by: remove evaluation's metrics and gate."
        return Step(State.FAILED, Reason.CONFIG_INVALID, message)
    return Step(State.RELEASED, Reason.DISABLED, "Rows of format text have no answer to measure by.")


def evaluated(result: EvaluateResult, spec: FineTuneJobSpec, report: str) -> Step:
    """Hold a result against the manifest's gate, and fill status.evaluation; the local backend calls it too.

    `report` is the report's URI.
    """
    gate = gate_config(spec.evaluation.gate)
    verdict = judge(result, gate)
    told = {"evaluation": evaluation_status(result, deciding(result, gate), verdict.passed, report)}
    if verdict.passed:
        return Step(State.SUCCEEDED, Reason.SUCCEEDED, verdict.message, report=told)
    return Step(State.FAILED, Reason.GATE_NOT_MET, verdict.message, report=told)


def evaluation_status(result: EvaluateResult, metric: Metric, passed: bool, report: str) -> EvaluationStatus:
    """A result as status has it: fractions as strings."""
    scores = {name: _text(contender.scores[metric].score) for name, contender in result.baselines.items()}
    contenders = {TUNED: result.tuned, **result.baselines}
    best = best_baseline(result, metric)
    return EvaluationStatus(
        id=result.evaluation,
        passed=passed,
        metric=metric.value,
        tuned=_text(result.tuned.scores[metric].score),
        baselines=scores,
        best_baseline=best,
        metric_summary=f"{metric.value} {result.tuned.scores[metric].score:.3f}",
        best_baseline_summary=f"{best} {result.baselines[best].scores[metric].score:.3f}" if best else None,
        prompt_tokens_per_request={name: f"{each.requests.prompt_tokens:g}" for name, each in contenders.items()},
        metrics=[each.value for each in result.metrics],
        reason=result.reason,
        rows=result.rows,
        leaked=result.leaked,
        near_duplicates=result.near_duplicates,
        drift=result.drift and ScoreStatus.model_validate(_texts(result.drift.model_dump())),
        contenders={
            name: ContenderStatus.model_validate(_texts(contender.model_dump(mode="json")))
            for name, contender in contenders.items()
        },
        report=report,
    )


def result_of(status: EvaluationStatus) -> EvaluateResult:
    """The result that a status was made from."""
    contenders = {name: contender.model_dump() for name, contender in status.contenders.items()}
    return EvaluateResult.model_validate(
        {
            "evaluation": status.id,
            "tuned": contenders.pop(TUNED),
            "baselines": contenders,
            "drift": status.drift and status.drift.model_dump(),
            **status.model_dump(include={"rows", "leaked", "near_duplicates", "metrics", "reason"}),
        }
    )


def _texts(value: Any) -> Any:
    """The same document with every fraction as a string."""
    if isinstance(value, dict):
        return {key: _texts(found) for key, found in value.items()}
    return _text(value) if isinstance(value, float) else value


def _text(number: float) -> str:
    return f"{number:.4g}" if abs(number) >= 1 else f"{number:.4f}"
