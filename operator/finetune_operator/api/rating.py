"""What does not go together with a reward model, which rates answers and writes none. The spec's rules about it."""

from collections.abc import Callable
from typing import Any

from finetune_trainer.contract.config import Metric

from finetune_operator.api.rules import Rule

_REWARD = "(has(self.training) && has(self.training.method) && self.training.method == 'reward')"
_MEASURED = Metric.RANKING_ACCURACY.value
_GATE = "!has(self.evaluation.gate)"


def _rating(unless: str, message: str, holds: Callable[[Any], bool], field: str) -> Rule:
    """The rule of a field for reward models alone; `unless` is the CEL for that it is as it has to be."""
    return Rule(f"!{_REWARD} || {unless}", message, lambda spec: spec.training.method.writes or holds(spec), field)


def rating_alone() -> tuple[Rule, ...]:
    """What is asked of other models, and means nothing here, is refused; and what is measured of no others."""
    return (
        _rating(
            "!has(self.hosting.engine)",
            "is not there for reward models, which have a head of their own in place of the base model's: remove it",
            lambda spec: spec.hosting.engine is None,
            "hosting.engine",
        ),
        _rating(
            "!has(self.hosting.adapter)",
            "is not there for reward models, which are served whole: remove it",
            lambda spec: spec.hosting.adapter is None,
            "hosting.adapter",
        ),
        _rating(
            "!has(self.output) || !has(self.output.formats) || self.output.formats.size() == 0",
            "has gguf, which holds models that write answers, and a reward model rates them: remove it",
            lambda spec: not spec.output.formats,
            "output.formats",
        ),
        _rating(
            f"!has(self.evaluation.metrics) || self.evaluation.metrics == ['{_MEASURED}']",
            f"can be {_MEASURED} alone with training.method reward: a reward model gives no answers to compare",
            lambda spec: spec.evaluation.metrics in (None, [Metric.RANKING_ACCURACY]),
            "evaluation.metrics",
        ),
        Rule(
            f"{_REWARD} || !has(self.evaluation.metrics) || !('{_MEASURED}' in self.evaluation.metrics)",
            f"has {_MEASURED}, which measures reward models: remove it, or choose training.method reward; which answer "
            "a dpo model has come to prefer, reward_accuracy tells",
            lambda spec: (
                not spec.training.method.writes or Metric.RANKING_ACCURACY not in (spec.evaluation.metrics or [])
            ),
            "evaluation.metrics",
        ),
        _rating(
            "!has(self.evaluation.baselines) || self.evaluation.baselines.size() == 0",
            "has nothing that could rank the pairs of a reward model: remove it; guessing is right in half of them",
            lambda spec: not spec.evaluation.baselines,
            "evaluation.baselines",
        ),
        _rating(
            f"{_GATE} || self.evaluation.gate.margin == 0.0",
            "is over the best baseline, and a reward model has none: remove it, and set gate.minimum",
            lambda spec: not spec.evaluation.gate or spec.evaluation.gate.margin == 0,
            "evaluation.gate.margin",
        ),
        _rating(
            f"{_GATE} || has(self.evaluation.gate.minimum)",
            "is all that a gate can ask of a reward model: set it, above the 0.5 that guessing has",
            lambda spec: not spec.evaluation.gate or spec.evaluation.gate.minimum is not None,
            "evaluation.gate.minimum",
        ),
        _rating(
            "!has(self.evaluation.lmEval)",
            "asks for answers, and a reward model writes none: remove it",
            lambda spec: spec.evaluation.lm_eval is None,
            "evaluation.lmEval",
        ),
        _rating(
            "!has(self.evaluation.maxAnswerTokens)",
            "is of answers, and a reward model writes none: remove it",
            lambda spec: spec.evaluation.max_answer_tokens is None,
            "evaluation.maxAnswerTokens",
        ),
    )
