"""The decision about one Engine: from what the cluster looks like to actions and the status that tells of it. Pure."""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from pydantic import ValidationError

from finetune_operator import names
from finetune_operator.api.complaints import complaints
from finetune_operator.api.crd import ENGINE
from finetune_operator.api.engine import KIND, EngineSpec, EngineStatus
from finetune_operator.conditions import Objection, Reason, merge
from finetune_operator.engine import adapters, desired, sleep
from finetune_operator.engine.desired import Target
from finetune_operator.engine.observe import World, observe, status_of
from finetune_operator.engine.summary import tell
from finetune_operator.kinds.actions import Action, Create, Id, Patch, applied, needed
from finetune_operator.kinds.plan import (
    MISSING_SECONDS,
    REFUSED_SECONDS,
    Plan,
    Refusal,
    events_of,
    refuse,
    sooner,
    taken,
)
from finetune_operator.kinds.snapshot import Snapshot
from finetune_operator.pods.metadata import Manifest
from finetune_operator.pods.sources import claim_of
from finetune_operator.serving import requests
from finetune_operator.settings import Settings

# What of the manifest changes the Deployment, and not its pods.
_NOT_THE_PODS = ("replicas", "rollout", "idle_after")


def plan(snapshot: Snapshot, settings: Settings, now: datetime) -> Plan[EngineStatus]:
    """Decide. An Engine that is being deleted needs nothing: what it owns goes with it."""
    world = observe(snapshot)
    if world.deleting:
        return Plan(world.status)
    try:
        spec = EngineSpec.model_validate(world.spec)
    except ValidationError as error:
        return _problem(world, None, (Reason.INVALID, "; ".join(complaints(error, "spec", of=ENGINE))), now)
    target = Target(world.name, world.namespace, world.uid, spec, settings)
    inputs = _inputs(world, spec)
    begun = world.record is not None and world.record.inputs == inputs
    if not begun:
        if world.unread:
            return _problem(world, spec, (Reason.REFUSED, world.unread), now)
        if reads := _depends_on(target, world) - world.named.keys():
            return Plan(world.status, reads=reads)
        if problem := _missing(target, world):
            return _problem(world, spec, problem, now)
    actions = needed(world.objects, _actions(target, world, inputs))
    status = tell(world, spec, None, now, pending=bool(actions))
    rest = () if actions else sleep.falls_asleep(world, spec)
    busy = world.pods, world.busy, world.status.requests
    return Plan(
        status,
        work=(*actions, *(adapters.deliveries(world, spec.lora) if begun else ()), *rest),
        events=events_of(world.status.conditions, status.conditions),
        again_after=sooner(sleep.again_after(world, spec), requests.again_after(*busy, now)),
        ask=adapters.questions(world, spec.lora) | requests.questions(world.pods),
        soon=adapters.awaited(world, spec.lora),
    )


def refused(
    snapshot: Snapshot, planned: Plan[EngineStatus], refusals: Sequence[Refusal], now: datetime
) -> Plan[EngineStatus]:
    """What to say in place of `planned` when some of its actions could not be carried out."""
    before = status_of(snapshot.subject).conditions
    told = merge(before, refuse(planned.status.conditions, refusals, now))
    status = planned.status.model_copy(update={"conditions": told})
    return replace(planned, status=status, events=events_of(before, told), again_after=REFUSED_SECONDS)


def _problem(world: World, spec: EngineSpec | None, problem: Objection, now: datetime) -> Plan[EngineStatus]:
    """Nothing is changed: what answers goes on answering."""
    status = tell(world, spec, problem, now)
    events = events_of(world.status.conditions, status.conditions)
    return Plan(status, events=events, again_after=MISSING_SECONDS)


def _inputs(world: World, spec: EngineSpec) -> str:
    """A digest of all that the pods are made from, but for the operator's own defaults."""
    return names.digest({"engine": names.given(spec, exclude=set(_NOT_THE_PODS)), "upgrade": world.upgrade})


def _depends_on(target: Target, world: World) -> frozenset[Id]:
    """What is not ours and matters before the pods are made: the claim, and the Service's name."""
    claim = claim_of(target.spec.model.source)
    service = ("Service", target.name)
    claims = {("PersistentVolumeClaim", claim)} if claim else set()
    return frozenset(claims | ({service} - world.objects.keys()))


def _missing(target: Target, world: World) -> Objection | None:
    service, claim = ("Service", target.name), claim_of(target.spec.model.source)
    if claim and not world.named["PersistentVolumeClaim", claim]:
        return Reason.OBJECT_NOT_FOUND, (
            f"Not in namespace {world.namespace}: PersistentVolumeClaim {claim}. Create it, or correct model.source."
        )
    if world.named.get(service) and service not in world.objects:
        return Reason.NAME_TAKEN, taken(KIND, *service)
    return None


def _actions(target: Target, world: World, inputs: str) -> tuple[Action, ...]:
    """The record first: another version of the operator would make other pods, and replace all that answer."""
    pod = _kept(world, inputs)
    if pod is None:
        return _remember(target, world, inputs)
    made = (desired.service(target), desired.policy(target), desired.deployment(target, pod))
    return tuple(applied(manifest) for manifest in made)


def _kept(world: World, inputs: str) -> Manifest | None:
    """The pods as they were made for this manifest."""
    found = world.record
    if found is None or found.inputs != inputs or found.pod is None:
        return None
    return dict(json.loads(found.pod))


def _remember(target: Target, world: World, inputs: str) -> tuple[Action, ...]:
    """Make the record, or put the new pods in the place of the old. The version makes it fail where somebody was
    faster.
    """
    found = world.record
    if found is None:
        return (Create(desired.record(target, inputs, adapters.wanted(world.loads))),)
    if found.ref.deleting:
        return ()
    annotations = {names.INPUTS: inputs}
    told = {"resourceVersion": found.version, "annotations": annotations}
    return (Patch(found.ref, {"metadata": told, "data": desired.kept(target, adapters.wanted(world.loads))}),)
