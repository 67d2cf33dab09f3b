"""The server's own OpenAPI document: what may be asked, in which form, and what is answered. Pure.

`app` answers it at /openapi.json to everybody.
"""

import re
from collections.abc import Callable, Iterable
from typing import Any

from pydantic import BaseModel

from finetune_server import azure, tuning, view
from finetune_server.files import PURPOSE
from finetune_server.keys import Right
from finetune_server.not_here import NOT_ASKED
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
_BY_PATH: Raw = {
    "type": "object",
    "properties": {name: {"enum": [None, *nothing]} for name, (nothing, _) in NOT_ASKED.items()},
}
_QUESTION = {**_BY_PATH, "required": ["model"], "properties": {"model": _TEXT, **_BY_PATH["properties"]}}
_MODELS: dict[str, type[BaseModel]] = {
    "create": tuning.Create,
    "create_undeployed": tuning.Create,
    "deploy": azure.DeploymentRequest,
}
_NUMBER: Raw = {"type": "integer"}


def _or_null(schema: Raw) -> Raw:
    return {"anyOf": [schema, {"type": "null"}]}


def _with(required: Raw, optional: Raw | None = None) -> Raw:
    """An object that has these, and nothing else."""
    return {
        "type": "object",
        "required": list(required),
        "properties": required | (optional or {}),
        "additionalProperties": False,
    }


def _object(kind: str, required: Raw, optional: Raw | None = None) -> Raw:
    """One of OpenAI's, which says what it is."""
    return _with({"object": {"const": kind}} | required, optional)


def _refer(name: str) -> Raw:
    return {"$ref": f"#/components/schemas/{name}"}


def _list(of: str) -> Raw:
    id = _or_null(_TEXT)
    items = {"type": "array", "items": _refer(of)}
    return _object("list", {"data": items, "has_more": {"type": "boolean"}, "first_id": id, "last_id": id})


