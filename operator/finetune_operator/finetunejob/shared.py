"""The Engine that a manifest names in hosting.engine: what it serves, and whether an adapter of ours could be loaded.

`observe` reads it, `homes.shared` tells by it how a revision stands there, `walk` what is wrong before there is one.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from finetune_trainer.contract.sweep import largest_rank
from pydantic import ValidationError

from finetune_operator import names
from finetune_operator.api.engine import KIND, AdapterStatus, EngineSpec, EngineStatus
from finetune_operator.api.v1alpha1 import FineTuneJobSpec
from finetune_operator.conditions import Objection, Reason
from finetune_operator.finetunejob.desired.run_config import training_config
from finetune_operator.finetunejob.seat import Seat, loaded_on
from finetune_operator.kinds.actions import Action, Id, Ref, Scale, ref_of
from finetune_operator.kinds.snapshot import status_as
from finetune_operator.pods.metadata import Raw

# What a hub's model is of where nobody says.
_MAIN = "main"


@dataclass(frozen=True)
class EngineState:
    """An Engine. `spec`: None for what can't be read, which its own conditions tell of."""

    name: str
    ref: Ref
    version: str
    spec: EngineSpec | None
    status: EngineStatus

    @property
    def asleep(self) -> bool:
        """Whether it has no pods, and may be woken."""
        return self.spec is not None and self.spec.asleep

    def woken(self) -> tuple[Action, ...]:
        """What wakes it; nothing where it is awake."""
        return (Scale(self.ref, self.version, self.status.wakes_to or 1),) if self.asleep else ()

    def adapter(self, name: str) -> AdapterStatus:
        """What its pods tell of an adapter."""
        return next((found for found in self.status.adapters if found.name == name), AdapterStatus(name=name))


@dataclass(frozen=True)
class AdapterState:
    """What asks the Engine `on` for the adapter of a revision, and `data`, how."""

    ref: Ref
    on: str
    data: Mapping[str, str]


def engine_named_in(spec: Raw) -> str | None:
    """The Engine that a manifest names, as far as it can be read."""
    found = (spec.get("hosting") or {}).get("engine") or {}
    name = found.get("name") if isinstance(found, Mapping) else None
    return name if isinstance(name, str) else None


def engine_state(followed: Mapping[Id, Raw], spec: Raw) -> EngineState | None:
    """The Engine that a manifest names; one that is being deleted is of no use any more."""
    name = engine_named_in(spec)
    raw = followed.get((KIND, name)) if name else None
    if name is None or raw is None or "deletionTimestamp" in raw["metadata"]:
        return None
    version = raw["metadata"].get("resourceVersion", "")
    return EngineState(name, ref_of(KIND, raw), version, _spec(raw), status_as(EngineStatus, raw))


def _spec(raw: Raw) -> EngineSpec | None:
    try:
        return EngineSpec.model_validate(raw.get("spec", {}))
    except ValidationError:
        return None


def adapter_state(raw: Raw) -> AdapterState:
    """Read a ConfigMap that asks for one."""
    return AdapterState(ref_of("ConfigMap", raw), loaded_on(raw), raw.get("data") or {})


def served_seat(
    name: str, seat: Seat | None, engine: EngineState | None, adapters: Mapping[str, AdapterState], told: str | None
) -> Seat | None:
    """What answers. A shared Engine tells itself for which adapter it takes the name; until it takes the one that it is
    asked to, and where it can't be heard, that is what was `told` last.
    """
    if seat is None or not seat.on:
        return seat
    known = engine and engine.name == seat.on
    if engine and known and name in engine.adapter(names.of_revision(name, seat.address)).answers_as:
        return seat
    if told and names.of_adapter(name, told, seat.on) in adapters:
        return Seat(told, seat.on)
    return None if known else seat


def unfit(spec: FineTuneJobSpec, engine: EngineState | None, name: str, namespace: str) -> Objection | None:
    """Why the Engine of that name can't serve what this manifest makes; None where it can."""
    if engine is None:
        message = f"Not in namespace {namespace}: Engine {name}. Create it, or correct hosting.engine."
        return Reason.OBJECT_NOT_FOUND, message
    if engine.spec is None:
        return Reason.ENGINE_MISMATCH, f"Engine {name} has a manifest that is not valid; its conditions say why."
    told = _unlike(spec, engine, engine.spec) or _refused(spec, name, engine.spec)
    return (Reason.ENGINE_MISMATCH, told) if told else None


def _unlike(spec: FineTuneJobSpec, engine: EngineState, served: EngineSpec) -> str | None:
    """A sentence for another base model."""
    advice = "An adapter fits the model that it was trained on: name another Engine in hosting.engine, or make one."
    if served.model.source != spec.model.source:
        return f"Engine {engine.name} serves {served.model.source}, and model.source is {spec.model.source}. {advice}"
    wanted, given = spec.model.revision or _MAIN, served.model.revision or _MAIN
    commit = engine.status.model.commit if engine.status.model else None
    if wanted not in (given, commit):
        return (
            f"Engine {engine.name} serves revision {given} of {served.model.source}, and model.revision is {wanted}. "
            f"{advice}"
        )
    return None


def _refused(spec: FineTuneJobSpec, name: str, served: EngineSpec) -> str | None:
    """A sentence for an adapter that it does not take."""
    if served.lora is None:
        return f"Engine {name} loads no adapters: give it spec.lora, or name another one in hosting.engine."
    rank = largest_rank(training_config(spec.training))
    if rank > served.lora.max_rank:
        return (
            f"Engine {name} takes adapters up to rank {served.lora.max_rank} (spec.lora.maxRank), and this one has "
            f"rank {rank}: raise the one, or lower training.adapter.rank."
        )
    if served.lora.verify_key and not spec.output.sign:
        return (
            f"Engine {name} loads only what is signed with its key (spec.lora.verifyKey), and output.sign is not set: "
            "name the Secret of the private key there, or another Engine in hosting.engine."
        )
    return None
