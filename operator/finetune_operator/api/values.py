"""The manifest's kinds of value: names, URIs, durations, quantities and fractions, each with the rules it obeys.

`pods` and the manifest's sections build their fields from these. The sentences have no subject: the API server and
`load` put the field's path before them.
"""

import re
from decimal import Decimal
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from finetune_operator.api.rules import CEL, Rule

# The longest object derived from a FineTuneJob is the Job NAME-REVISION-evaluate, whose name is a label value of 63.
NAME_MAX_LENGTH = 45


def _matches(pattern: str, message: str) -> Rule:
    return Rule(f"self.matches('^({pattern})$')", message, lambda value: re.fullmatch(pattern, value) is not None)


def _not_file(instead: str) -> Rule:
    return Rule(
        "!self.startsWith('file://')", f"file:// exists only for `finetune run`; in a cluster it must be {instead}"
    )


# A Service's name starts with a letter.
NAME_RULES = (
    _matches(
        "[a-z]([-a-z0-9]*[a-z0-9])?",
        "must be lower-case letters, digits and '-', starting with a letter and ending with a letter or digit, "
        "because the model's Service takes this name",
    ),
    Rule(
        f"self.size() <= {NAME_MAX_LENGTH}",
        f"must be at most {NAME_MAX_LENGTH} characters long, because the names of Jobs and volumes are made from it",
        lambda name: len(name) <= NAME_MAX_LENGTH,
    ),
)
JobName = Annotated[str, *NAME_RULES]

_OBJECT = "[a-z0-9]([-.a-z0-9]*[a-z0-9])?"
_PLACES = f"s3://[^/]+/.+|pvc://{_OBJECT}/.+|file://.+"
_MODEL_URIS = "hf://ORG/NAME, s3://BUCKET/PREFIX or pvc://CLAIM/PATH"
_DATA_URIS = "hf://datasets/ORG/NAME/FILE, s3://BUCKET/KEY, pvc://CLAIM/PATH or configmap://NAME/KEY"

ModelUri = Annotated[
    str,
    Field(max_length=1024),
    _matches(f"hf://[-.a-zA-Z0-9_]+/[-.a-zA-Z0-9_]+|s3://[^/]+|{_PLACES}", f"must be {_MODEL_URIS}"),
    _not_file(_MODEL_URIS),
]
DataUri = Annotated[
    str,
    Field(max_length=1024),
    _matches(f"hf://datasets/[^/]+/[^/]+/.+|configmap://{_OBJECT}/[-.a-zA-Z0-9_]+|{_PLACES}", f"must be {_DATA_URIS}"),
    _not_file(_DATA_URIS),
]

# Six digits a unit keep the sum within an int64 of nanoseconds, the API machinery's own duration.
_DURATION = "([0-9]{1,6}h)?([0-9]{1,6}m)?([0-9]{1,6}s)?"
Duration = Annotated[
    str,
    Field(max_length=32),
    Rule(
        f"self.matches('^{_DURATION}$') && self.matches('[1-9]')",
        "must be a duration longer than zero, such as 90m, 6h or 1h30m",
        lambda value: bool(re.fullmatch(_DURATION, value) and re.search("[1-9]", value)),
    ),
]


def seconds(duration: str) -> int:
    """Seconds in a `Duration`, such as 1h30m."""
    units = {"h": 3600, "m": 60, "s": 1}
    return sum(int(number) * units[unit] for number, unit in re.findall(r"(\d+)([hms])", duration))


# resource.Quantity's grammar without the minus sign.
_QUANTITY = re.compile(r"\+?([0-9]+(\.[0-9]*)?|\.[0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][-+]?[0-9]+)?")
_QUANTITY_SENTENCE = 'must be a quantity such as 2, "0.5", 500m or 16Gi'
_SIZE_SENTENCE = "must be a size above zero, such as 20Gi"


def _quantity(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | str) or not _QUANTITY.fullmatch(str(value)):
        raise PydanticCustomError("rule", _QUANTITY_SENTENCE)
    return value


def _size(value: Any) -> Any:
    if _QUANTITY.fullmatch(str(value)) and not re.match(r"\+?[0.]*[1-9]", str(value)):
        raise PydanticCustomError("rule", _SIZE_SENTENCE)
    return _quantity(value)


def _int_or_string(*rules: Rule) -> WithJsonSchema:
    return WithJsonSchema(
        {
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "x-kubernetes-int-or-string": True,
            "maxLength": 32,
            CEL: [rule.schema() for rule in rules],
        }
    )


_UNITS = {
    **{unit: Decimal(1000) ** power for power, unit in enumerate(("n", "u", "m", "", "k", *"MGTPE"), -3)},
    **{f"{unit}i": Decimal(1024) ** power for power, unit in enumerate("KMGTPE", 1)},
}


def quantity(value: int | str) -> Decimal:
    """The number that a `Quantity` stands for."""
    number, unit = re.fullmatch(r"(.*?)([numkMGTPE]i?|Ki)?", str(value)).groups()  # type: ignore[union-attr]
    return Decimal(number) * _UNITS[unit or ""]


_IS_QUANTITY = Rule("type(self) == int ? self >= 0 : isQuantity(self) && sign(quantity(self)) >= 0", _QUANTITY_SENTENCE)
_IS_SIZE = Rule("type(self) == int ? self > 0 : !isQuantity(self) || sign(quantity(self)) > 0", _SIZE_SENTENCE)

Quantity = Annotated[int | str, BeforeValidator(_quantity), _int_or_string(_IS_QUANTITY)]
Size = Annotated[int | str, BeforeValidator(_size), _int_or_string(_IS_QUANTITY, _IS_SIZE)]
Fraction = Annotated[
    float,
    Rule("self > 0.0 && self < 1.0", "must lie between 0 and 1, both excluded", lambda value: 0 < value < 1),
]
Opaque = Annotated[dict[str, Any], WithJsonSchema({"type": "object", "x-kubernetes-preserve-unknown-fields": True})]


def keyed_by(key: str) -> Any:
    """For a list whose items are told apart by `key`: appliers may own single items of it."""
    return Field(json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [key]})
