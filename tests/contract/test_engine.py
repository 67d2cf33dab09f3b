"""Engines on a real API server: what it refuses, what it takes, and what the operator makes of one through its life."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from bad_engines import BAD, SMALLEST
from control_plane import PATIENCE, ControlPlane, Kubectl
from engines import GPUS
from finetune_operator.api.engine import EngineSpec
from finetune_operator.engine import desired
from finetune_operator.engine.desired import Target
from finetune_operator.settings import Settings
from manifests import Bad
from operator_process import OperatorProcess
from paths import EXAMPLES
from test_finetunejob import tried

CLAIM = {
    "apiVersion": "v1",
    "kind": "PersistentVolumeClaim",
    "metadata": {"name": "models"},
    "spec": {"accessModes": ["ReadOnlyMany"], "resources": {"requests": {"storage": "1Gi"}}},
}
SPECS: dict[str, dict[str, Any]] = {
    "smallest": {"model": {"source": "hf://org/model"}},
    "a claim": {"model": {"source": "pvc://models/chat"}, "apiKey": {"secretRef": {"name": "key"}}},
    "everything": {
        "model": {"source": "s3://models/chat", "credentials": {"secretRef": {"name": "bucket"}}},
        "resources": GPUS,
        "storage": {"size": "20Gi", "storageClassName": "fast"},
        "arguments": ["--max-num-seqs=8", "--enforce-eager"],
        "pod": {"env": [{"name": "A", "value": "1"}], "tolerations": [{"operator": "Exists"}]},
    },
}


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.name)
def test_a_bad_engine_is_refused_by_field_and_sentence(bad: Bad, control_plane: ControlPlane, admin: Kubectl) -> None:
    answer = tried(control_plane, bad.manifest(), "engines")
    assert answer["kind"] == "Status", f"{bad.names} was accepted"
    assert bad.names in answer["message"]
    assert bad.allowed in answer["message"]
    assert bad.server in answer["message"]


def test_the_example_is_accepted_as_it_lies_there(kubectl: Kubectl) -> None:
    kubectl("apply", "--server-side", "--validate=strict", "-f", str(EXAMPLES / "engine.yaml"))
    said = kubectl("get", "eng", "chat").splitlines()[0].split()
    assert said == ["NAME", "MODEL", "READY", "STATUS", "REPLICAS", "URL", "AGE"]


def test_the_autoscaler_of_the_examples_finds_what_it_scales_and_whose_load_it_measures(kubectl: Kubectl) -> None:
    kubectl("apply", "--server-side", "--validate=strict", "-f", str(EXAMPLES / "autoscaler.yaml"))
    kubectl("apply", "-f-", document=SMALLEST)
    target = get(kubectl, "hpa")["spec"]["scaleTargetRef"]
    assert target == {"apiVersion": "finetune.dev/v1alpha1", "kind": "Engine", "name": "chat"}
    told = {"status": {"replicas": 2, "selector": "finetune.dev/engine=chat"}}
    kubectl("patch", "eng", "chat", "--subresource=status", "--type=merge", "-p", json.dumps(told))
    scale = json.loads(kubectl("get", "eng", "chat", "--subresource=scale", "-o", "json"))
    assert scale["kind"] == "Scale"
    assert scale["spec"] == {"replicas": 1}
    assert scale["status"] == told["status"]


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_every_object_is_taken_and_applying_it_again_writes_nothing(
    kubectl: Kubectl, admin: Kubectl, namespace: str, spec: dict[str, Any]
) -> None:
    admin("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    kubectl("apply", "-f-", document=SMALLEST | {"spec": spec})
    uid = get(kubectl, "eng")["metadata"]["uid"]
    found = Target("chat", namespace, uid, EngineSpec.model_validate(spec), Settings(engine_clients="namespace"))
    deployment = desired.deployment(found, desired.pod_template(found))
    for manifest in (desired.record(found, "x"), desired.service(found), desired.policy(found), deployment):
        first, second = applied(kubectl, manifest), applied(kubectl, manifest)
        assert first["metadata"]["resourceVersion"] == second["metadata"]["resourceVersion"], manifest["kind"]
    # Pod Security only warns about a Deployment; its pods are what it refuses.
    pod = deployment["spec"]["template"] | {"apiVersion": "v1", "kind": "Pod"}
    kubectl("create", "--validate=strict", "-f-", document=pod | {"metadata": pod["metadata"] | {"name": "pod"}})


def applied(kubectl: Kubectl, manifest: dict[str, Any]) -> dict[str, Any]:
    arguments = ("--server-side", "--field-manager=finetune-operator", "--validate=strict", "-o", "json")
    return dict(json.loads(kubectl("apply", *arguments, "-f-", document=manifest)))


def get(kubectl: Kubectl, kind: str, name: str = "chat") -> dict[str, Any]:
    return dict(json.loads(kubectl("get", kind, name, "-o", "json")))


def wait(kubectl: Kubectl, what: str, condition: str) -> None:
    done = kubectl.run("wait", what, f"--for={condition}", f"--timeout={PATIENCE}s")
    assert done.returncode == 0, f"{what} {condition}: {done.stderr}\n{kubectl('get', 'eng', '-o', 'yaml')}"


def wait_reason(kubectl: Kubectl, kind: str, reason: str) -> None:
    wait(kubectl, "eng/chat", f'jsonpath={{.status.conditions[?(@.type=="{kind}")].reason}}={reason}')


def roll_out(kubectl: Kubectl, pods: int) -> None:
    """The Deployment's pods answer."""
    wait(kubectl, "deployment/chat", f"jsonpath={{.spec.replicas}}={pods}")
    generation = get(kubectl, "deployment")["metadata"]["generation"]
    counts = dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas", "availableReplicas"), pods)
    patch = json.dumps({"status": {"observedGeneration": generation, **counts}})
    kubectl("patch", "deployment", "chat", "--subresource=status", "--type=merge", "-p", patch)


