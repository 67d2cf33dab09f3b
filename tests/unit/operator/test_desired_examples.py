"""examples/: together they show every field that there is."""

from collections import defaultdict
from typing import Any, get_args

from finetune_operator.api.rules import ApiModel
from finetune_operator.api.v1alpha1 import FineTuneJobSpec
from rendering import example


def models(annotation: Any) -> set[type[ApiModel]]:
    """The models that a field's type speaks of, and those of their fields."""
    if isinstance(annotation, type) and issubclass(annotation, ApiModel):
        inner = (models(field.annotation) for field in annotation.model_fields.values())
        return {annotation}.union(*inner)
    return set().union(*(models(argument) for argument in get_args(annotation)))


def fields_set(value: Any, found: dict[str, set[str]]) -> dict[str, set[str]]:
    """Which fields of which model are set anywhere in the manifest."""
    if isinstance(value, ApiModel):
        found[type(value).__name__] |= value.model_fields_set
        value = [getattr(value, name) for name in value.model_fields_set]
    for child in value if isinstance(value, list) else ():
        fields_set(child, found)
    return found


def test_the_examples_set_every_field():
    found: defaultdict[str, set[str]] = defaultdict(set)
    for name in ("gpu", "preferences", "labels", "reward", "sweep", "bucket", "shared/recipes"):
        fields_set(example(f"{name}.yaml").spec, found)
    every = {(model.__name__, name) for model in models(FineTuneJobSpec) for name in model.model_fields}
    missing = every - {(model, name) for model, names in found.items() for name in names}
    assert not missing


def test_the_smallest_manifest_says_nothing_but_model_and_data():
    spec = example("minimal.yaml").spec
    assert spec.model_fields_set == {"model", "dataset"}
    assert spec.dataset.model_fields_set == {"train"}
