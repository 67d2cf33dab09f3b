"""JSON schemas of Kubernetes' own kinds for kubeconform, made from the API description in Kubernetes' own module.

    schemas.py SWAGGER DIR

`lint_chart.sh` calls it: kubeconform would otherwise fetch them from a website. Strict: a field that a kind does not
have is an error.
"""

import json
import sys
from pathlib import Path
from typing import Any

Schema = dict[str, Any]

# What the description calls a string and the API server takes in either form.
INT_OR_STRING = {"oneOf": [{"type": "string"}, {"type": "integer"}]}
DEFINITIONS = "definitions.json"


def strict(schema: Any) -> Any:
    """The schema with no property allowed beyond those it names, and references into our file."""
    if isinstance(schema, list):
        return [strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("format") == "int-or-string":
        return INT_OR_STRING
    found = {key: strict(value) for key, value in schema.items() if key != "properties"}
    if "$ref" in found:
        found["$ref"] = DEFINITIONS + found["$ref"]
    if "properties" in schema:
        # Their names are no keywords, whatever they are: a schema has a property named "properties".
        found["properties"] = {name: strict(each) for name, each in schema["properties"].items()}
        found.setdefault("additionalProperties", False)
    return found


def file_name(kind: dict[str, str]) -> str:
    """kubeconform's name for a kind's schema: the group's first label, where there is a group."""
    parts = [kind["kind"].lower(), *filter(None, [kind["group"].split(".")[0]]), kind["version"]]
    return "-".join(parts) + ".json"


def main(swagger: Path, directory: Path) -> None:
    """Write one file of definitions, and one for each kind that refers to it."""
    definitions: dict[str, Schema] = json.loads(swagger.read_text())["definitions"]
    directory.mkdir(parents=True, exist_ok=True)
    (directory / DEFINITIONS).write_text(json.dumps({"definitions": strict(definitions)}))
    for name, definition in definitions.items():
        for kind in definition.get("x-kubernetes-group-version-kind", []):
            reference = {"$ref": f"{DEFINITIONS}#/definitions/{name}"}
            (directory / file_name(kind)).write_text(json.dumps(reference))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
