"""The generated CRD: up to date, explained in full, and quiet where a default would say nothing."""

from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from bad_engines import BAD as BAD_ENGINES
from bad_manifests import BAD
from finetune_operator.api.complaints import complaints
from finetune_operator.api.crd import DEFINITIONS, UNSEEN, Definition, files, schema
from finetune_operator.api.rules import CEL
from finetune_operator.api.values import NAME_MAX_LENGTH
from finetune_operator.names import of_stage
from manifests import LONGEST, Bad
from paths import ROOT
from pydantic import ValidationError


@pytest.mark.parametrize("path", files(), ids=str)
def test_the_committed_file_is_what_the_models_say(path: Any) -> None:
    assert (ROOT / path).read_text() == files()[path], f"{path} is out of date: run `make crds` and commit it"


@pytest.mark.parametrize("found", DEFINITIONS, ids=lambda found: found.kind)
def test_the_chart_installs_the_same_crd_and_keeps_it(found: Definition) -> None:
    plain, chart = (files()[path] for path in (found.path, found.chart_path))
    lines = [line for line in chart.splitlines(keepends=True) if not line.startswith("{{-")]
    assert "{{" not in "".join(lines)
    document = yaml.safe_load("".join(lines))
    assert document["metadata"].pop("annotations") == {"helm.sh/resource-policy": "keep"}
    assert document == yaml.safe_load(plain)


def fields(here: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every field below `here`, items of lists and values of maps included."""
    yield path, here
    for name, field in here.get("properties", {}).items():
        yield from fields(field, f"{path}.{name}")
    for nested in ("items", "additionalProperties"):
        if nested in here:
            yield from fields(here[nested], f"{path}[]")


def _half(of: Definition, half: str) -> dict[str, Any]:
    return dict(schema(of)["properties"][half])


SPEC, STATUS = (
    [(f"{each.kind} {path}", field) for each in DEFINITIONS for path, field in fields(_half(each, half), half)]
    for half in ("spec", "status")
)


def test_every_field_is_explained_in_a_sentence() -> None:
    said = {path: field.get("description", "") for path, field in SPEC + STATUS if not path.endswith("[]")}
    assert len(said) > 100
    assert {path: sentence for path, sentence in said.items() if not sentence.endswith(".") or "\n" in sentence} == {}


def test_the_server_fills_in_what_the_models_do() -> None:
    spec = fields(schema()["properties"]["spec"], "spec")
    defaults = {path: field["default"] for path, field in spec if "default" in field}
    assert defaults["spec.dataset.validation"] == {"fraction": 0.1}
    assert defaults["spec.training"] == {}
    assert defaults["spec.training.adapter"] == {}
    assert defaults["spec.training.adapter.rank"] == 16
    assert defaults["spec.workspace.accessModes"] == ["ReadWriteOnce"]


def test_a_default_of_nothing_is_left_out() -> None:
    """Or every manifest would come back with empty node selectors and tolerations."""
    assert [path for path, field in SPEC if field.get("default") in ([], {}) and ".pod" in path] == []


BOUNDS = {"string": "maxLength", "array": "maxItems", "object": "maxProperties", "integer": "maximum"}


def test_everything_in_a_spec_has_an_upper_bound() -> None:
    """Without one the API server reckons with the worst case, and refuses rules that cost too much."""
    closed = ("properties", "enum", "x-kubernetes-preserve-unknown-fields")
    open_ended = {
        path: field
        for path, field in SPEC
        if not any(word in field for word in closed) and BOUNDS.get(field.get("type", "")) not in {None, *field}
    }
    assert open_ended == {}


def test_every_rule_has_its_bad_manifest() -> None:
    """Or nobody would see that its two readings differ, or that it can't be broken at all."""
    said = "\n".join(sentence for bad in (*BAD, *BAD_ENGINES) for sentence in refused(bad))
    whole = (found for each in DEFINITIONS for found in fields(schema(each), ""))
    rules = {rule["message"] for _, field in whole for rule in field.get(CEL, [])}
    assert len(rules) > 50
    assert {rule for rule in rules if rule not in said and not rule.startswith("file:// exists only")} == set()


def refused(bad: Bad) -> list[str]:
    models = {found.kind: found.model for found in DEFINITIONS}
    try:
        models[bad.of["kind"]].model_validate(bad.manifest())
    except ValidationError as error:
        return complaints(error)
    return []


def test_a_status_has_no_defaults_but_that_it_was_not_written_yet() -> None:
    assert {path: field["default"] for path, field in STATUS if "default" in field} == {
        f"{each.kind} status": UNSEEN for each in DEFINITIONS
    }


def test_every_name_made_from_the_longest_is_a_label_value() -> None:
    assert LONGEST == NAME_MAX_LENGTH
    assert len(of_stage("a" * LONGEST, "01234567", "evaluate")) <= 63
