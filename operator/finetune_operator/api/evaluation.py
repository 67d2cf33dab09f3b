"""The manifest's `evaluation`."""

import re
from typing import Annotated

from finetune_trainer.contract.config import BaselineType, Metric
from finetune_trainer.contract.results import TUNED
from pydantic import Field

from finetune_operator.api.model import ApiKey
from finetune_operator.api.rules import ApiModel, Rule
from finetune_operator.api.values import MOST_TOKENS, Scalars, TasksUri, distinct

EndpointUrl = Annotated[
    str,
    Field(max_length=1024),
    Rule(
        "self.matches('^https?://[^/?#@ ]+(/[^?# ]*)?$')",
        "must be the URL of an OpenAI-compatible endpoint, such as https://HOST/v1",
        lambda url: re.fullmatch("https?://[^/?#@ ]+(/[^?# ]*)?", url) is not None,
    ),
]
ModelName = Annotated[str, Field(min_length=1, max_length=255)]


class TokenPrices(ApiModel):
    """What a million tokens cost, in the currency of the operator's prices."""

    million_prompt_tokens: Annotated[float, Field(ge=0)]
    """A million tokens of prompts."""
    million_completion_tokens: Annotated[float, Field(ge=0)]
    """A million tokens of answers."""
    million_cached_tokens: Annotated[float, Field(ge=0)] | None = None
    """A million tokens of prompts that the endpoint has cached. Left out: as much as others."""


# What reports call an endpoint, in CEL; that its model is given, another rule sees to.
_LABEL = "(has({0}.name) ? {0}.name : has({0}.model) ? {0}.model : '')"
_TAKEN = (TUNED, *(each.value for each in BaselineType if each != BaselineType.ENDPOINT))


class Baseline(ApiModel):
    """What would be used without fine-tuning, measured beside the tuned model."""

    type: BaselineType
    """zero-shot: the prompt alone; few-shot: behind examples from train, the same for all; retrieval: behind the rows
    of train that are most similar to it (BM25); structured: the prompt alone, and an answer that keeps to the form of
    those in train, their JSON schema or one of their labels. All these on the base model; endpoint: the prompt alone,
    to another model."""
    examples: Annotated[int, Field(ge=1, le=64)] | None = None
    """few-shot's examples. Left out: 4."""
    top_k: Annotated[int, Field(ge=1, le=64)] | None = None
    """retrieval's rows. Left out: 4."""
    prompt: Annotated[str, Field(min_length=1, max_length=65536)] | None = None
    """The task in words, as the system message, in place of the rows' own. Left out: theirs, if they have one."""
    url: EndpointUrl | None = None
    """The OpenAI-compatible endpoint of type endpoint, such as https://HOST/v1."""
    model: ModelName | None = None
    """The model's name there."""
    name: Annotated[str, Field(min_length=1, max_length=32)] | None = None
    """What reports call the endpoint. Left out: by its model."""
    credentials: ApiKey | None = None
    """The endpoint's key. Left out: it asks for none."""
    prices: TokenPrices | None = None
    """What the endpoint costs. Left out: reports have no price of it."""

    @property
    def label(self) -> str:
        """What reports call it."""
        return self.name or self.model or "" if self.type == BaselineType.ENDPOINT else self.type.value

    rules = (
        Rule(
            "!has(self.examples) || self.type == 'few-shot'",
            "goes with type few-shot only; retrieval has topK",
            lambda baseline: baseline.examples is None or baseline.type == BaselineType.FEW_SHOT,
            "examples",
        ),
        Rule(
            "!has(self.topK) || self.type == 'retrieval'",
            "goes with type retrieval only; few-shot has examples",
            lambda baseline: baseline.top_k is None or baseline.type == BaselineType.RETRIEVAL,
            "topK",
        ),
        Rule(
            "self.type != 'endpoint' || has(self.url)",
            "is what type endpoint asks: give the URL of an OpenAI-compatible endpoint, such as https://HOST/v1",
            lambda baseline: baseline.type != BaselineType.ENDPOINT or baseline.url is not None,
            "url",
        ),
        Rule(
            "self.type != 'endpoint' || has(self.model)",
            "is what type endpoint asks for: give the model's name at the endpoint",
            lambda baseline: baseline.type != BaselineType.ENDPOINT or baseline.model is not None,
            "model",
        ),
        Rule(
            "self.type == 'endpoint' || !(has(self.url) || has(self.model) || has(self.name) || has(self.credentials) "
            "|| has(self.prices))",
            "has url, model, name, credentials or prices, which go with type endpoint only: remove them, or choose it",
            lambda baseline: (
                baseline.type == BaselineType.ENDPOINT
                or not any((baseline.url, baseline.model, baseline.name, baseline.credentials, baseline.prices))
            ),
        ),
        Rule(
            f"self.type != 'endpoint' || !({_LABEL.format('self')} in [{', '.join(map(repr, _TAKEN))}])",
            "is another contender's in reports, or the model is called so: give the endpoint a name of its own",
            lambda baseline: baseline.type != BaselineType.ENDPOINT or baseline.label not in _TAKEN,
            "name",
        ),
    )


