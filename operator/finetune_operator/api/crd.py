"""The CustomResourceDefinitions, generated from the pydantic models: `make crds` writes it, a test fails on drift.

A structural schema is a strict dialect of OpenAPI v3. What pydantic says in JSON Schema and the API server would refuse
or read differently is put into that dialect here: references are written out, `null` alternatives and titles dropped,
exclusive bounds said in OpenAPI's words, and an object's default reduced to what its own fields don't default to.
Unknown fields need no rule: the API server prunes them, and strict validation (kubectl's default) refuses them.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from finetune_operator.api import engine
from finetune_operator.api.rules import CEL, ApiModel, Rule
from finetune_operator.api.v1alpha1 import GROUP, KIND, PLURAL, VERSION, FineTuneJob
from finetune_operator.api.values import ENGINE_NAME_RULES, NAME_RULES

Schema = dict[str, Any]

HEADER = "# Generated from operator/finetune_operator/api by `make crds`. Do not edit.\n"

# A heading, a path, and what it says.
Column = tuple[str, str, str]
_READY = ("Ready", '.status.conditions[?(@.type=="Ready")].status', "Whether what the manifest asks for is there.")
_AGE = ("Age", ".metadata.creationTimestamp", "How long ago it was made.")
_MESSAGE = ("Message", '.status.conditions[?(@.type=="Ready")].message', "Why it is ready, or is not.")


@dataclass(frozen=True)
class Definition:
    """One kind: its model and names, what `kubectl get` prints of it (`wide` with `-o wide` alone), and the path of the
    replicas that `kubectl scale` and autoscalers change: the manifest's, so that nothing fights them over a Deployment.
    """

    kind: str
    plural: str
    short: str
    model: type[ApiModel]
    name_rules: tuple[Rule, ...]
    columns: tuple[Column, ...]
    wide: tuple[Column, ...]
    replicas: str

    @property
    def path(self) -> Path:
        """Where it is generated to."""
        return Path(f"crds/{GROUP}_{self.plural}.yaml")

    @property
    def chart_path(self) -> Path:
        """Where the chart has it."""
        return Path(f"charts/finetune-operator/templates/crd-{self.plural}.yaml")


FINETUNEJOB = Definition(
    kind=KIND,
    plural=PLURAL,
    short="ftj",
    model=FineTuneJob,
    name_rules=NAME_RULES,
    columns=(
        _READY,
        ("Phase", ".status.phase", "The conditions in one word."),
        ("Progress", ".status.progressSummary", "How far the running stage is."),
        ("Metric", ".status.evaluation.metricSummary", "The tuned model's score."),
        (
            "Best-Baseline",
            ".status.evaluation.bestBaselineSummary",
            "What the base model reaches without fine-tuning.",
        ),
        ("Endpoint", ".status.endpoint.url", "Where the model answers."),
        _AGE,
    ),
    wide=(
        ("Revision", ".status.revision", "The revision being worked on."),
        ("Served", ".status.servedRevision", "The revision that answers."),
        _MESSAGE,
    ),
    replicas=".spec.hosting.replicas",
)
ENGINE = Definition(
    kind=engine.KIND,
    plural=engine.PLURAL,
    short="eng",
    model=engine.Engine,
    name_rules=ENGINE_NAME_RULES,
    columns=(
        ("Model", ".spec.model.source", "What is served."),
        _READY,
        ("Status", '.status.conditions[?(@.type=="Ready")].reason', "Why it is ready, or is not, in one word."),
        ("Replicas", ".status.availableReplicas", "Pods that answer."),
        ("URL", ".status.url", "Where the model answers."),
        _AGE,
    ),
    wide=(("Commit", ".status.model.commit", "The commit of the hub's model."), _MESSAGE),
    replicas=".spec.replicas",
)
DEFINITIONS = (FINETUNEJOB, ENGINE)
# The status before the operator has seen the object. kstatus takes a kind without any for current.
UNSEEN = {"observedGeneration": -1}
# What passes as pydantic wrote it.
_KEPT = {
    *("type", "format", "enum", "default", "required", "anyOf"),
    *("minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems", "maxProperties"),
}


def custom_resource_definition(of: Definition = FINETUNEJOB) -> dict[str, Any]:
    """The CustomResourceDefinition of a kind."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{of.plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "names": {
                "kind": of.kind,
                "listKind": f"{of.kind}List",
                "plural": of.plural,
                "singular": of.kind.lower(),
                # No category: `kubectl delete all --all` would delete models.
                "shortNames": [of.short],
            },
            "scope": "Namespaced",
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "additionalPrinterColumns": [
                        *(_column(*column) for column in of.columns),
                        *(_column(*column) | {"priority": 1} for column in of.wide),
                    ],
                    "schema": {"openAPIV3Schema": schema(of)},
                    "subresources": {"status": {}, "scale": _scale(of)},
                }
            ],
        },
    }


