"""How long training will take, by an earlier revision that was trained alike.

For status.plan, and for a budget that the plan can't stay within: `stages.prepare` tells. `stages.train` notes on what
a revision was trained.

Alike: the same model, method and adapter, on the same accelerators and nodes. Nothing else is known before the first
step; from then on the training itself tells when it will end (status.progress.eta).
"""

from dataclasses import dataclass

from finetune_operator import names
from finetune_operator.api.training import Training
from finetune_operator.conditions import Reason
from finetune_operator.finetunejob.desired import budget
from finetune_operator.finetunejob.desired.jobs import processes
from finetune_operator.finetunejob.record import Record
from finetune_operator.finetunejob.stages.base import Context, Step
from finetune_operator.kinds.plan import State

# The record's entry with a digest of what a revision was trained on.
TRAINED_ON = "trained-on"
HOUR = 3600
# An estimate that is off by less is no reason to refuse anything.
SLACK = 1.1


@dataclass(frozen=True)
class Pace:
    """An estimate: seconds of training, by the tokens a second that a revision was trained with."""

    seconds: float
    tokens_per_second: float
    revision: str

    @property
    def reason(self) -> str:
        """Where it is from."""
        return f"revision {self.revision} was trained alike, with {self.tokens_per_second:,.0f} tokens a second"


def trained_on(training: Training) -> str:
    """A digest of what of the manifest decides how fast training is."""
    own = {"resources": names.given(training.resources), "nodes": training.nodes}
    return names.digest(own | {"nodeSelector": training.pod.node_selector})


def pace(context: Context) -> Pace | None:
    """The estimate; None where nothing was trained alike."""
    ours = context.record
    others = sorted(context.world.records.values(), key=lambda found: found.record.created, reverse=True)
    alike = (found.record for found in others if _alike(found.record, ours, trained_on(context.spec.training)))
    found = next(alike, None)
    if found is None or found.trained is None or ours.prepared is None:
        return None
    rate = found.trained.usage.trained_tokens / found.trained.usage.seconds
    return Pace(ours.prepared.plan.estimated_trained_tokens / rate, rate, found.revision)


def _alike(found: Record, ours: Record, where: str) -> bool:
    """Whether a revision tells of how fast another one will be trained."""
    theirs, own = found.run_config, ours.run_config
    if found.revision == ours.revision or found.trained is None or theirs is None or own is None:
        return False
    measured = found.trained.usage.seconds > 0 and found.trained.usage.trained_tokens > 0
    same = (theirs.model, theirs.training.method, theirs.training.adapter) == (
        own.model,
        own.training.method,
        own.training.adapter,
    )
    return measured and same and found.entries.get(TRAINED_ON) == where


def too_long(context: Context, foreseen: Pace | None) -> Step | None:
    """A plan that its budget is too small for is not begun."""
    training, prepared = context.spec.training, context.record.prepared
    hours = budget.hours(training, context.target.settings)
    if foreseen is None or hours is None or prepared is None or context.record.trained:
        return None
    needed = foreseen.seconds * processes(training) / HOUR
    if needed <= hours * SLACK:
        return None
    plan = prepared.plan
    return Step(
        State.BLOCKED,
        Reason.BUDGET_TOO_SMALL,
        f"Training would take about {needed:.3g} hours, and training.budget has {hours:.3g}: the plan has "
        f"{plan.estimated_trained_tokens:,} tokens, and {foreseen.reason}. Raise the budget, or set training.maxSteps "
        f"to {max(1, int(plan.total_steps * hours / needed))}.",
    )
