"""The server's own OpenAPI document says what its routes are, and refuses what they refuse."""

import json
import re
from typing import Any

import pytest
from finetune_server import tuning
from finetune_server.app import AZURE_ROUTES, ROUTES
from finetune_server.document import document
from finetune_server.errors import Problem
from jsonschema import Draft202012Validator

TOLD = document((*ROUTES, *AZURE_ROUTES))


def test_every_route_is_told_and_every_reference_leads_somewhere() -> None:
    told = {(method.upper(), path) for path, found in TOLD["paths"].items() for method in found}
    assert told == {(method, path.replace(":path}", "}")) for method, path, *_ in (*ROUTES, *AZURE_ROUTES)}
    names = re.findall('"#/components/schemas/([^"]+)"', json.dumps(TOLD))
    assert {"Create", "DeploymentRequest", "Error"} <= set(names) <= TOLD["components"]["schemas"].keys()
    kinds = TOLD["paths"]["/v1/fine_tuning/jobs/{id}/events"]["get"]["responses"]["200"]["content"]
    assert kinds.keys() == {"application/json", "text/event-stream"}
    operation = TOLD["paths"]["/openai/files"]["get"]
    wanted = {each["name"]: each.get("required", False) for each in operation["parameters"]}
    assert wanted == {"after": False, "limit": False, "order": False, "purpose": False, "api-version": True}


def method(**hyperparameters: Any) -> dict[str, Any]:
    return {"method": {"type": "supervised", "supervised": {"hyperparameters": hyperparameters}}}


@pytest.mark.parametrize(
    ("asked", "right"),
    [
        ({}, True),
        (method(n_epochs=2, batch_size="auto", learning_rate_multiplier=0.5), True),
        (method(n_epochs=2.0), True),
        (method(n_epochs=2.5), False),
        (method(n_epochs=51), False),
        (method(n_epochs="many"), False),
        (method(beta=0.1), False),
        ({"suffix": ""}, False),
        ({"tier": "fast"}, False),
    ],
)
def test_a_job_is_told_as_it_is_read(asked: dict[str, Any], right: bool) -> None:
    body = {"model": "small", "training_file": "file-1", **asked}
    schema = {"$ref": "#/components/schemas/Create", "components": TOLD["components"]}
    assert Draft202012Validator(schema).is_valid(body) == right
    if right:
        assert tuning.read(json.dumps(body).encode())
    else:
        with pytest.raises(Problem):
            tuning.read(json.dumps(body).encode())
