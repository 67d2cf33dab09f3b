"""FineTuneJobs that were stored before a rule existed: the operator still writes their status, and their owners still
suspend them. The API server spares what an update leaves as it is.
"""

import copy
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from bad_manifests import BAD
from control_plane import PATIENCE, ControlPlane, Kubectl, until_established
from finetune_operator.api.crd import custom_resource_definition
from finetune_operator.api.rules import CEL
from finetune_operator.api.v1alpha1 import FineTuneJobSpec
from manifests import Bad

# The same schema under another name, which can change under no other test's feet.
GROUP, KIND = "stored.finetune.dev", "Stored"
NAME = f"storeds.{GROUP}"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
JOBS = f"/apis/{GROUP}/v1alpha1/namespaces/default/storeds"
INVALID = 422
RULES = {CEL, "enum", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"} | {
    f"{end}{what}" for end in ("min", "max") for what in ("Length", "Items", "Properties")
}


def definition(*, rules: bool) -> dict[str, Any]:
    """The CRD in that group, with or without its rules for values."""
    found = copy.deepcopy(custom_resource_definition())
    found["metadata"]["name"] = NAME
    found["spec"] |= {"group": GROUP, "names": {"kind": KIND, "plural": "storeds"}}
    if not rules:
        strip(found["spec"]["versions"][0]["schema"])
    return found


def strip(schema: Any) -> None:
    for key in RULES & schema.keys():
        # A field may have a rule's name.
        if not isinstance(schema[key], dict):
            del schema[key]
    for below in schema.values():
        if isinstance(below, dict):
            strip(below)


@pytest.fixture(scope="module")
def stored(control_plane: ControlPlane, admin: Kubectl) -> Iterator[dict[str, Bad]]:
    """Objects of the bad manifests that a schema without rules lets through, by name; the rules have come since."""
    control_plane.request("POST", CRDS, definition(rules=False))
    until_established(admin, NAME)
    # For a moment it asks for patience; kubectl has some.
    admin("get", NAME)
    bad = {f"bad-{number}": bad for number, bad in enumerate(BAD) if bad.names.startswith("spec")}
    found = {name: each for name, each in bad.items() if created(control_plane, each.manifest(), name)}
    path = f"{CRDS}/{NAME}"
    until(lambda: replaced(control_plane, path, definition(rules=True)))
    probe = next(iter(found.values())).manifest()
    # Not what it says while it takes the schema in: to come again later.
    until(lambda: create(control_plane, probe, "probe", "?dryRun=All").get("code") == INVALID)
    yield found
    control_plane.request("DELETE", path)


def replaced(control_plane: ControlPlane, path: str, document: dict[str, Any]) -> bool:
    """Whether nobody has written it in between: the API server notes its conditions when it gets to it."""
    version = control_plane.request("GET", path)["metadata"]["resourceVersion"]
    wanted = document | {"metadata": document["metadata"] | {"resourceVersion": version}}
    return bool(control_plane.request("PUT", path, wanted)["kind"] == document["kind"])


def create(control_plane: ControlPlane, document: dict[str, Any], name: str, query: str = "") -> dict[str, Any]:
    document = document | {"apiVersion": f"{GROUP}/v1alpha1", "kind": KIND, "metadata": {"name": name}}
    return control_plane.request("POST", f"{JOBS}{query}", document)


def created(control_plane: ControlPlane, document: dict[str, Any], name: str) -> bool:
    return bool(create(control_plane, document, name)["kind"] == KIND)


def until(holds: Callable[[], bool]) -> None:
    """A new schema is in use a moment after it was written; nothing tells when."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline


def test_most_bad_manifests_could_be_there_already(stored: dict[str, Bad]) -> None:
    assert len(stored) > 200


def test_the_operator_can_still_tell_what_is_wrong(stored: dict[str, Bad], control_plane: ControlPlane) -> None:
    refused = {}
    for name, bad in stored.items():
        job = control_plane.request("GET", f"{JOBS}/{name}")
        answer = control_plane.request("PUT", f"{JOBS}/{name}/status", job | {"status": {"phase": "Invalid"}})
        if answer["kind"] == "Status":
            refused[bad.name] = answer["message"]
    assert refused == {}


def test_its_owner_can_still_suspend_it(stored: dict[str, Bad], control_plane: ControlPlane) -> None:
    """But for what breaks a rule over the whole spec, in which something changes then: those should stay few."""
    refused = {}
    for name, bad in stored.items():
        job = control_plane.request("GET", f"{JOBS}/{name}")
        job["spec"]["suspend"] = True
        answer = control_plane.request("PUT", f"{JOBS}/{name}", job)
        if answer["kind"] == "Status":
            refused[bad.name] = answer["message"]
    rules = [rule.message for rule in FineTuneJobSpec.rules]
    assert {name: said for name, said in refused.items() if not any(rule in said for rule in rules)} == {}
