"""What is trained beside the frozen base model, in the words that PEFT's users have for it."""

from collections.abc import Mapping
from typing import Any

from finetune_cli.importing.draft import RANKS, Draft, modules, number, rank

_NEITHER = "8-bit base models are not there: training.adapter.type qlora holds it in four bits"


def put(draft: Draft, kind: str, theirs: Mapping[str, str], because: str = "") -> None:
    """The adapter: `kind` is lora, qlora, dora or none, as the setting `because` says.

    `theirs`: what they call rank, alpha, dropout and targets, the plain switches rslora and loraplus, and the modules
    that are trained as a whole (saved).
    """
    draft.put(because, "training/adapter/type", kind)
    if kind == "none":
        for name in theirs.values():
            draft.leave(name, "all weights are trained, and there is no adapter")
        return
    _rank(draft, theirs.get("rank", ""))
    _plain(draft, theirs.get("alpha", ""), "alpha", lambda value: round(float(value)))
    _plain(draft, theirs.get("dropout", ""), "dropout", number)
    _plain(draft, theirs.get("rslora", ""), "useRslora", lambda value: bool(value) or None)
    _plain(draft, theirs.get("loraplus", ""), "loraplusLrRatio", number)
    _targets(draft, theirs.get("targets", ""))
    _saved(draft, kind, theirs.get("saved", ""))


def quantized(draft: Draft, four: str, eight: str) -> bool:
    """Whether the base model is held in four bits; of eight it is told that they are not there."""
    if draft.get(eight):
        draft.leave(eight, _NEITHER)
    draft.join("training.adapter.type", four, eight)
    return bool(draft.get(four))


def _rank(draft: Draft, theirs: str) -> None:
    if (value := draft.get(theirs)) is None:
        return
    found = rank(value)
    draft.put(theirs, "training/adapter/rank", found, "" if found == int(value) else f"vLLM serves {RANKS}")


def _plain(draft: Draft, theirs: str, ours: str, read: Any) -> None:
    value = draft.get(theirs)
    if value is not None and (became := read(value)) is not None:
        draft.put(theirs, f"training/adapter/{ours}", became)
    draft.join(f"training.adapter.{ours}", theirs)


def _targets(draft: Draft, theirs: str) -> None:
    if (value := draft.get(theirs)) is None:
        return
    found = modules(value)
    whole = found in (["all-linear"], ["all"])
    draft.put(theirs, "training/adapter/targetModules", ["all-linear"] if whole else found)


def _saved(draft: Draft, kind: str, theirs: str) -> None:
    if not (value := draft.get(theirs)):
        draft.join("training.adapter.modulesToSave", theirs)
    elif kind == "qlora":
        draft.leave(theirs, "the base model is in four bits, which nothing is merged with: choose adapter.type lora")
    else:
        draft.put(theirs, "training/adapter/modulesToSave", modules(value), "served merged with the base model")
