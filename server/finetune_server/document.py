"""The server's own OpenAPI document: what may be asked, in which form, and what is answered. Pure.

`app` answers it at /openapi.json to everybody.
"""

import re
from collections.abc import Callable, Iterable
from typing import Any

from pydantic import BaseModel

from finetune_server import azure, tuning
from finetune_server.files import PURPOSE
from finetune_server.keys import Right
from finetune_server.settings import Raw

_TEXT: Raw = {"type": "string"}
_PAGE = {"after": _TEXT, "limit": {"type": "integer", "minimum": 1, "maximum": 100}}
_METADATA = {"metadata": {"type": "object", "additionalProperties": _TEXT}}
# What is asked in the query, by the name of the handler; nothing else is taken.
_QUERIES: dict[str, Raw] = {
    "list_files": _PAGE
    | {
        "limit": {"type": "integer", "minimum": 1, "maximum": 10_000},
        "order": {"enum": ["asc", "desc"]},
        "purpose": _TEXT,
    },
    "list_jobs": _PAGE | _METADATA,
    "events": _PAGE | {"stream": {"enum": ["true", "false"]}},
    "checkpoints": _PAGE,
}
_FORM = {
    "type": "object",
    "required": ["file", "purpose"],
    "additionalProperties": False,
    "properties": {"file": {"type": "string", "format": "binary"}, "purpose": {"enum": [PURPOSE]}},
}
# What else it has is the engine's to judge.
_QUESTION = {"type": "object", "required": ["model"], "properties": {"model": _TEXT}}
_BY_PATH = {"type": "object"}
_MODELS: dict[str, type[BaseModel]] = {
    "create": tuning.Create,
    "create_undeployed": tuning.Create,
    "deploy": azure.DeploymentRequest,
}
_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": _TEXT,
                "type": _TEXT,
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}


def document(routes: Iterable[tuple[str, str, Right, Callable[..., Any]]]) -> Raw:
    """Of these routes, each a method, a path, what right it takes, and its handler."""
    paths: dict[str, Raw] = {}
    schemas: Raw = {"Error": _ERROR}
    for method, path, right, handler in routes:
        plain = path.replace(":path}", "}")
        paths.setdefault(plain, {})[method.lower()] = _operation(plain, right, handler, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "finetune-api", "version": "v1"},
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer"},
                "azure": {"type": "apiKey", "in": "header", "name": "api-key"},
            },
        },
        "security": [{"key": []}, {"azure": []}],
    }


def _operation(path: str, right: Right, handler: Callable[..., Any], schemas: Raw) -> Raw:
    name = handler.__name__
    summary = (handler.__doc__ or "").partition("\n")[0]
    found: Raw = {"operationId": f"{name}: {path}", "summary": summary, "tags": [right.value]}
    found["parameters"] = [
        *({"name": each, "in": "path", "required": True, "schema": _TEXT} for each in re.findall("{([^}]*)}", path)),
        *({"name": each, "in": "query", "schema": schema} for each, schema in _QUERIES.get(name, {}).items()),
    ]
    if "metadata" in _QUERIES.get(name, {}):
        found["parameters"][-1] |= {"style": "deepObject", "explode": True}
    if not path.startswith("/v1/"):
        versioned = not path.startswith("/openai/v1/")
        found["parameters"].append({"name": "api-version", "in": "query", "required": versioned, "schema": _TEXT})
    if body := _body(name, path, schemas):
        found["requestBody"] = {"required": True, "content": body}
    found["responses"] = _responses(name)
    return found


def _body(name: str, path: str, schemas: Raw) -> Raw | None:
    match name:
        case "upload":
            return {"multipart/form-data": {"schema": _FORM}}
        case "ask":
            return {"application/json": {"schema": _QUESTION}}
        case "ask_deployment":
            return {"application/json": {"schema": _BY_PATH if "{name}" in path else _QUESTION}}
        case _ if name in _MODELS:
            model = _MODELS[name]
            schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas.update(schema.pop("$defs", {}))
            schemas[model.__name__] = schema
            return {"application/json": {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}}}
    return None


def _responses(name: str) -> Raw:
    kinds = {"content": ["application/jsonl"], "ask": ["application/json", "text/event-stream"]}
    kinds["ask_deployment"] = kinds["events"] = kinds["ask"]
    schemas = {"application/json": {"type": "object"}}
    answer = {kind: {"schema": schemas.get(kind, {})} for kind in kinds.get(name, ["application/json"])}
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    found: Raw = {"200": {"description": "What was asked for.", "content": answer}}
    if name == "deploy":
        found["201"] = found["200"]
    if name == "delete_deployment":
        found = {status: {"description": "It is gone."} for status in ("200", "204")}
    return found | {kind: {"description": "Why not.", "content": error} for kind in ("4XX", "5XX")}