def versions(kubectl: Kubectl) -> dict[str, str]:
    """Of all that was made for it."""
    kinds = "deployment,service,networkpolicy,configmap"
    listed = json.loads(kubectl("get", kinds, "-l", "finetune.dev/engine=chat", "-o", "json"))["items"]
    return {f"{raw['kind']}/{raw['metadata']['name']}": raw["metadata"]["resourceVersion"] for raw in listed}


def test_a_life(kubectl: Kubectl, operator: OperatorProcess) -> None:
    kubectl("apply", "-f-", document=CLAIM)
    kubectl("apply", "-f-", document=SMALLEST | {"spec": SPECS["a claim"]})
    # It serves.
    wait_reason(kubectl, "Ready", "Running")
    roll_out(kubectl, 1)
    wait(kubectl, "eng/chat", "condition=Ready")
    assert set(versions(kubectl)) == {
        "ConfigMap/chat-engine",
        "Deployment/chat",
        "NetworkPolicy/chat",
        "Service/chat",
    }
    # Whoever scales it is not fought.
    template = get(kubectl, "deployment")["spec"]["template"]
    kubectl("scale", "eng", "chat", "--replicas", "2")
    roll_out(kubectl, 2)
    wait(kubectl, "eng/chat", "jsonpath={.status.availableReplicas}=2")
    assert get(kubectl, "deployment")["spec"]["template"] == template
    # What somebody changes by hand is put back.
    kubectl("patch", "service", "chat", "--type=merge", "-p", '{"spec": {"selector": {"app": "other"}}}')
    wait(kubectl, "service/chat", "jsonpath={.spec.selector.finetune\\.dev/engine}=chat")
    kubectl("label", "service", "chat", "finetune.dev/engine-")
    wait(kubectl, "service/chat", "jsonpath={.metadata.labels.finetune\\.dev/engine}=chat")
    # Another operator, of another version, changes nothing.
    operator.settle()
    ready = operator.metric('finetune_engines{ready="True"}')
    assert ready >= 1
    before = versions(kubectl)
    operator.kill()
    operator.configure(hosting_cpu_image="vllm-cpu:2")
    operator.start()
    operator.settle()
    assert versions(kubectl) == before
    # Until it is asked to.
    kubectl("annotate", "eng", "chat", "finetune.dev/upgrade=now")
    wait(kubectl, "deployment/chat", "jsonpath={.spec.template.spec.containers[0].image}=vllm-cpu:2")
    # What is nobody's, as a backup restores it, is its own again.
    uid = get(kubectl, "eng")["metadata"]["uid"]
    for found in versions(kubectl):
        kubectl("patch", found, "--type=json", "-p", '[{"op": "remove", "path": "/metadata/ownerReferences"}]')
    for found in versions(kubectl):
        wait(kubectl, found, f"jsonpath={{.metadata.ownerReferences[0].uid}}={uid}")
    # All of it goes with the Engine: there is no garbage collector here, and what it would go by.
    for kind, name in (found.split("/") for found in versions(kubectl)):
        (owner,) = get(kubectl, kind, name)["metadata"]["ownerReferences"]
        assert (owner["uid"], owner["controller"]) == (uid, True)
    kubectl("delete", "eng", "chat", "--wait=false")
    operator.eventually(lambda: operator.metric('finetune_engines{ready="True"}') == ready - 1)


def test_beside_a_finetunejob_of_the_same_name_the_later_one_is_told(
    kubectl: Kubectl, operator: OperatorProcess, played: Any
) -> None:
    played.name = "chat"
    played.create()
    played.serve()
    kubectl("apply", "-f-", document=SMALLEST)
    wait_reason(kubectl, "Accepted", "NameTaken")
    assert not get(kubectl, "eng")["status"].get("replicas")


@pytest.mark.parametrize(
    ("field", "sentence"),
    [
        ("engine", "answers as an OpenAI-compatible endpoint."),
        ("eng.spec.apiKey.secretRef", "with the key OPENAI_API_KEY"),
    ],
)
def test_explain_says_what_a_field_is(field: str, sentence: str, admin: Kubectl) -> None:
    assert sentence in " ".join(admin("explain", field).split())


def test_who_has_no_role_sees_nothing(kubectl_as: Callable[[str], Kubectl]) -> None:
    refused = kubectl_as("stranger").run("get", "eng")
    assert 'User "stranger" cannot list resource "engines"' in refused.stderr