class Judge(ApiModel):
    """The model that the metric judge asks which of two answers is better."""

    url: EndpointUrl
    """Its OpenAI-compatible endpoint, such as https://HOST/v1."""
    model: ModelName
    """The model's name there."""
    credentials: ApiKey | None = None
    """Its key. Left out: it asks for none."""


class LmEval(ApiModel):
    """Benchmarks by lm-evaluation-harness, asked of the tuned and of the base model. They are reported, and decide
    nothing. The trainer's image needs the harness (the build argument EXTRAS=trainer,lm-eval)."""

    source: TasksUri
    """The directory that has the tasks as the harness reads them, one YAML file each, and their rows beside them:
    pvc://CLAIM/PATH or configmap://NAME (and file://PATH for `finetune run`). Code of a task's is not run."""
    tasks: Annotated[list[Annotated[str, Field(min_length=1, max_length=63)]], Field(min_length=1, max_length=8)]
    """The tasks by their names."""
    limit: Annotated[int, Field(ge=1, le=100000)] = 200
    """At most so many rows of each."""


class Gate(ApiModel):
    """What the tuned model has to reach before it is promoted."""

    metric: Metric | None = None
    """The metric that decides. Left out: the first of metrics."""
    minimum: Annotated[float, Field(ge=0, le=1)] | None = None
    """The score that the tuned model reaches at least."""
    margin: Annotated[float, Field(ge=-1, lt=1)] = 0.0
    """The tuned score exceeds the best baseline's by more than this, at the given confidence."""
    confidence: Annotated[
        float,
        Rule(
            "self in [0.8, 0.9, 0.95, 0.99]",
            "must be 0.8, 0.9, 0.95 or 0.99",
            lambda confidence: confidence in (0.8, 0.9, 0.95, 0.99),
        ),
    ] = 0.95
    """How sure that has to be, by the paired bootstrap over the test rows: 0.8, 0.9, 0.95 or 0.99."""


# In CEL.
_LIKELY = [metric.value for metric in Metric if metric.likely]


def _endpoints(evaluation: "Evaluation") -> list[Baseline]:
    return [each for each in evaluation.baselines or [] if each.type == BaselineType.ENDPOINT]


def _types(evaluation: "Evaluation") -> list[BaselineType]:
    return [each.type for each in evaluation.baselines or []]


def _deciding(evaluation: "Evaluation") -> Metric | None:
    """The metric that decides; None where it is chosen from the rows."""
    named = evaluation.gate and evaluation.gate.metric
    return named or next(iter(evaluation.metrics or []), None)


