"""evaluate: the candidate is measured against the base model, and the gate decides whether it is promoted.

What was measured stays in the record, so that another gate, or a promotion by hand, is decided without asking again.
Where the candidate's engine can't answer as the base model, that has an engine of its own until there is a verdict:
the stage waits for it here, and `hosting` makes and removes it.
"""

from dataclasses import replace
from typing import Any

from finetune_trainer.contract.config import REPORT_PAGE, Format, Metric
from finetune_trainer.contract.gate import best_baseline, check, deciding
from finetune_trainer.contract.results import TUNED, EvaluateResult

from finetune_operator import names
from finetune_operator.api.status import ContenderStatus, EvaluationStatus, Phase, ScoreStatus
from finetune_operator.api.v1alpha1 import FineTuneJobSpec
from finetune_operator.conditions import Reason, Type
from finetune_operator.finetunejob.desired.credentials import endpoint_keys, endpoint_secrets, engine_key
from finetune_operator.finetunejob.desired.evaluation import (
    base_alone,
    evaluation_config,
    evaluation_id,
    gate_config,
    tasks_uris,
)
from finetune_operator.finetunejob.desired.hosting import base_url
from finetune_operator.finetunejob.desired.jobs import JobNeeds
from finetune_operator.finetunejob.homes import home
from finetune_operator.finetunejob.observe import JobState
from finetune_operator.finetunejob.record import Failure, evaluated_key
from finetune_operator.finetunejob.stages.base import Context, Step
from finetune_operator.finetunejob.stages.engine import inputs_of, rollout
from finetune_operator.finetunejob.stages.job import JobStage
from finetune_operator.finetunejob.target import Target
from finetune_operator.kinds.plan import State
from finetune_operator.pods.environment import variables
from finetune_operator.pods.sources import user_mounts

# What there is too little of, where the base model's engine can't be had beside the candidate's.
_LACKING = (Reason.UNSCHEDULABLE, Reason.ACCELERATORS_IN_USE, Reason.POD_NOT_CREATED)
_WITHOUT = "It is as large as the candidate's engine; with evaluation.baselines: [] there is none, and no comparison."


