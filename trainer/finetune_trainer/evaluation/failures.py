"""The answers that the tuned model got wrong, as preference pairs: the dataset of a DPO job.

Called by `finetune report --failures`. Pure. The form is TRL's preference form with its prompt: `prompt`, `chosen` and
`rejected`, as messages where the model was asked messages.
"""

from collections.abc import Sequence
from typing import Any

from finetune_trainer.contract.config import Metric
from finetune_trainer.contract.results import TUNED
from finetune_trainer.evaluation.inspection import Row

# By the judge's metric half a point is as good as the right answer.
RIGHT = {Metric.JUDGE: 0.5}


def pairs(rows: Sequence[Row], metric: Metric) -> list[dict[str, Any]]:
    """The right answer, chosen, and the model's, rejected: of each row that it has not wholly right; the worst first.

    Left out are rows with tools, whose right answer may be a call, and answers that are the right one word for word or
    have no word, which a dataset of preferences may not hold.
    """
    right = RIGHT.get(metric, 1.0)
    wrong = [row for row in rows if row.scores[metric][TUNED] < right and not row.tools and _usable(row)]
    return [_pair(row) for row in sorted(wrong, key=lambda row: row.scores[metric][TUNED])]


def _usable(row: Row) -> bool:
    return row.answers[TUNED].strip() not in ("", row.reference.strip())


def _pair(row: Row) -> dict[str, Any]:
    if isinstance(row.prompt, str):
        return {"prompt": row.prompt, "chosen": row.reference, "rejected": row.answers[TUNED]}
    return {
        "prompt": list(row.prompt),
        "chosen": [{"role": "assistant", "content": row.reference}],
        "rejected": [{"role": "assistant", "content": row.answers[TUNED]}],
    }
