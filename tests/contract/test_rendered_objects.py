"""A real API server takes every object of every example, the pods under the enforced `restricted` standard."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import yaml
from control_plane import ControlPlane, Kubectl
from finetune_operator.finetunejob.target import Target
from finetune_operator.names import FIELD_MANAGER, revision_of
from finetune_operator.shell.resources import RESOURCES
from good_manifests import GOOD
from manifests import manifest as of_fields
from paths import FINETUNEJOBS
from rendering import EXAMPLES, GPUS, example, host, objects, pods, target

MANIFESTS = [path.name for path in FINETUNEJOBS if path.parent == EXAMPLES]
Manifest = dict[str, Any]


@pytest.fixture
def restricted(kubectl: Kubectl, admin: Kubectl, namespace: str) -> Kubectl:
    """kubectl in a namespace that refuses pods below `restricted`."""
    admin("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    priority = {
        "apiVersion": "scheduling.k8s.io/v1",
        "kind": "PriorityClass",
        "metadata": {"name": "batch"},
        "value": 1,
    }
    admin("apply", "--server-side", "-f-", document=priority)
    return kubectl


@pytest.fixture
def adopted(restricted: Kubectl, namespace: str) -> Callable[[Target], Target]:
    """A target whose FineTuneJob exists, in the test's namespace."""

    def adopt(found: Target) -> Target:
        manifest = {
            "apiVersion": "finetune.dev/v1alpha1",
            "kind": "FineTuneJob",
            "metadata": {"name": found.name},
            "spec": found.spec.model_dump(mode="json", by_alias=True, exclude_unset=True),
        }
        restricted("apply", "--server-side", "-f-", document=manifest)
        job = json.loads(restricted("get", "ftj", found.name, "-o", "json"))
        return Target(
            found.name, namespace, job["metadata"]["uid"], found.spec, revision_of(found.spec), found.settings
        )

    return adopt


def apply(kubectl: Kubectl, manifest: Manifest) -> Manifest:
    """Apply it as the operator does; a field that the API server does not know is an error."""
    arguments = ("--server-side", f"--field-manager={FIELD_MANAGER}", "--validate=strict", "-o", "json")
    stored: Manifest = json.loads(kubectl("apply", *arguments, "-f-", document=manifest))
    return stored


@pytest.mark.parametrize("name", MANIFESTS)
def test_an_example_is_accepted_as_it_lies_there(restricted: Kubectl, name: str) -> None:
    assert yaml.safe_load((EXAMPLES / name).read_text())
    restricted("apply", "--server-side", "--validate=strict", "-f", str(EXAMPLES / name))


@pytest.mark.parametrize("name", MANIFESTS)
def test_every_object_is_accepted_and_applying_it_again_writes_nothing(
    restricted: Kubectl, adopted: Callable[[Target], Target], name: str
) -> None:
    for manifest in objects(adopted(example(name))):
        # The API server (1.34) stores a new claim once more at the second apply, without any difference.
        apply(restricted, manifest)
        before, after = apply(restricted, manifest), apply(restricted, manifest)
        assert after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]


@pytest.mark.parametrize("name", MANIFESTS)
def test_every_pod_is_admitted_where_restricted_is_enforced(
    restricted: Kubectl, adopted: Callable[[Target], Target], name: str
) -> None:
    """Pod Security only warns about Jobs and Deployments, so the pods that those would make are made by hand."""
    for number, template in enumerate(pods(adopted(example(name)))):
        metadata = template["metadata"] | {"name": f"pod-{number}"}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
        restricted("create", "--validate=strict", "-f-", document=pod)


@pytest.mark.parametrize("fields", GOOD.values(), ids=GOOD.keys())
def test_every_object_of_an_accepted_manifest_can_be_made(fields: dict[str, Any], control_plane: ControlPlane) -> None:
    """Whatever passes the manifest's rules passes the API server's own, so that nothing is found out later."""
    wanted = of_fields(fields)
    found = replace(target(wanted["metadata"]["name"], **wanted["spec"]), namespace="default")
    refused = [made["message"] for made in made_of(found, control_plane) if made["kind"] == "Status"]
    assert refused == []


def made_of(found: Target, control_plane: ControlPlane) -> Iterator[Manifest]:
    """The API server's answers to all objects and their pods; none is kept."""
    for each in objects(found):
        yield created(control_plane, RESOURCES[each["kind"]].path("default"), each)
    for template in pods(found):
        metadata = template["metadata"] | {"name": "a"}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
        yield created(control_plane, "/api/v1/namespaces/default/pods", pod)


def created(control_plane: ControlPlane, path: str, manifest: Manifest) -> Manifest:
    return control_plane.request("POST", f"{path}?dryRun=All&fieldValidation=Strict", manifest)


def test_the_namespace_would_refuse_a_pod_with_privileges(restricted: Kubectl) -> None:
    template = pods(target())[0]
    del template["spec"]["containers"][0]["securityContext"]["capabilities"]
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "loose"}, "spec": template["spec"]}
    refused = restricted.run("create", "-f-", document=pod)
    assert refused.returncode != 0
    assert "violates PodSecurity" in refused.stderr


@pytest.mark.parametrize("order", [("surge", "recreate"), ("recreate", "surge")])
def test_the_rollout_can_be_changed_while_it_serves(
    restricted: Kubectl, adopted: Callable[[Target], Target], order: tuple[str, str]
) -> None:
    found = [adopted(target(hosting={"rollout": rollout, "resources": GPUS})) for rollout in order]
    types = [apply(restricted, host(one))["spec"]["strategy"]["type"] for one in found]
    assert types == [{"surge": "RollingUpdate", "recreate": "Recreate"}[rollout] for rollout in order]


def test_what_the_manifest_no_longer_says_is_gone_from_the_deployment(
    restricted: Kubectl, adopted: Callable[[Target], Target]
) -> None:
    wanted = {"nodeSelector": {"zone": "a"}, "env": [{"name": "MINE", "value": "1"}], "labels": {"team": "a"}}
    apply(restricted, host(adopted(target(hosting={"resources": GPUS, "pod": wanted}))))
    plain = host(adopted(target()))
    template = apply(restricted, plain)["spec"]["template"]
    assert "nodeSelector" not in template["spec"]
    assert template["metadata"]["labels"] == plain["spec"]["template"]["metadata"]["labels"]
    (container,) = template["spec"]["containers"]
    assert container["env"] == plain["spec"]["template"]["spec"]["containers"][0]["env"]
    assert container["resources"] == {}
