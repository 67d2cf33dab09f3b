"""The manifest's kinds of value: names, labels, images, URIs, durations, quantities, each with the rules it obeys.

`pods` and the manifest's sections build their fields from these. The sentences have no subject: the API server and
`load` put the field's path before them.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, Literal

from finetune_trainer.contract.schemes import SCHEMES, forms, listed
from pydantic import BeforeValidator, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, WithJsonSchema
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from finetune_operator.api.rules import CEL, Rule

# The longest object derived from a FineTuneJob is the Job NAME-REVISION-evaluate, whose name is a label value of 63.
NAME_MAX_LENGTH = 45
# In one row or context; no model of today takes more than ten million.
MOST_TOKENS = 2**24

# Hyperparameters, for training itself and for its sweep.
Epochs = Annotated[float, Field(gt=0, le=10_000)]
LearningRate = Annotated[float, Field(gt=0, le=1)]
BatchSize = Annotated[int, Field(ge=1, le=65_536)]
# The ranks that vLLM can serve (`--max-lora-rank`), without 1.
Rank = Literal[8, 16, 32, 64, 128, 256, 320, 512]
Alpha = Annotated[int, Field(ge=1, le=65_536)]
Dropout = Annotated[float, Field(ge=0, lt=1)]


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
ENGINE_NAME_RULES = (
    NAME_RULES[0],
    Rule(
        "self.size() <= 63",
        "must be at most 63 characters long, because the model's Service takes this name",
        lambda name: len(name) <= 63,
    ),
)
ServiceName = Annotated[str, *ENGINE_NAME_RULES]

_DNS_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
SUBDOMAIN = f"{_DNS_LABEL}([.]{_DNS_LABEL})*"
ObjectName = Annotated[
    str,
    Field(max_length=253),
    _matches(
        SUBDOMAIN,
        "must be an object's name: lower-case letters, digits, '-' and '.', starting and ending with a letter or digit",
    ),
]
# The label by which Kueue knows a Job's LocalQueue.
QUEUE = "kueue.x-k8s.io/queue-name"
QueueName = Annotated[
    str,
    Field(max_length=63),
    _matches(
        SUBDOMAIN,
        "must be a LocalQueue's name: lower-case letters, digits, '-' and '.', starting and ending with a letter or "
        "digit",
    ),
]
# An empty one asks for a volume that somebody made by hand.
StorageClassName = Annotated[
    str,
    Field(max_length=253),
    _matches(
        f"({SUBDOMAIN})?",
        "must be a storage class's name: lower-case letters, digits, '-' and '.', starting and ending with a letter or "
        "digit",
    ),
]
# A ConfigMap's or Secret's.
_DATA_KEY = "[-._a-zA-Z0-9]+"
DataKey = Annotated[
    str, Field(max_length=253), _matches(_DATA_KEY, "must be a Secret's key: letters, digits, '-', '_' and '.'")
]

QUALIFIED = "([A-Za-z0-9][-A-Za-z0-9_.]{0,61})?[A-Za-z0-9]"
LABEL_KEY = f"({SUBDOMAIN}/)?{QUALIFIED}"
LABEL_KEY_SENTENCE = (
    "a key must be NAME or DOMAIN/NAME, where NAME has at most 63 letters, digits, '-', '_' and '.', "
    "starting and ending with a letter or digit"
)
LabelValue = Annotated[
    str,
    Field(max_length=63),
    _matches(
        f"({QUALIFIED})?",
        "must be a label's value: at most 63 letters, digits, '-', '_' and '.', starting and ending with a letter or "
        "digit",
    ),
]


def label_keys() -> Rule:
    """The rule that a map's keys are those of labels (and of annotations)."""
    return Rule(
        f"self.all(key, key.matches('^({LABEL_KEY})$') && key.indexOf('/') <= 253)",
        LABEL_KEY_SENTENCE,
        lambda found: all(re.fullmatch(LABEL_KEY, key) and key.find("/") <= 253 for key in found),
    )


# The grammar of github.com/distribution/reference.
_HOST = "[a-zA-Z0-9]([-a-zA-Z0-9]*[a-zA-Z0-9])?"
_REGISTRY = f"{_HOST}([.]{_HOST})*(:[0-9]+)?"
_PATH = "[a-z0-9]+(([.]|_|__|-+)[a-z0-9]+)*"
_TAG = "[a-zA-Z0-9_][-.a-zA-Z0-9_]{0,127}"
_DIGEST = "[a-zA-Z][a-zA-Z0-9]*([-_+.][a-zA-Z][a-zA-Z0-9]*)*:[0-9a-fA-F]{32,}"
Image = Annotated[
    str,
    Field(max_length=512),
    _matches(
        f"({_REGISTRY}/)?{_PATH}(/{_PATH})*(:{_TAG})?(@{_DIGEST})?",
        "must be an image such as registry.example.com/team/image:1.0, in lower case but for the tag",
    ),
]

