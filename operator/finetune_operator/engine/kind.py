"""Engine, as the shell has to know it."""

from functools import partial

from finetune_operator import names
from finetune_operator.api import engine as api
from finetune_operator.conditions import Type
from finetune_operator.engine.observe import OWNED
from finetune_operator.engine.plan import plan, refused
from finetune_operator.kinds.plan import Kind, broken


def _named(name: str, made: str, revision: str | None) -> bool:
    return revision is None and made in (name, names.of_engine(name))


def _word(status: api.EngineStatus) -> str:
    return next((found.status for found in status.conditions if found.type == Type.READY), "Unknown")


KIND = Kind(
    name=api.KIND,
    plural=api.PLURAL,
    label=names.ENGINE_OF,
    owned=OWNED,
    plan=plan,
    broken=partial(broken, api.KIND, api.EngineStatus),
    refused=refused,
    word=_word,
    words=("True", "False", "Unknown"),
    counted="finetune_engines",
    counted_by="ready",
    named=_named,
)
