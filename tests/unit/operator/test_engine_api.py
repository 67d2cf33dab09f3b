"""The manifest of an Engine as it is read in Python: the API server's reading is held to the same table."""

import importlib.util
from pathlib import Path
from typing import get_args

import pytest
import yaml
from bad_engines import BAD, SMALLEST
from finetune_operator.api.complaints import complaints
from finetune_operator.api.crd import ENGINE
from finetune_operator.api.engine import FLAGS, VALUED, Engine, EngineSpec
from manifests import Bad, manifest
from paths import EXAMPLES, ROOT
from pydantic import ValidationError
from test_desired_examples import fields_set, models


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.name)
def test_a_bad_engine_is_refused_by_field_and_sentence(bad: Bad) -> None:
    with pytest.raises(ValidationError) as refused:
        Engine.model_validate(bad.manifest())
    said = "; ".join(complaints(refused.value, of=ENGINE))
    assert bad.names in said
    assert bad.allowed in said
    assert bad.local in said


def test_a_field_that_is_none_is_told_with_what_was_meant() -> None:
    with pytest.raises(ValidationError) as refused:
        Engine.model_validate(manifest({"spec.storage": {"sise": "1Gi"}}, SMALLEST))
    assert "spec.storage.sise: is not a field; did you mean size?" in complaints(refused.value, of=ENGINE)


def test_the_example_sets_every_field_that_is_an_engines_own() -> None:
    spec = EngineSpec.model_validate(yaml.safe_load((EXAMPLES / "engine.yaml").read_text())["spec"])
    found: dict[str, set[str]] = {model.__name__: set() for model in models(EngineSpec)}
    fields_set(spec, found)
    own = [model for model in models(EngineSpec) if model.__module__ == EngineSpec.__module__]
    assert {(model.__name__, name) for model in own for name in model.model_fields} == {
        (model.__name__, name) for model in own for name in found[model.__name__]
    }


def test_the_page_lists_every_argument_that_is_allowed() -> None:
    page = (ROOT / "docs/engines.md").read_text()
    assert [name for name in (*FLAGS, *VALUED) if f"`--{name}`" not in page] == []


def test_every_argument_and_quantization_that_is_allowed_is_one_of_vllms() -> None:
    """By its source: to import it takes ten seconds."""
    vllm = Path(str(importlib.util.find_spec("vllm").origin)).parent  # type: ignore[union-attr]
    places = ("engine/arg_utils.py", "entrypoints/launchers/cli_args.py")
    text = "\n".join((vllm / place).read_text() for place in places)
    served = [name.removeprefix("no-") for name in (*FLAGS, *VALUED)]
    assert [name for name in served if f'"--{name}"' not in text and f"{name.replace('-', '_')}:" not in text] == []
    known = (vllm / "model_executor/layers/quantization/__init__.py").read_text()
    quantizations = get_args(get_args(EngineSpec.model_fields["quantization"].annotation)[0])
    assert [name for name in quantizations if f'"{name}"' not in known] == []
