"""The form that answers have, as an engine can be made to keep to it: a JSON schema, or the labels to choose from.

Called by `testset`, for the baseline structured: what people would ship who don't fine-tune. Pure.

The schema is inferred from the answers in train, and says no more than they show: of objects the fields, which of them
every answer has, and no others; of lists what their items are; of all else the type. Values of several kinds may be
each of these. An object with many keys of which none is always there is a table, and may have any key.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from finetune_trainer.evaluation.contenders import Message
from finetune_trainer.evaluation.metrics import are_labels, parsed
from finetune_trainer.evaluation.normalise import label, said

# More keys than that, none of them in every answer, are no fields.
FIELDS = 32
_TYPES = {bool: "boolean", int: "integer", float: "number", str: "string", type(None): "null"}


def asked_for(references: Sequence[str]) -> Message | None:
    """What a request says beside its prompt, in vLLM's words; None where answers are neither JSON nor labels."""
    documents = [parsed(said(text)) for text in references]
    if documents and None not in documents:
        schema = {"name": "answer", "schema": inferred(documents)}
        return {"response_format": {"type": "json_schema", "json_schema": schema}}
    if documents and are_labels(references):
        return {"structured_outputs": {"choice": _labels(references)}}
    return None


def inferred(values: Sequence[Any]) -> Message:
    """The JSON schema of these values."""
    objects = [value for value in values if isinstance(value, dict)]
    lists = [value for value in values if isinstance(value, list)]
    kinds = {_TYPES[type(value)] for value in values if not isinstance(value, dict | list)}
    # Every integer is a number.
    plain = sorted(kinds - {"integer"} if "number" in kinds else kinds)
    found = [{"type": plain[0] if len(plain) == 1 else plain}] if plain else []
    found += [_object(objects)] if objects else []
    found += [_list(lists)] if lists else []
    return found[0] if len(found) == 1 else {"anyOf": found}


def _object(values: Sequence[dict[str, Any]]) -> Message:
    known = Counter(key for value in values for key in value)
    always = [key for key, count in known.items() if count == len(values)]
    if len(known) > FIELDS and not always:
        every = [inner for value in values for inner in value.values()]
        return {"type": "object", "additionalProperties": inferred(every)}
    fields = {key: inferred([value[key] for value in values if key in value]) for key in known}
    return {"type": "object", "properties": fields, "required": always, "additionalProperties": False}


def _list(values: Sequence[list[Any]]) -> Message:
    items = [item for value in values for item in value]
    return {"type": "array", "items": inferred(items)} if items else {"type": "array"}


def _labels(references: Sequence[str]) -> list[str]:
    """Each label in its most frequent spelling."""
    spelled = Counter(said(text) for text in references)
    return sorted({label(text): text for text, _ in reversed(spelled.most_common())}.values())
