"""What evaluate is told: the manifest's evaluation with its defaults written out, an entry of the revision's record.

It changes no weight, so it is no part of the run config. prepare gets it too, and refuses metrics that don't fit the
rows before anything is trained. The local backend writes the same document beside its state.
"""

from finetune_trainer.contract.config import (
    DEFAULT_BASELINES,
    EXAMPLES,
    BaselineConfig,
    BaselineType,
    EndpointConfig,
    EvaluationConfig,
    GateConfig,
    LmEvalConfig,
    Metric,
    Prices,
    TokenPrices,
)

from finetune_operator.api.evaluation import Baseline, Evaluation, Gate, LmEval
from finetune_operator.api.hosting import ServedAs
from finetune_operator.api.v1alpha1 import FineTuneJobSpec
from finetune_operator.finetunejob.shared import EngineState
from finetune_operator.finetunejob.target import Target
from finetune_operator.pods.resources import accelerators
from finetune_operator.pods.sources import source
from finetune_operator.settings import Settings


def evaluation_config(spec: FineTuneJobSpec, settings: Settings, engine: EngineState | None = None) -> EvaluationConfig:
    """What is measured, and what the report reckons with. `engine`: the one that hosting.engine names; `id` is the same
    without it.
    """
    evaluation = spec.evaluation
    named = None if evaluation.baselines is None else tuple(_baseline(each) for each in evaluation.baselines)
    # What the base model writes is nothing to compare rewards with.
    usual = DEFAULT_BASELINES if spec.training.method.writes else ()
    return EvaluationConfig(
        metrics=tuple(evaluation.metrics or ()),
        baselines=usual if named is None else named,
        # Elsewhere it would say nothing, and be one more digest for the same measurement.
        only_these=named == DEFAULT_BASELINES,
        base_alone=base_alone(spec),
        merged=served_merged(spec),
        sample_size=evaluation.sample_size,
        seed=spec.training.seed,
        judge=evaluation.judge and EndpointConfig(url=evaluation.judge.url, model=evaluation.judge.model),
        lm_eval=evaluation.lm_eval and _lm_eval(evaluation.lm_eval),
        max_answer_tokens=evaluation.max_answer_tokens,
        chat_template_kwargs=evaluation.chat_template_kwargs,
        gate=gate_config(evaluation.gate),
        prices=Prices(
            currency=settings.price_currency,
            accelerator_hour=settings.price_accelerator_hour,
            million_prompt_tokens=settings.price_million_prompt_tokens,
            million_completion_tokens=settings.price_million_completion_tokens,
            million_cached_tokens=settings.price_million_cached_tokens,
            endpoints=endpoint_prices(evaluation),
        ),
        accelerators=_serving(spec, engine),
    )


def _serving(spec: FineTuneJobSpec, engine: EngineState | None) -> int:
    """The accelerators of all replicas; of a shared Engine one pod's, since it is scaled for others, too."""
    if spec.hosting.engine is None:
        return accelerators(spec.hosting.resources) * spec.hosting.replicas
    return accelerators(engine.spec.resources) if engine and engine.spec else 0


def base_alone(spec: FineTuneJobSpec) -> bool:
    """Whether the base model needs an engine of its own to be compared with: a baseline or a reward is on it, and the
    engine of what is trained can't answer as it.
    """
    if not spec.training.method.writes:
        return False
    named = spec.evaluation.baselines
    asked = named is None or any(each.type != BaselineType.ENDPOINT for each in named)
    asked = asked or Metric.REWARD_ACCURACY in (spec.evaluation.metrics or [])
    return asked and (served_merged(spec) or not spec.training.adapter.beside_base)


def served_merged(spec: FineTuneJobSpec) -> bool:
    """Whether an adapter is to be made a part of its base model, to be served; train does so with those that can't be
    served otherwise.
    """
    return spec.hosting.adapter == ServedAs.MERGED and spec.training.adapter.beside_base


def evaluation_id(target: Target) -> str | None:
    """A digest of what is measured; None where nothing is."""
    if not target.spec.evaluation.enabled:
        return None
    return evaluation_config(target.spec, target.settings).id


def gate_config(gate: Gate | None) -> GateConfig | None:
    """The gate as the trainer's contract has it."""
    if gate is None:
        return None
    return GateConfig(metric=gate.metric, minimum=gate.minimum, margin=gate.margin, confidence=gate.confidence)


def tasks_uris(evaluation: Evaluation) -> list[str]:
    """The URI of lm-evaluation-harness's tasks, where there are some."""
    return [evaluation.lm_eval.source] if evaluation.lm_eval else []


def _lm_eval(wanted: LmEval) -> LmEvalConfig:
    return LmEvalConfig(source=source(wanted.source), tasks=tuple(wanted.tasks), limit=wanted.limit)


def endpoint_prices(evaluation: Evaluation) -> dict[str, TokenPrices]:
    """What the endpoints among the baselines cost, by label."""
    priced = {each.label: each.prices for each in evaluation.baselines or [] if each.prices}
    return {label: TokenPrices(**prices.model_dump()) for label, prices in priced.items()}


def _baseline(baseline: Baseline) -> BaselineConfig:
    shows = baseline.type in (BaselineType.FEW_SHOT, BaselineType.RETRIEVAL)
    examples = baseline.examples or baseline.top_k or EXAMPLES
    return BaselineConfig(
        type=baseline.type,
        examples=examples if shows else 0,
        prompt=baseline.prompt,
        name=baseline.name,
        endpoint=EndpointConfig(url=baseline.url, model=baseline.model) if baseline.url and baseline.model else None,
    )
