"""promote: the stable Service points at the revision that has passed every stage before this one."""

from finetune_operator import names
from finetune_operator.api.v1alpha1 import FineTuneJobSpec
from finetune_operator.conditions import Reason, Type
from finetune_operator.desired.hosting import stable_service
from finetune_operator.stages.base import Apply, Context, State, Step


class Promote:
    """The stable Service."""

    name = "promote"
    condition = Type.PROMOTED
    frees_serving = False

    def wanted(self, spec: FineTuneJobSpec) -> bool:
        """Only with hosting.enabled."""
        return spec.hosting.enabled

    def inputs(self, context: Context) -> str:
        """Nothing of its own: a Service can always be moved."""
        return names.digest(context.world.retry)

    def step(self, context: Context, inputs: str) -> Step:
        """Point the Service at this revision, unless it is somebody else's."""
        target, service = context.target, context.world.stable_service
        if service and not service.owned:
            return Step(
                State.BLOCKED,
                Reason.NAME_TAKEN,
                f"Service {target.name} exists and does not belong to this FineTuneJob; delete it, or apply the "
                "FineTuneJob under another name.",
            )
        actions = (Apply(stable_service(target, target.revision)),)
        if context.serves:
            return Step(
                State.SUCCEEDED, Reason.SUCCEEDED, f"Service {target.name} points at {target.revision}.", actions
            )
        return Step(State.RUNNING, Reason.RUNNING, f"Service {target.name} moves to {target.revision}.", actions)
