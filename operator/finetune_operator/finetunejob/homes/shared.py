"""A shared Engine: it is asked for a revision's adapter by a ConfigMap, and its status says which pods have it.

The Engine's pods read the artifact at its destination, so that a revision needs no volume there. Once it is promoted
the stable Service selects the Engine's pods, and asks them to take the FineTuneJob's name for that adapter.
"""

from dataclasses import dataclass, replace

from finetune_trainer.contract.adapters import PublishedAdapter

from finetune_operator import names
from finetune_operator.api.engine import AdapterStatus
from finetune_operator.conditions import Objection, Reason, Type
from finetune_operator.finetunejob.desired.hosting import adapter_data, adapter_map, asking_service, stable_service
from finetune_operator.finetunejob.homes.base import EvaluationEndpoint, Home, Tenant
from finetune_operator.finetunejob.observe import World
from finetune_operator.finetunejob.seat import Seat
from finetune_operator.finetunejob.shared import EngineState, unfit
from finetune_operator.finetunejob.target import Target
from finetune_operator.kinds.actions import Action, Create, Id, Patch
from finetune_operator.kinds.plan import State
from finetune_operator.pods.metadata import Manifest
from finetune_operator.serving import objects
from finetune_operator.serving.rollout import Look, Readiness


@dataclass(frozen=True)
class SharedEngine(Home):
    """The Engine `on`; `engine` is None while it isn't there, and for one that the manifest does not name any more."""

    on: str
    engine: EngineState | None = None
    mounts = False
    takes = (
        "not kept (hosting.revisionHistoryLimit), was never trained, or is not at output.destination, where the Engine "
        "reads it, as no checkpoint is"
    )

    def unfit(self, target: Target, world: World) -> Objection | None:
        """It serves another base model, or another commit of it, takes no such adapter, or is not there."""
        return self._unlike(target) or self._moved(target, world)

    def can(self, target: Target, world: World, address: str) -> bool:
        """What is published where the manifest says now, and what it has been asked for before."""
        asked = names.of_adapter(target.name, address, self.on) in world.adapters
        return world.has(address) and (asked or self._adapter(target, world, address) is not None)

    def holds(self, target: Target, tenant: Tenant) -> Id:
        """Its ConfigMap."""
        return "ConfigMap", names.of_adapter(target.name, tenant.revision, self.on)

    def make(self, target: Target, world: World, tenant: Tenant, replicas: int) -> tuple[Action, ...]:
        """The ConfigMap. How many replicas there are is the Engine's."""
        adapter = self._adapter(target, world, tenant.revision)
        found = world.adapters.get(names.of_adapter(target.name, tenant.revision, self.on))
        if adapter is None or (found and found.ref.deleting):
            return ()
        if found is None:
            return (Create(adapter_map(target, self.on, adapter)),)
        wanted = adapter_data(adapter)
        return () if found.data == wanted else (Patch(found.ref, {"data": wanted}),)

    def beside(self, target: Target, world: World) -> tuple[Action, ...]:
        """Nothing: whoever wants that one and no other asks the Engine for it by its name."""
        return ()

    def readiness(self, target: Target, world: World, serves: bool, look: Look) -> Readiness:
        """What the Engine tells of the adapter."""
        adapter = self._told(target, target.revision)
        if problem := self._unlike(target) if serves else self.unfit(target, world):
            return Readiness(State.BLOCKED, *problem)
        if asleep := self._asleep(serves):
            return asleep
        if names.of_adapter(target.name, target.revision, self.on) not in world.adapters:
            return Readiness(State.RUNNING, Reason.STARTING, self._asking(adapter))
        if adapter.failed:
            first = adapter.failed[0]
            message = f"Pod {first.pod} of Engine {self.on} could not load adapter {adapter.name}: {first.message}"
            return Readiness(State.BLOCKED, Reason.ADAPTER_NOT_LOADED, message)
        if adapter.everywhere or (serves and adapter.loaded):
            have = f"Engine {self.on} has adapter {adapter.name} in {adapter.loaded} of {adapter.pods} pods."
            return Readiness(State.SUCCEEDED, Reason.SUCCEEDED, have)
        return self._loading(adapter, serves)

    def answers(self, target: Target, world: World, address: str) -> bool:
        """Once every pod has it."""
        adapter = self._told(target, address)
        asked = names.of_adapter(target.name, address, self.on) in world.adapters
        return asked and not adapter.failed and adapter.everywhere

    def lead(self, target: Target, world: World, address: str) -> Manifest:
        """The Engine takes the name for that adapter before requests go there, so that who answers elsewhere goes on
        until then.
        """
        known = target.name in self._told(target, address).answers_as
        if world.pointer is None or world.pointer.on == self.on or known:
            return stable_service(target, Seat(address, self.on))
        return asking_service(replace(target, revision=address), self.on)

    def woken(self) -> tuple[Action, ...]:
        """As many pods as it had before."""
        return self.engine.woken() if self.engine else ()

    def asked(self, target: Target) -> EvaluationEndpoint:
        """The Engine itself, which has the base model, too."""
        models = target.revision_name, self.on
        spec = self.engine.spec if self.engine else None
        return EvaluationEndpoint(objects.url(self.on, target.namespace), spec.api_key if spec else None, models)

    def _adapter(self, target: Target, world: World, address: str) -> PublishedAdapter | None:
        """What is published of a revision."""
        _, step = names.revision_and_step(address)
        found = world.record(address).published(target.spec.output) if step is None else None
        name = names.of_revision(target.name, address)
        return PublishedAdapter(name=name, uri=found.uri, digest=found.artifact.digest) if found else None

    def _told(self, target: Target, address: str) -> AdapterStatus:
        name = names.of_revision(target.name, address)
        return self.engine.adapter(name) if self.engine else AdapterStatus(name=name)

    def _unlike(self, target: Target) -> Objection | None:
        return unfit(target.spec, self.engine, self.on, target.namespace)

    def _moved(self, target: Target, world: World) -> Objection | None:
        """Another commit of the base model than the adapter is of."""
        prepared, model = world.record(target.revision).prepared, self.engine.status.model if self.engine else None
        trained, served = prepared.model.commit if prepared else None, model.commit if model else None
        if not trained or served in (None, trained):
            return None
        return Reason.ENGINE_MISMATCH, (
            f"Engine {self.on} serves commit {served} of {target.spec.model.source}, and revision {target.revision} is "
            f"of commit {trained}: set model.revision of the Engine to that, or of both to the same commit."
        )

    def _asleep(self, serves: bool) -> Readiness | None:
        """What serves there may sleep, and does when nobody asks; a candidate has it woken."""
        spec = self.engine.spec if self.engine else None
        if self.engine is None or spec is None or spec.replicas > 0:
            return None
        if self.engine.asleep and serves:
            message = f"Engine {self.on} is asleep: a request to finetune-api, or a scale, wakes it."
            return Readiness(State.SUCCEEDED, Reason.ASLEEP, message)
        if self.engine.asleep:
            return Readiness(State.RUNNING, Reason.STARTING, f"Engine {self.on} is asleep, and is woken.")
        message = f"Engine {self.on} has no pods (its spec.replicas is 0): kubectl scale eng {self.on} --replicas 1."
        return Readiness(State.BLOCKED, Reason.SCALED_TO_ZERO, message)

    def _loading(self, adapter: AdapterStatus, serves: bool) -> Readiness:
        """Why it is not there yet: the Engine's own trouble, where it has some."""
        conditions = self.engine.status.conditions if self.engine else []
        trouble = next((found for found in conditions if found.type == Type.READY and found.status == "False"), None)
        if trouble:
            message = f"Engine {self.on} is not ready ({trouble.reason}): {trouble.message}"
            return Readiness(State.BLOCKED, Reason.ENGINE_UNAVAILABLE, message)
        loads = f"Engine {self.on} loads adapter {adapter.name}: {adapter.loaded} of {adapter.pods} pods have it."
        unanswered = f"No pod of Engine {self.on} answers." if serves else self._asking(adapter)
        message = loads if adapter.pods else unanswered
        return Readiness(State.RUNNING, Reason.ENGINE_UNAVAILABLE if serves else Reason.RUNNING, message)

    def _asking(self, adapter: AdapterStatus) -> str:
        return f"Engine {self.on} is asked for adapter {adapter.name}."