class Evaluation(ApiModel):
    """Whether it was worth it: how the result is measured against the base model, and what it has to reach."""

    enabled: bool = True
    """false: nothing is measured, and every result is promoted."""
    metrics: Annotated[list[Metric], Field(min_length=1, max_length=4)] | None = None
    """The metrics; the first decides. Left out: chosen from the rows, and status.evaluation.reason says why."""
    baselines: Annotated[list[Baseline], Field(max_length=6)] | None = None
    """What the tuned model is compared with. Left out, the base model: zero-shot, few-shot with 4 examples,
    retrieval of 4 rows and, where the answers are JSON or labels, structured."""
    sample_size: Annotated[int, Field(ge=1, le=100000)] = 200
    """At most so many rows of test are asked, chosen by the seed."""
    max_answer_tokens: Annotated[int, Field(ge=1, le=MOST_TOKENS)] | None = None
    """How long an answer may be. Left out: the longest known answer and half more, at least 256 tokens, less only where
    the context forces it."""
    chat_template_kwargs: Scalars = {}
    """Variables of the model's chat template, as vLLM takes them, for every question: {enable_thinking: false} for
    example. Texts, numbers and booleans."""
    judge: Judge | None = None
    """Another model as the judge of answers, for the metric judge."""
    lm_eval: LmEval | None = None
    """Benchmarks beside the task's own rows, to see what else the model has gained or lost."""
    gate: Gate | None = None
    """What has to be reached for promotion. Left out: everything is promoted, and the condition says so."""

    rules = (
        Rule(
            "!has(self.metrics) || self.metrics.all(a, self.metrics.exists_one(b, a == b))",
            "names a metric twice",
            lambda evaluation: distinct(evaluation.metrics),
            "metrics",
        ),
        Rule(
            "!has(self.baselines) || self.baselines.all(a, a.type == 'endpoint' || "
            "self.baselines.exists_one(b, a.type == b.type))",
            "has a type twice: there is one baseline of each, and endpoints have names",
            lambda evaluation: distinct([each for each in _types(evaluation) if each != BaselineType.ENDPOINT]),
            "baselines",
        ),
        Rule(
            "!has(self.baselines) || self.baselines.all(a, a.type != 'endpoint' || self.baselines.exists_one(b, "
            f"b.type == 'endpoint' && {_LABEL.format('a')} == {_LABEL.format('b')}))",
            "has two endpoints that reports would call the same: give each a name of its own",
            lambda evaluation: distinct([each.label for each in _endpoints(evaluation)]),
            "baselines",
        ),
        Rule(
            "!has(self.baselines) || !self.baselines.exists(a, a.type == 'endpoint') || "
            "!((has(self.gate) && has(self.gate.metric) ? self.gate.metric : "
            f"has(self.metrics) ? self.metrics[0] : '') in {_LIKELY})",
            "has an endpoint, which tells no likelihoods, and inverse_perplexity or reward_accuracy decides: put "
            "another metric first, or name it in gate.metric",
            lambda evaluation: not _endpoints(evaluation) or not (found := _deciding(evaluation)) or not found.likely,
            "baselines",
        ),
        Rule(
            "self.enabled || !has(self.gate)",
            "needs a measurement: remove it, or set evaluation.enabled to true",
            lambda evaluation: evaluation.enabled or evaluation.gate is None,
            "gate",
        ),
        Rule(
            "self.enabled || !has(self.lmEval)",
            "needs a measurement: remove it, or set evaluation.enabled to true",
            lambda evaluation: evaluation.enabled or evaluation.lm_eval is None,
            "lmEval",
        ),
        Rule(
            "(has(self.metrics) && 'judge' in self.metrics) == has(self.judge)",
            "and the metric judge belong together: give both, or neither",
            lambda evaluation: (Metric.JUDGE in (evaluation.metrics or [])) == (evaluation.judge is not None),
            "judge",
        ),
        Rule(
            "!has(self.gate) || !has(self.gate.metric) || (has(self.metrics) && self.gate.metric in self.metrics)",
            "must be one of evaluation.metrics: add it there",
            lambda evaluation: (
                evaluation.gate is None
                or evaluation.gate.metric is None
                or evaluation.gate.metric in (evaluation.metrics or [])
            ),
            "gate.metric",
        ),
        Rule(
            # The API server has filled in a margin of 0 when it checks.
            "!has(self.baselines) || self.baselines.size() > 0 || !has(self.gate) || self.gate.margin == 0.0",
            "is over the best baseline, and evaluation.baselines has none: remove it and set gate.minimum, or name a "
            "baseline",
            lambda evaluation: evaluation.baselines != [] or not evaluation.gate or evaluation.gate.margin == 0,
            "gate.margin",
        ),
        Rule(
            "!has(self.baselines) || self.baselines.size() > 0 || !has(self.gate) || has(self.gate.minimum)",
            "is all that a gate can ask without baselines: set it, or name a baseline",
            lambda evaluation: evaluation.baselines != [] or not evaluation.gate or evaluation.gate.minimum is not None,
            "gate.minimum",
        ),
    )
