"""How entries get into a revision's record: by `stages`, and by whoever makes its engine."""

from collections.abc import Mapping

from finetune_operator.finetunejob.observe import RecordState
from finetune_operator.kinds.actions import Action, Patch


def remember(state: RecordState | None, entries: Mapping[str, str]) -> tuple[Action, ...]:
    """Add to a record what it does not have yet. The version makes it fail where somebody was faster."""
    if state is None or state.ref.deleting:
        return ()
    new = {key: text for key, text in entries.items() if key not in state.record}
    if not new:
        return ()
    return (Patch(state.ref, {"metadata": {"resourceVersion": state.version}, "data": new}),)
