"""The kinds that the operator works on. A new one is one more entry."""

from finetune_operator.engine import kind as engine
from finetune_operator.finetunejob import kind as finetunejob

KINDS = {kind.name: kind for kind in (finetunejob.KIND, engine.KIND)}