_HUB_NAME = "[-.a-zA-Z0-9_]+"
_BUCKET = "[-._:a-zA-Z0-9]+"
_GOOGLE_BUCKET = "[-._a-z0-9]+"
_CONTAINER = "[-a-z0-9]+"
_REPOSITORY = f"{_REGISTRY}(/{_PATH})+"
_REFERENCE = f"(:{_TAG}|@sha256:[0-9a-f]{{64}})"
# A revision, or a checkpoint of one.
_ADDRESS = "[0-9a-f]{8}(@(0|[1-9][0-9]{0,15}))?"
# What the forms in the table of schemes mean, as regular expressions.
_BEHIND = {
    "hf": {
        "model": f"{_HUB_NAME}/{_HUB_NAME}",
        "dataset": "datasets/[^/]+/[^/]+/.+",
        "output": f"{_HUB_NAME}/{_HUB_NAME}",
    },
    "s3": {
        "model": f"{_BUCKET}(/.+)?",
        "dataset": f"{_BUCKET}/.+",
        "output": f"{_BUCKET}/.+",
        "bucket": f"{_BUCKET}/.+",
    },
    "gs": {
        "model": f"{_GOOGLE_BUCKET}/.+",
        "dataset": f"{_GOOGLE_BUCKET}/.+",
        "output": f"{_GOOGLE_BUCKET}/.+",
        "bucket": f"{_GOOGLE_BUCKET}/.+",
    },
    "abfs": {
        "model": f"{_CONTAINER}/.+",
        "dataset": f"{_CONTAINER}/.+",
        "output": f"{_CONTAINER}/.+",
        "bucket": f"{_CONTAINER}/.+",
    },
    "oci": {
        "model": f"{_REPOSITORY}{_REFERENCE}",
        "dataset": f"{_REPOSITORY}{_REFERENCE}/.+",
        "output": _REPOSITORY,
    },
    # No * either, for nothing lists a server's files; what follows a ? is often a secret.
    "https": {"dataset": f"{_REGISTRY}/[^?#@*]+"},
    "pvc": {"model": f"{SUBDOMAIN}/.+", "dataset": f"{SUBDOMAIN}/.+", "output": f"{SUBDOMAIN}/.+"},
    "configmap": {"dataset": f"{SUBDOMAIN}/{_DATA_KEY}"},
    "ftj": {"model": f"[a-z]([-a-z0-9]*[a-z0-9])?(/{_ADDRESS})?"},
}


def _addresses(kind: str, *others: str) -> Rule:
    """The rule that an address is one of a model, a dataset, an output or a bucket."""
    patterns = [f"{scheme.name}://{_BEHIND[scheme.name][kind]}" for scheme in SCHEMES if getattr(scheme, kind)]
    return _matches("|".join([*patterns, *others]), f"must be {listed(forms(kind))}")


# A mounted path may not lead out of its volume; for what is fetched, such a part is a slip.
_STAYS = Rule(
    "self.startsWith('file://') || !self.matches('/[.][.](/|$)')",
    "must not have '..' in its path: name the place itself",
    lambda uri: uri.startswith("file://") or re.search("/[.][.](/|$)", uri) is None,
)

_MANY_FILES = Rule(
    "!self.startsWith('https://')",
    "can't be https://: a model is many files, and no web server lists them; put it into a bucket, a registry or a "
    "claim, or on the hub",
    lambda uri: not uri.startswith("https://"),
)

