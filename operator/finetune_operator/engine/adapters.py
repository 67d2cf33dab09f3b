"""The adapters that FineTuneJobs want of an Engine: the list, who has to be told, and what has come of it. Pure.

Each is a ConfigMap of a FineTuneJob's, and each further name a Service. The list goes two ways: in the record, which a
new pod begins with though the operator be away, and as an annotation of each pod, which reaches it within a second.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from finetune_trainer.contract.adapters import LIST, HeldAdapters, PublishedAdapter, WantedAdapters
from pydantic import ValidationError

from finetune_operator import names
from finetune_operator.api.engine import AdapterFailure, AdapterStatus, Lora
from finetune_operator.engine.observe import Loader, World
from finetune_operator.kinds.actions import Action, Patch
from finetune_operator.kinds.questions import Question, status_topic
from finetune_operator.pods.metadata import Raw, controller_of

# What an operator says who can't reach a pod's annotations.
_ADVICE = "Adapters reach running pods by it: let the operator patch pods, as its chart does."
NONE = WantedAdapters()
# What status takes of a pod's sentence.
_MESSAGE_LENGTH = 1024


def wanted(loads: Mapping[str, Sequence[Raw]]) -> WantedAdapters:
    """The list. An adapter's name is its object's, and a further name its FineTuneJob's, so that none takes another's;
    what can't be read is not there.
    """
    asked: dict[str, tuple[PublishedAdapter, str | None]] = {}
    for raw in _standing(loads.get("ConfigMap", ())):
        adapter = _adapter(raw)
        if adapter is not None:
            asked[adapter.name] = adapter, controller_of(raw)
    aliases = {}
    for raw in _standing(loads.get("Service", ())):
        alias = _owner(raw)
        name = names.of_revision(alias, (raw["metadata"].get("labels") or {}).get(names.REVISION, ""))
        if name in asked and asked[name][1] == controller_of(raw):
            aliases[alias] = name
    return WantedAdapters(adapters=tuple(adapter for adapter, _ in asked.values()), aliases=aliases)


def text(found: WantedAdapters) -> str:
    """As it is written; the same list is the same text."""
    return found.model_dump_json(by_alias=True)


def deliveries(world: World, lora: Lora | None) -> tuple[Action, ...]:
    """What brings the list to where it is missing; nothing before there is a record."""
    record = world.record
    if lora is None or record is None or record.ref.deleting:
        return ()
    now = text(wanted(world.loads))
    kept = () if record.adapters == now else (Patch(record.ref, {"data": {LIST: now}}),)
    annotations = {"metadata": {"annotations": {names.ADAPTERS_WANTED: now}}}
    pods = (Patch(pod.ref, annotations, _ADVICE) for pod in world.loaders if pod.live and pod.wanted != now)
    return (*kept, *pods)


def status(world: World, lora: Lora | None) -> list[AdapterStatus]:
    """Where each adapter stands. What pods told last stays until those that serve have been asked once: an operator
    that starts has asked none. One that gives no answer counts as one that has nothing.
    """
    if lora is None:
        return []
    found = wanted(world.loads)
    unheard = any(pod.live and pod.ready and pod.held is None and not pod.mute for pod in world.loaders)
    before = {told.name: told for told in world.status.adapters} if unheard else {}
    pods = sum(pod.live and pod.ready for pod in world.loaders)
    now = (before.get(each.name) or _status(each.name, found.aliases, world.loaders) for each in found.adapters)
    return [told.model_copy(update={"pods": pods}) for told in now]


def awaited(world: World, lora: Lora | None) -> bool:
    """Whether a pod is about to have news: something is wanted of it that it neither has nor has failed at."""
    found = wanted(world.loads) if lora else NONE
    return any(pod.live and (pod.held is None or _missing(found, pod.held)) for pod in world.loaders if lora)


def questions(world: World, lora: Lora | None) -> dict[str, Question]:
    """The pods that are worth asking."""
    pods = (pod for pod in world.loaders if lora and pod.live and pod.address)
    return {pod.ref.name: Question(pod.address or "", _HELD) for pod in pods}


def _shown(held: HeldAdapters) -> Any:
    """What status says of a pod."""
    return held.loaded, held.aliases, held.failed


_HELD = status_topic(HeldAdapters, _shown, silence=True)


def sentences(world: World, lora: Lora | None) -> list[str]:
    """What people should know of them all, in conditions."""
    found = status(world, lora)
    if lora is None or not found:
        return []
    said = [f"It has been asked for {len(found)} adapters."] if len(found) > 1 else ["It has been asked for 1 adapter."]
    if len(found) > lora.at_once:
        said.append(
            f"Of {len(found)} no more than {lora.at_once} have requests computed at once, and requests for others wait "
            "meanwhile: raise lora.atOnce if that takes too long."
        )
    failed = [adapter.name for adapter in found if adapter.failed]
    if failed:
        said.append(f"Some pods can't load {', '.join(failed)}: see status.adapters.")
    if mute := [pod.ref.name for pod in world.loaders if pod.live and pod.ready and pod.mute]:
        said.append(
            f"What {', '.join(mute)} has is not known: no answer comes from its container adapters; see its log, and "
            "whether a NetworkPolicy keeps the operator away."
        )
    return said


def _standing(raws: Iterable[Raw]) -> list[Raw]:
    kept = (raw for raw in raws if "deletionTimestamp" not in raw["metadata"])
    return sorted(kept, key=lambda raw: str(raw["metadata"]["name"]))


def _owner(raw: Raw) -> str:
    """The FineTuneJob's name, which the store has held against its uid."""
    owners = raw["metadata"].get("ownerReferences") or []
    return next((str(owner["name"]) for owner in owners if owner.get("controller")), "")


def _adapter(raw: Raw) -> PublishedAdapter | None:
    try:
        found = PublishedAdapter.model_validate_json((raw.get("data") or {}).get(names.ADAPTER, ""))
    except ValidationError:
        return None
    engine = (raw["metadata"].get("labels") or {}).get(names.LOADED_ON, "")
    return found if raw["metadata"]["name"] == names.adapter_of(found.name, engine) else None


def _status(name: str, aliases: Mapping[str, str], loaders: Sequence[Loader]) -> AdapterStatus:
    """Users reach the pods that are ready, so that it hangs on no other who has it; one that can't load it may be
    waiting for just that.
    """
    live = [pod for pod in loaders if pod.live]
    having = [pod.held for pod in live if pod.ready and pod.held and name in pod.held.loaded]
    missing = [pod.ref.name for pod in live if pod.ready and not (pod.held and name in pod.held.loaded)]
    answering = (alias for alias, target in sorted(aliases.items()) if target == name)
    failed = ((pod.ref.name, pod.held.failed[name]) for pod in live if pod.held and name in pod.held.failed)
    return AdapterStatus(
        name=name,
        loaded=len(having),
        missing=missing or None,
        answers_as=[alias for alias in answering if having and all(held.aliases.get(alias) == name for held in having)],
        failed=[AdapterFailure(pod=pod, message=message[:_MESSAGE_LENGTH]) for pod, message in failed],
    )


def _missing(found: WantedAdapters, held: HeldAdapters) -> bool:
    names_of = {adapter.name for adapter in found.adapters}
    there = names_of - held.failed.keys()
    aliases = {alias: name for alias, name in found.aliases.items() if name in there}
    return not there <= set(held.loaded) or any(held.aliases.get(alias) != name for alias, name in aliases.items())
