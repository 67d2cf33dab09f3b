"""Validation rules that hold in two places: as CEL at `kubectl apply`, and in Python for the local backend.

`values` attaches them to kinds of value, `pods` and the manifest's sections to objects; `crd` finds their CEL in the
JSON schema. The tests run one table of bad manifests through both, so that the two readings of a rule can't drift
apart.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, GetJsonSchemaHandler, model_validator
from pydantic.alias_generators import to_camel
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

CEL = "x-kubernetes-validations"


def _always(_: Any) -> bool:
    return True


@dataclass(frozen=True)
class Rule:
    """One rule: its CEL expression, the sentence a user sees, and the same predicate in Python.

    Without `holds` the rule is the cluster's alone (the local backend accepts what it forbids). For rules on a whole
    object, `field` is the path of the member that errors point at.
    """

    cel: str
    message: str
    holds: Callable[[Any], bool] = _always
    field: str | None = None

    def check(self, value: Any) -> Any:
        """Return `value`, or raise an error of type `rule` with the sentence and the field in its context."""
        if not self.holds(value):
            raise PydanticCustomError("rule", "{sentence}", {"sentence": self.message, "field": self.field or ""})
        return value

    def schema(self) -> dict[str, str]:
        """The rule as one entry of `x-kubernetes-validations`."""
        entry = {"rule": self.cel, "message": self.message}
        return entry | {"fieldPath": f".{self.field}"} if self.field else entry

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        json_schema = handler(schema)
        return {**json_schema, CEL: [*json_schema.get(CEL, []), self.schema()]}


class ApiModel(BaseModel):
    """Base of everything in the manifest: camelCase, frozen, unknown fields refused, and the rules of the subclass."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )
    rules: ClassVar[tuple[Rule, ...]] = ()

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> "ApiModel":
        """Itself: pydantic copies a default at each use of it, and what is frozen needs no copy."""
        return self

    @model_validator(mode="after")
    def _obey_rules(self) -> "ApiModel":
        for rule in self.rules:
            rule.check(self)
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        json_schema = handler.resolve_ref_schema(handler(schema))
        if cls.rules:
            json_schema[CEL] = [rule.schema() for rule in cls.rules]
        return json_schema
