"""How an engine of a revision stands.

Used by `host` for the candidate, and by `evaluate` for the base model that it is compared with.
"""

from finetune_operator import names
from finetune_operator.finetunejob.desired.bucket import carried
from finetune_operator.finetunejob.stages.base import Context, Step
from finetune_operator.serving import rollout as serving


def inputs_of(context: Context) -> str:
    """A digest of everything of hosting that can keep an engine from starting."""
    hosting = names.given(context.spec.hosting, exclude={"replicas", "rollout"})
    asked = {"hosting": hosting, "retry": context.world.retry, "upgrade": context.world.upgrade}
    return names.digest(asked | carried(context.target))


def rollout(context: Context, name: str, stage: str) -> Step:
    """Where the Deployment `name` stands, whose pods carry `stage`. It is `hosting` that makes and removes it."""
    found, pods = context.world.deployments.get(name), context.world.pods_of(stage, context.target.revision)
    readiness = serving.rollout(name, found, pods, context.evidence)
    return Step(readiness.state, readiness.reason, readiness.message)
