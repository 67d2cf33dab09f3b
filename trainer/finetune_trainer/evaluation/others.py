"""The models of others that an evaluation asks: the judge, and baselines behind endpoints of their own.

Called by `prepare` and `measuring`. Each is asked something easy first: hours of training, or of answers, are of
no use to one that can't be asked.
"""

from dataclasses import dataclass

from finetune_trainer.contract.config import EvaluationConfig, Metric, Workspace
from finetune_trainer.contract.outcome import Outcome, StageError
from finetune_trainer.evaluation.judge import Judge
from finetune_trainer.evaluation.remote import Remote
from finetune_trainer.server import Reporter


@dataclass(frozen=True)
class Others:
    """Those that an evaluation asks."""

    judge: Judge | None
    remotes: tuple[Remote, ...]


def probed(evaluation: EvaluationConfig, workspace: Workspace, reporter: Reporter) -> Others:
    """Those that the evaluation names, ready to be asked. Raises StageError for one that is not."""
    others = Others(_judge(evaluation, workspace), tuple(_remotes(evaluation)))
    if others.judge:
        reporter.update(activity="asking the judge something easy")
        others.judge.probe()
    for remote in others.remotes:
        reporter.update(activity=f"asking {remote.name} something easy")
        remote.probe()
    return others


def _judge(evaluation: EvaluationConfig, workspace: Workspace) -> Judge | None:
    if Metric.JUDGE not in evaluation.metrics:
        return None
    if evaluation.judge is None:
        raise StageError(Outcome.CONFIG_INVALID, "evaluation.metrics has judge; evaluation.judge must say who.")
    return Judge(evaluation.judge, workspace.evaluations / "judgements.jsonl")


def _remotes(evaluation: EvaluationConfig) -> list[Remote]:
    return [
        Remote(baseline.endpoint, baseline.label, place, baseline.prompt)
        for place, baseline in enumerate(evaluation.baselines)
        if baseline.endpoint
    ]
