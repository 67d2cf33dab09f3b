"""Whether an object still is as it was applied, so that nothing is sent that would change nothing.

Each applied object carries a digest of what was wanted of it. Whoever changes one of its fields afterwards takes that
field from us in `managedFields`, the API server's own account of who set what. So an object is left alone while its
digest is the wanted one and every wanted field is still ours; after a restart both are read off the object.
"""

import json
from typing import Any

from finetune_operator import names
from finetune_operator.pods.metadata import Manifest, Raw


def stamped(manifest: Manifest) -> Manifest:
    """The manifest with its own digest among its annotations."""
    metadata = manifest["metadata"]
    annotations = {**metadata.get("annotations", {}), names.APPLIED: names.digest(manifest)}
    return {**manifest, "metadata": {**metadata, "annotations": annotations}}


def as_applied(raw: Raw, wanted: Manifest) -> bool:
    """Whether `raw`, as it was last seen, is what applying `wanted` (stamped) would leave."""
    metadata = raw["metadata"]
    digest = (metadata.get("annotations") or {}).get(names.APPLIED)
    if digest != wanted["metadata"]["annotations"][names.APPLIED]:
        return False
    mine = ours(metadata.get("managedFields") or [])
    if mine is None:
        return False
    # Labels say who is asked for what, and are taken away as easily as a field.
    labels = {"labels": wanted["metadata"].get("labels", {})}
    return _owned(labels, mine.get("f:metadata", {})) and _owned(wanted["spec"], mine.get("f:spec", {}))


def ours(managed_fields: list[Raw]) -> Raw | None:
    """The fields that our applies have set (FieldsV1); None when we never applied anything."""
    return next(
        (
            entry.get("fieldsV1", {})
            for entry in managed_fields
            if entry.get("manager") == names.FIELD_MANAGER
            and entry.get("operation") == "Apply"
            and not entry.get("subresource")
        ),
        None,
    )


def _owned(wanted: Any, fields: Raw) -> bool:
    """Whether every leaf of `wanted` stands in a FieldsV1 tree; a leaf of the tree covers all that is below it."""
    if not fields:
        return True
    if isinstance(wanted, dict):
        found = ((value, fields.get(f"f:{key}")) for key, value in wanted.items())
        # Most are leaves, {}.
        return all(below is not None and (not below or _owned(value, below)) for value, below in found)
    if isinstance(wanted, list) and (items := _items(fields)):
        return all(_item_owned(item, items) for item in wanted)
    return True


def _items(fields: Raw) -> list[tuple[Raw, Raw]]:
    """The items of a list with keys: FieldsV1 names each by the values of its key fields."""
    return [(json.loads(key[2:]), below) for key, below in fields.items() if key.startswith("k:")]


def _item_owned(item: Raw, items: list[tuple[Raw, Raw]]) -> bool:
    for keys, below in items:
        if all(item.get(name) == value for name, value in keys.items()):
            return _owned(item, below)
    return False
