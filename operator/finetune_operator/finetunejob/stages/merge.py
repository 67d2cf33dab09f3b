"""merge: the adapter becomes a part of a copy of its base model, by a Job without an accelerator, for an engine that
serves that.

It comes before the engine, so that what is measured is what is served. The Job asks both whether they answer alike;
where they don't, the condition says so, and the adapter is served loaded.
"""

from finetune_trainer.contract.results import MergeResult

from finetune_operator.api.status import Phase
from finetune_operator.api.v1alpha1 import FineTuneJobSpec
from finetune_operator.conditions import Reason, Type
from finetune_operator.finetunejob.desired.evaluation import served_merged
from finetune_operator.finetunejob.desired.jobs import JobNeeds
from finetune_operator.finetunejob.record import MERGED
from finetune_operator.finetunejob.stages.base import Context, Step
from finetune_operator.finetunejob.stages.job import JobStage
from finetune_operator.finetunejob.target import Target
from finetune_operator.kinds.plan import State
from finetune_operator.pods.sources import user_mounts


class Merge(JobStage):
    """The Job that merges."""

    name = "merge"
    condition = Type.MERGED
    phase = Phase.MERGING
    result = MergeResult
    unwanted = "hosting.adapter is not merged, or train merges it."

    def wanted(self, spec: FineTuneJobSpec) -> bool:
        """Where an engine is to have it, to serve or to be measured."""
        return served_merged(spec) and (spec.hosting.enabled or spec.evaluation.enabled)

    def needs(self, target: Target) -> JobNeeds:
        """It reads the artifact and the base model, wherever that lies, and leaves a copy on the volume."""
        return JobNeeds(mounts=user_mounts([target.spec.model.source, target.cache]))

    def entry(self, target: Target) -> str:
        """One for a revision."""
        return MERGED

    def recorded(self, context: Context) -> Step | None:
        """The model, or what keeps it from being served."""
        found = context.record.merged
        if found is None:
            return None
        if found.apart:
            told = f"{found.apart} The adapter is served loaded, beside its base model."
            return Step(State.RELEASED, Reason.ANSWERS_DIFFER, told)
        told = f"The adapter is merged into a copy of its base model, {found.bytes / 1e9:.2f} GB on the volume."
        return Step(State.SUCCEEDED, Reason.SUCCEEDED, told)