def _scale(of: Definition) -> dict[str, str]:
    status = {"statusReplicasPath": ".status.replicas", "labelSelectorPath": ".status.selector"}
    return {"specReplicasPath": of.replicas, **status}


def _column(heading: str, path: str, description: str) -> dict[str, Any]:
    kind = "date" if path.endswith("Timestamp") else "string"
    return {"name": heading, "type": kind, "jsonPath": path, "description": description}


def schema(of: Definition = FINETUNEJOB) -> Schema:
    """The structural schema of the whole object."""
    document = of.model.model_json_schema()
    whole = _structural(document, document["$defs"])
    return {
        "type": "object",
        "description": whole["description"],
        "required": ["spec"],
        "properties": {
            # What the API server knows by itself, and checks by itself, but for the name.
            "metadata": {"type": "object", "properties": {"name": {"type": "string"}}},
            "spec": whole["properties"]["spec"],
            "status": _without_defaults(whole["properties"]["status"]) | {"default": UNSEEN},
        },
        CEL: [_of_the_name(rule) for rule in of.name_rules],
    }


def _of_the_name(rule: Rule) -> dict[str, str]:
    return replace(rule, cel=rule.cel.replace("self", "self.metadata.name"), field="metadata.name").schema()


def _structural(source: Schema, definitions: dict[str, Schema]) -> Schema:
    """`source` in the structural dialect, references written out."""
    source = _resolved(source, definitions)
    found = {key: value for key, value in source.items() if key in _KEPT or key.startswith("x-kubernetes-")}
    if "description" in source:
        found["description"] = " ".join(source["description"].split())
    if "const" in source:
        found["enum"] = [source["const"]]
    for bound in ("minimum", "maximum"):
        exclusive = f"exclusive{bound.capitalize()}"
        if exclusive in source:
            found |= {bound: source[exclusive], exclusive: True}
    if "items" in source:
        found |= {"items": _structural(source["items"], definitions)}
        found.setdefault("x-kubernetes-list-type", "atomic")
    if isinstance(source.get("additionalProperties"), dict):
        found["additionalProperties"] = _structural(source["additionalProperties"], definitions)
    if "properties" in source:
        found["properties"] = {name: _structural(field, definitions) for name, field in source["properties"].items()}
    return _with_own_default(found)


def _resolved(source: Schema, definitions: dict[str, Schema]) -> Schema:
    """`source` with its reference followed and its null alternative dropped; what stands beside either wins."""
    alternatives = [each for each in source.get("anyOf", []) if each != {"type": "null"}]
    if len(alternatives) == 1:
        beside = {key: value for key, value in source.items() if key != "anyOf"}
        return _resolved({**alternatives[0], **beside}, definitions)
    if "$ref" in source:
        target = definitions[source["$ref"].removeprefix("#/$defs/")]
        return _resolved({**target, **{key: value for key, value in source.items() if key != "$ref"}}, definitions)
    return source


def _with_own_default(field: Schema) -> Schema:
    """`field` with the smallest default that means the same: the API server fills in the defaults further down."""
    default = _smallest(field, field.get("default"))
    rest = {key: value for key, value in field.items() if key != "default"}
    if default is None or (default in ({}, []) and not _defaults_below(field)):
        return rest
    return {**rest, "default": default}


def _smallest(field: Schema, default: Any) -> Any:
    if not isinstance(default, dict) or "properties" not in field:
        return default
    wanted = {name: _smallest(field["properties"][name], value) for name, value in default.items()}
    return {
        name: value
        for name, value in wanted.items()
        if value is not None and value != field["properties"][name].get("default") and value not in ({}, [])
    }


def _defaults_below(field: Schema) -> bool:
    return any("default" in each or _defaults_below(each) for each in field.get("properties", {}).values())


def _without_defaults(field: Schema) -> Schema:
    """`field` without defaults at any depth: a status says what the operator wrote, no more."""
    found = {key: value for key, value in field.items() if key != "default"}
    if "properties" in field:
        found["properties"] = {name: _without_defaults(each) for name, each in field["properties"].items()}
    for below in ("items", "additionalProperties"):
        if below in field:
            found[below] = _without_defaults(field[below])
    return found


def files() -> dict[Path, str]:
    """The generated files: path from the repository's root → text.

    The chart's copy is a template, not a file of its `crds/` directory, which Helm installs once and never upgrades.
    The resource policy keeps them, and with them every object of theirs, when the release is uninstalled.
    """
    return {path: text for each in DEFINITIONS for path, text in _files(each)}


def _files(of: Definition) -> Iterator[tuple[Path, str]]:
    definition = custom_resource_definition(of)
    chart = {**definition, "metadata": {**definition["metadata"], "annotations": {"helm.sh/resource-policy": "keep"}}}
    yield of.path, HEADER + _text(definition)
    yield of.chart_path, HEADER + "{{- if .Values.crds.install }}\n" + _text(chart) + "{{- end }}\n"


def _text(document: dict[str, Any]) -> str:
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120)


def main() -> None:
    """Write the generated files below the working directory, the repository's root."""
    for path, text in files().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