ModelUri = Annotated[
    str,
    Field(max_length=1024),
    # The rule after it says why not.
    _addresses("model", "file://.+", "https://.*"),
    _MANY_FILES,
    _STAYS,
    _not_file(listed(forms("model"))),
]
DataUri = Annotated[
    str,
    Field(max_length=1024),
    _addresses("dataset", "file://.+"),
    _STAYS,
    _not_file(listed(forms("dataset"))),
]
Checksum = Annotated[
    str,
    Field(max_length=71),
    _matches("sha256:[0-9a-f]{64}", "must be sha256: and the 64 hex digits of sha256sum"),
]
PublicKey = Annotated[
    str,
    Field(max_length=2048),
    _matches(
        "-----BEGIN PUBLIC KEY-----[-+/=A-Za-z0-9 \\r\\n]+-----END PUBLIC KEY-----[\\r\\n]*",
        "must be a public key in PEM, from -----BEGIN PUBLIC KEY----- to -----END PUBLIC KEY-----",
    ),
]
OutputUri = Annotated[
    str,
    Field(max_length=1024),
    _addresses("output"),
    _STAYS,
]
BucketUri = Annotated[
    str,
    Field(max_length=1024),
    _addresses("bucket"),
    _STAYS,
]
CacheUri = Annotated[
    str,
    Field(max_length=1024),
    _matches(f"pvc://{SUBDOMAIN}/.+", "must be pvc://CLAIM/PATH"),
    _STAYS,
]
_TASKS_URIS = "pvc://CLAIM/PATH or configmap://NAME"
TasksUri = Annotated[
    str,
    Field(max_length=1024),
    _matches(f"pvc://{SUBDOMAIN}/.+|configmap://{SUBDOMAIN}|file://.+", f"must be {_TASKS_URIS}"),
    _STAYS,
    _not_file(_TASKS_URIS),
]
GitRevision = Annotated[
    str,
    Field(max_length=255),
    Rule(
        "self.matches('^[a-zA-Z0-9_][-._/+a-zA-Z0-9]*$') && !self.contains('..')",
        "must be a branch, tag or commit: letters, digits, '-', '.', '_', '/' and '+', without '..'",
        lambda name: re.fullmatch("[a-zA-Z0-9_][-._/+a-zA-Z0-9]*", name) is not None and ".." not in name,
    ),
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
_SIZE_SENTENCE = "must be at least 1Mi, such as 20Gi: a number without a unit counts bytes"
_UNITS = {
    **{unit: Decimal(1000) ** power for power, unit in enumerate(["n", "u", "m", "", *"kMGTPE"], -3)},
    **{f"{unit}i": Decimal(1024) ** power for power, unit in enumerate("KMGTPE", 1)},
}


def quantity(value: int | str) -> Decimal:
    """The number that a `Quantity` stands for."""
    unit = re.sub(".*[^a-zA-Z]", "", str(value))
    return Decimal(str(value).removesuffix(unit)) * _UNITS[unit]


def _quantity(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | str) or not _QUANTITY.fullmatch(str(value)):
        raise PydanticCustomError("rule", _QUANTITY_SENTENCE)
    return value


def _size(value: Any) -> Any:
    if quantity(_quantity(value)) < _UNITS["Mi"]:
        raise PydanticCustomError("rule", _SIZE_SENTENCE)
    return value


def _int_or_string(*rules: Rule) -> WithJsonSchema:
    return WithJsonSchema(
        {
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "x-kubernetes-int-or-string": True,
            "maxLength": 32,
            CEL: [rule.schema() for rule in rules],
        }
    )


# The API machinery takes a unit alone, such as Gi, for zero.
_IS_QUANTITY = Rule(
    "type(self) == int ? self >= 0 : isQuantity(self) && sign(quantity(self)) >= 0 && self.matches('^[+]?[.]?[0-9]')",
    _QUANTITY_SENTENCE,
)
_IS_SIZE = Rule(
    "!isQuantity(string(self)) || quantity(string(self)).compareTo(quantity('1Mi')) >= 0",
    _SIZE_SENTENCE,
)

Quantity = Annotated[int | str, BeforeValidator(_quantity), _int_or_string(_IS_QUANTITY)]
Size = Annotated[int | str, BeforeValidator(_size), _int_or_string(_IS_QUANTITY, _IS_SIZE)]
Fraction = Annotated[
    float,
    Rule("self > 0.0 && self < 1.0", "must lie between 0 and 1, both excluded", lambda value: 0 < value < 1),
]
Opaque = Annotated[dict[str, Any], WithJsonSchema({"type": "object", "x-kubernetes-preserve-unknown-fields": True})]
# A structural schema has no field of two types, so that values of others are refused by the operator alone.
Scalars = Annotated[
    dict[str, bool | int | float | str],
    WithJsonSchema({"type": "object", "x-kubernetes-preserve-unknown-fields": True}),
]


def distinct(values: Sequence[Any] | None) -> bool:
    """Whether no value stands twice."""
    return values is None or len(set(values)) == len(values)


@dataclass(frozen=True)
class KeyedBy:
    """For a list whose items are told apart by `key`: appliers may own single items of it, and none stands twice."""

    key: str

    def check(self, items: list[Any]) -> list[Any]:
        """Return `items`, or raise an error when two have the same key."""
        if not distinct([getattr(item, self.key) for item in items]):
            raise PydanticCustomError("rule", "has the same {key} twice", {"key": self.key})
        return items

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {**handler(schema), "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [self.key]}
