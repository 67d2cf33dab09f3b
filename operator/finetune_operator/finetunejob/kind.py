"""FineTuneJob, as the shell has to know it."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from finetune_operator import names
from finetune_operator.api import engine, v1alpha1
from finetune_operator.api.status import FineTuneJobStatus, Phase
from finetune_operator.finetunejob import shared
from finetune_operator.finetunejob.observe import OWNED
from finetune_operator.finetunejob.plan import plan, refused
from finetune_operator.finetunejob.stages import JOBS, origin
from finetune_operator.kinds.actions import Id
from finetune_operator.kinds.plan import Kind, broken


def _follows(spec: Mapping[str, Any]) -> tuple[Id, ...]:
    named = ((v1alpha1.KIND, origin.source_named_in(spec)), (engine.KIND, shared.engine_named_in(spec)))
    return tuple((kind, name) for kind, name in named if name)


def _claims(spec: Mapping[str, Any]) -> str | None:
    """Where it publishes to, as far as that can be read."""
    found = (spec.get("output") or {}).get("destination")
    return found.rstrip("/") if isinstance(found, str) else None


def _named(name: str, made: str, revision: str | None) -> bool:
    if revision is None:
        return made in (name, names.of_clients(name))
    whole = names.of_revision(name, revision)
    part = made.removeprefix(f"{whole}-")
    if part == made:
        return made in (name, whole)
    asks = made == names.of_asking(name, revision) or made.startswith(names.of_adapter(name, revision, ""))
    return asks or part in (*JOBS, names.BASE) or names.step_of(part) is not None


def _word(status: FineTuneJobStatus) -> str:
    return status.phase


KIND = Kind(
    name=v1alpha1.KIND,
    plural=v1alpha1.PLURAL,
    label=names.JOB,
    owned=OWNED,
    plan=plan,
    broken=partial(broken, v1alpha1.KIND, FineTuneJobStatus),
    refused=refused,
    word=_word,
    words=tuple(Phase),
    counted="finetune_jobs",
    counted_by="phase",
    follows=_follows,
    claims=_claims,
    named=_named,
)
