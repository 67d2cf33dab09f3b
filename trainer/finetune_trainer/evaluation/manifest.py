"""What a revision was told and what was chosen for it, as flat fields: two reports are compared by them.

Called by `stages.evaluate`, and for trackers by `training.trackers`. Pure. The report leaves the machine that made it,
so that of a local path no more than its end is kept, and nothing of an environment.
"""

from collections.abc import Iterator
from typing import Any

from finetune_trainer.contract.config import EvaluationConfig, RunConfig
from finetune_trainer.contract.results import PrepareResult

LOCAL = "file://"
# Places of an environment, and what changes nothing that is measured.
UNTOLD = {"prices": True, "accelerators": True, "judge": True, "baselines": {"__all__": {"endpoint": {"url"}}}}


def fields(config: RunConfig, evaluation: EvaluationConfig, prepared: PrepareResult) -> dict[str, str]:
    """Each field by its path, such as training.adapter.rank; prepare's choices under plan."""
    return trained(config, prepared) | dict(_flat({"evaluation": _document(evaluation, exclude=UNTOLD)}))


def trained(config: RunConfig, prepared: PrepareResult) -> dict[str, str]:
    """Those that training depends on."""
    told = _document(config, exclude={"name": True, "revision": True, "model": {"origin": {"files"}}})
    told["dataset"]["found"] = _document(prepared.dataset)
    told["plan"] = _document(prepared.plan, exclude={"reasons"})
    return dict(_flat(told))


def _document(part: Any, exclude: Any = None) -> dict[str, Any]:
    return dict(part.model_dump(mode="json", by_alias=True, exclude_none=True, exclude=exclude))


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and "uri" in value:
        yield path, _place(value["uri"])
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(inner, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        yield path, ", ".join(" ".join(text for _, text in _flat(each)) for each in value)
    else:
        yield path, f"{value:g}" if isinstance(value, float) else str(value)


def _place(uri: str) -> str:
    return uri.rstrip("/").rpartition("/")[2] if uri.startswith(LOCAL) else uri