class Evaluate(JobStage):
    """The Job that asks, and the gate."""

    name = "evaluate"
    condition = Type.EVALUATED
    phase = Phase.EVALUATING
    result = EvaluateResult
    frees_serving = True
    stops = "keeps its answers"
    resumes = "goes on from the answers that it has"
    unwanted = "evaluation.enabled is false."

    def wanted(self, spec: FineTuneJobSpec) -> bool:
        """Unless evaluation.enabled is false."""
        return spec.evaluation.enabled

    def asks_base(self, spec: FineTuneJobSpec) -> bool:
        """Where the candidate's engine can't answer as the base model."""
        return base_alone(spec)

    def needs(self, target: Target) -> JobNeeds:
        """It asks the candidate, reads rows and tokenizer from the volume, and gets keys of whom else it asks."""
        asked = home(target).asked(target)
        base = ("--base-endpoint", base_url(target)) if self.asks_base(target.spec) else ()
        models = ("--model", asked.models[0], "--base-model", asked.models[1]) if asked.models else ()
        return JobNeeds(
            measured=True,
            environment=[*variables({"HF_HUB_OFFLINE": "1"}), *endpoint_keys(target.spec), *engine_key(asked.key)],
            mounts=user_mounts([target.spec.model.source, target.cache, *tasks_uris(target.spec.evaluation)]),
            arguments=("--endpoint", asked.url, *base, *models),
        )

    def inputs(self, context: Context) -> str:
        """Beside what can mend any Job's failure, what can mend the base model's engine."""
        found = super().inputs(context)
        return names.digest([found, inputs_of(context)]) if self.asks_base(context.spec) else found

    def made_from(self, context: Context) -> dict[str, Any]:
        """Beside what every Job gets, what is measured, and the keys for it."""
        keys = endpoint_secrets(context.spec)
        measured = {"evaluation": evaluation_id(context.target), "judge": keys.pop("JUDGE", None), **keys}
        place = home(context.target)
        given = place.asked(context.target).key
        asked = ({"engine": names.given(given)} if given else {}) | ({"on": place.on} if place.on else {})
        return super().made_from(context) | measured | asked

    def entry(self, target: Target) -> str:
        """One for each measurement."""
        return evaluated_key(evaluation_config(target.spec, target.settings).id)

    def recorded(self, context: Context) -> Step | None:
        """What was measured, held against the gate as it is now."""
        prepared, spec = context.record.prepared, context.spec
        if prepared and prepared.dataset.format == Format.TEXT:
            return without_answers(spec)
        found = context.record.evaluated(evaluation_config(spec, context.target.settings).id)
        report = f"{context.target.files}/evaluations"
        return evaluated(found, spec, f"{report}/{found.evaluation}/{REPORT_PAGE}") if found else None

    def ended(self, context: Context) -> Step | None:
        """A person's word counts for more than the gate's, and than a measurement that failed."""
        found = super().ended(context)
        if found is None or found.passed or context.world.promote != context.target.revision:
            return found
        message = f"{found.message} The annotation {names.PROMOTE} promotes it by hand."
        return Step(State.SUCCEEDED, Reason.PROMOTED_BY_HAND, message, status=found.status)

    def waits(self, context: Context) -> Step | None:
        """A shared Engine that sleeps; and the base model's engine, where it is asked at one of its own: one that never
        starts is a failure.
        """
        place = home(context.target)
        if woken := place.woken():
            return Step(State.RUNNING, Reason.STARTING, f"Engine {place.on} is asleep, and is woken.", woken)
        if not self.asks_base(context.spec):
            return None
        target = context.target
        step = rollout(context, names.of_base(target.name, target.revision), names.BASE)
        if step.passed:
            return None
        advice = f" {_WITHOUT}" if step.reason in _LACKING else ""
        step = replace(step, message=f"The base model, to compare with: {step.message}{advice}")
        if step.state != State.FAILED:
            return step
        job = context.job(self.name)
        failure = Failure(step.reason, step.message)
        return context.give_up(self.name, self.inputs(context), failure, job.ref.uid if job else "")

    def _outdated(self, context: Context, job: JobState) -> bool:
        """A Job that measured something else says nothing, complete or not."""
        return True


def without_answers(spec: FineTuneJobSpec) -> Step:
    """Rows of format text are not measured; who has set metrics or a gate counts on it, and is told."""
    if spec.evaluation.metrics or spec.evaluation.gate or spec.evaluation.lm_eval:
        message = "Rows of format text have no answer to measure by: remove evaluation's metrics, gate and lmEval."
        return Step(State.FAILED, Reason.CONFIG_INVALID, message)
    return Step(State.RELEASED, Reason.DISABLED, "Rows of format text have no answer to measure by.")


def evaluated(result: EvaluateResult, spec: FineTuneJobSpec, report: str) -> Step:
    """Hold a result against the manifest's gate, and fill status.evaluation.

    `report` is the report's URI.
    """
    gate = gate_config(spec.evaluation.gate)
    verdict = check(result, gate)
    told = {"evaluation": evaluation_status(result, deciding(result, gate), verdict.passed, report)}
    if verdict.passed:
        return Step(State.SUCCEEDED, Reason.SUCCEEDED, verdict.message, status=told)
    return Step(State.FAILED, Reason.GATE_NOT_MET, verdict.message, status=told)


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
            name: ContenderStatus.model_validate(_texts(contender.model_dump(mode="json", exclude={"unread"})))
            for name, contender in contenders.items()
        },
        report=report,
    )


def _texts(value: Any) -> Any:
    """The same document with every fraction as a string."""
    if isinstance(value, dict):
        return {key: _texts(found) for key, found in value.items()}
    return _text(value) if isinstance(value, float) else value


def _text(number: float) -> str:
    return f"{number:.4g}" if abs(number) >= 1 else f"{number:.4f}"