_HYPERPARAMETERS = _with({}, {name: {} for name in ("n_epochs", "batch_size", "learning_rate_multiplier", "beta")})
_METHOD = _with({"hyperparameters": _HYPERPARAMETERS})
_DEPLOYED = {
    "sku": _with({"name": _TEXT, "capacity": _NUMBER}),
    "properties": _with(
        {
            "model": _with({"format": _TEXT, "name": _TEXT, "version": _TEXT}),
            "provisioningState": {"enum": ["Creating", "Succeeded", "Failed"]},
        }
    ),
}
# What is answered.
_SCHEMAS: Raw = {
    "Error": _with(
        {"error": _with({"message": _TEXT, "type": _TEXT, "param": _or_null(_TEXT), "code": _or_null(_TEXT)})}
    ),
    "File": _object(
        "file",
        {
            "id": _TEXT,
            "bytes": _NUMBER,
            "created_at": _NUMBER,
            "filename": _TEXT,
            "purpose": {"const": PURPOSE},
            "status": {"const": "processed"},
        },
    ),
    "Job": _object(
        "fine_tuning.job",
        {
            "id": _TEXT,
            "created_at": _NUMBER,
            "status": {"enum": [*view.UNDER_WAY, "paused", *view.ENDED]},
            "model": _TEXT,
            "fine_tuned_model": _or_null(_TEXT),
            "organization_id": _TEXT,
            "training_file": _TEXT,
            "validation_file": _or_null(_TEXT),
            "result_files": {"type": "array", "items": _TEXT},
            "seed": _NUMBER,
            "trained_tokens": _or_null(_NUMBER),
            "hyperparameters": _HYPERPARAMETERS,
            "error": _or_null(_with({"code": _TEXT, "message": _TEXT, "param": _or_null(_TEXT)})),
            "finished_at": _or_null(_NUMBER),
            "estimated_finish": _or_null(_NUMBER),
            "integrations": _or_null({"type": "array"}),
            "metadata": _or_null({"type": "object", "additionalProperties": _TEXT}),
        },
        {"method": _with({"type": {"enum": ["supervised", "dpo"]}}, {"supervised": _METHOD, "dpo": _METHOD})},
    ),
    "Event": _object(
        "fine_tuning.job.event",
        {
            "id": _TEXT,
            "created_at": _NUMBER,
            "level": {"enum": ["info", "warn", "error"]},
            "message": _TEXT,
            "type": {"enum": ["message", "metrics"]},
            "data": {"type": "object"},
        },
    ),
    "Checkpoint": _object(
        "fine_tuning.job.checkpoint",
        {
            "id": _TEXT,
            "created_at": _NUMBER,
            "fine_tuned_model_checkpoint": _TEXT,
            "fine_tuning_job_id": _TEXT,
            "step_number": _NUMBER,
            "metrics": {"type": "object", "additionalProperties": {"type": "number"}},
        },
    ),
    "Model": _object("model", {"id": _TEXT, "created": _NUMBER, "owned_by": _TEXT}),
    "Deployment": _with({"id": _TEXT, "type": _TEXT, "name": _TEXT, **_DEPLOYED}),
}
_GONE = {"id": _TEXT, "deleted": {"const": True}}
# By the name of the handler.
_ANSWERS: dict[str, Raw] = {
    **dict.fromkeys(("upload", "file"), _refer("File")),
    "list_files": _list("File"),
    "delete_file": _object("file", _GONE),
    **dict.fromkeys(("create", "create_undeployed", "job", "cancel", "pause", "resume"), _refer("Job")),
    "list_jobs": _list("Job"),
    "events": _list("Event"),
    "checkpoints": _list("Checkpoint"),
    "models": _object("list", {"data": {"type": "array", "items": _refer("Model")}}),
    "model": _refer("Model"),
    "undeploy": _object("model", _GONE),
    # What the engine answers.
    **{name: {"type": "object"} for name in ("ask", "ask_deployment")},
    "deployments": _with({"value": {"type": "array", "items": _refer("Deployment")}}),
    **dict.fromkeys(("deployment", "deploy"), _refer("Deployment")),
}
_REFUSED = {
    "400": "Something in the request is wrong, or can't be had here.",
    "401": "There is no key in the request, or one that is not known.",
    "403": "The key has no right to it, or is another namespace's.",
    "404": "There is no such object, or it is another namespace's.",
    "408": "The request has not come whole in time.",
    "409": "It has changed meanwhile, or its state doesn't allow it.",
    "413": "The request is too large.",
    "429": "More than the key may have, or than are taken at a time.",
    "500": "A fault of the server's.",
    "503": "The cluster, the place of the files or the engine does not answer.",
    "507": "The place of the files is full.",
}


def document(routes: Iterable[tuple[str, str, Right, Callable[..., Any]]]) -> Raw:
    """Of these routes, each a method, a path, what right it takes, and its handler."""
    paths: dict[str, Raw] = {}
    schemas: Raw = dict(_SCHEMAS)
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
        version: Raw = {"type": "string", "pattern": f"^{azure.VERSION}$"}
        either = version if versioned else {"anyOf": [version, {"enum": [*azure.V1]}]}
        found["parameters"].append({"name": "api-version", "in": "query", "required": versioned, "schema": either})
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
            return {"application/json": {"schema": _refer(model.__name__)}}
    return None


def _responses(name: str) -> Raw:
    error = {"application/json": {"schema": _refer("Error")}}
    refused = {status: {"description": why, "content": error} for status, why in _REFUSED.items()}
    if name == "delete_deployment":
        return {status: {"description": "It is gone."} for status in ("200", "204")} | refused
    content: Raw = {"application/json": {"schema": _ANSWERS[name]}} if name != "content" else {"application/jsonl": {}}
    if name in ("ask", "ask_deployment", "events"):
        content["text/event-stream"] = {}
    answer = {"description": "What was asked for.", "content": content}
    if name == "deploy":
        return {"200": answer, "201": answer} | refused
    if name in ("ask", "ask_deployment"):
        # An engine has statuses of its own.
        refused |= {kind: {"description": "What the engine says.", "content": error} for kind in ("4XX", "5XX")}
    return {"200": answer} | refused
