"""An engine of its own: a Deployment for each revision that answers, with a Service for whoever wants that one."""

import json
from dataclasses import dataclass, replace

from finetune_operator import names
from finetune_operator.conditions import Objection, Reason
from finetune_operator.finetunejob.desired.bucket import carried
from finetune_operator.finetunejob.desired.engine import is_merged
from finetune_operator.finetunejob.desired.hosting import (
    HOST,
    base_service,
    candidate_service,
    candidate_url,
    deployment,
    engine_name,
    pod_template,
    policy,
    stable_service,
)
from finetune_operator.finetunejob.homes.base import EvaluationEndpoint, Home, Tenant
from finetune_operator.finetunejob.observe import World
from finetune_operator.finetunejob.record import template_key
from finetune_operator.finetunejob.remember import remember
from finetune_operator.finetunejob.seat import Seat
from finetune_operator.finetunejob.target import Target
from finetune_operator.kinds.actions import Action, Id, applied
from finetune_operator.pods.metadata import Manifest
from finetune_operator.serving.rollout import Look, Readiness, rollout

# What of hosting changes the Deployment, and not its pods; and what is wanted of a model that may not be there.
_NOT_THE_PODS = ("enabled", "replicas", "rollout", "revision_history_limit", "adapter")


@dataclass(frozen=True)
class OwnEngine(Home):
    """The FineTuneJob's own engines, which read the revision's volume."""

    on = ""
    mounts = True
    takes = "not kept (hosting.revisionHistoryLimit, training.keepCheckpoints) or was never trained"

    def unfit(self, target: Target, world: World) -> Objection | None:
        """It is made for it."""
        return None

    def can(self, target: Target, world: World, address: str) -> bool:
        """Whatever was trained, and is kept with its volume."""
        revision, _ = names.revision_and_step(address)
        return world.has(address) and world.keeps(revision)

    def holds(self, target: Target, tenant: Tenant) -> Id:
        """Its Deployment."""
        return "Deployment", engine_name(target.name, tenant.revision, tenant.stage)

    def make(self, target: Target, world: World, tenant: Tenant, replicas: int) -> tuple[Action, ...]:
        """The Deployment, after what says who may ask. Its pods are made once for each hosting that the manifest asks
        for, and kept in the record: another version of the operator would make others, and roll every engine.
        """
        state = world.records.get(target.revision)
        found = world.deployments.get(engine_name(target.name, tenant.revision, tenant.stage))
        if state is None or (found and found.ref.deleting):
            return ()
        spec = names.given(target.spec.hosting, exclude=set(_NOT_THE_PODS))
        merged = tenant.stage == HOST and is_merged(target.spec, state.record)
        first = {"merged": True} if merged else {}
        own = {HOST: first, names.BASE: {"base": True}}.get(tenant.stage, {"stage": tenant.stage})
        inputs = names.digest({"hosting": spec, "upgrade": world.upgrade, **own, **carried(target)})
        pod = state.record.template(inputs)
        if pod is not None:
            service = (applied(base_service(target)),) if tenant.stage == names.BASE else ()
            return (applied(policy(target)), applied(deployment(target, pod, replicas, tenant.stage)), *service)
        config, prepared = state.record.run_config, state.record.prepared
        if config is None or prepared is None:
            return ()
        length = target.spec.hosting.context_length or prepared.plan.context_length
        made = pod_template(target, config, length, tenant.stage, merged, state.record.trained)
        return remember(state, {template_key(inputs): json.dumps(made)})

    def beside(self, target: Target, world: World) -> tuple[Action, ...]:
        """The candidate's Service, unless the Deployment makes way for another one."""
        found = world.deployments.get(target.revision_name)
        return () if found and found.ref.deleting else (applied(candidate_service(target)),)

    def readiness(self, target: Target, world: World, serves: bool, look: Look) -> Readiness:
        """The Deployment's."""
        name = target.revision_name
        found, pods = world.deployments.get(name), world.pods_of(HOST, target.revision)
        readiness = rollout(name, found, pods, look)
        if serves and found and readiness.reason == Reason.RUNNING and found.available == 0:
            message = f"No pod of Deployment {name}, which serves, is available; its pods are starting."
            return replace(readiness, reason=Reason.ENGINE_UNAVAILABLE, message=message)
        return readiness

    def answers(self, target: Target, world: World, address: str) -> bool:
        """Once its Deployment is rolled out."""
        found = world.deployments.get(names.of_served(target.name, address))
        return found is not None and found.rolled_out

    def lead(self, target: Target, world: World, address: str) -> Manifest:
        """The stable one selects the pods of that Deployment."""
        return stable_service(target, Seat(address))

    def woken(self) -> tuple[Action, ...]:
        """It does not sleep."""
        return ()

    def asked(self, target: Target) -> EvaluationEndpoint:
        """The candidate's Service."""
        return EvaluationEndpoint(candidate_url(target), target.spec.hosting.api_key)
