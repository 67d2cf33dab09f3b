"""What an Engine becomes: who may read the credentials, what vLLM is told, and who may reach it."""

from typing import Any

import pytest
from engines import GPUS, SETTINGS, target
from finetune_operator.engine import desired
from finetune_operator.engine.desired import Target
from finetune_operator.settings import Settings
from rendering import values
from restricted import violations

CREDENTIALS = {"secretRef": {"name": "hub"}}
HUB = {"source": "hf://org/model", "revision": "main", "credentials": CREDENTIALS}
CLAIM = {"source": "pvc://models/chat"}
PUBLIC = "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE\n-----END PUBLIC KEY-----\n"


def deployment(found: Target) -> dict[str, Any]:
    return desired.deployment(found, desired.pod_template(found))


def pod(found: Target) -> dict[str, Any]:
    return dict(deployment(found)["spec"]["template"]["spec"])


def engine(found: Target) -> dict[str, Any]:
    (container,) = pod(found)["containers"]
    return dict(container)


def fetch(found: Target) -> dict[str, Any]:
    (container,) = pod(found)["initContainers"]
    return dict(container)


def variables(container: dict[str, Any]) -> dict[str, Any]:
    return {each["name"]: each.get("value", each.get("valueFrom")) for each in container["env"]}


def after(container: dict[str, Any], argument: str) -> str:
    arguments = container["args"]
    return str(arguments[arguments.index(argument) + 1])


@pytest.mark.parametrize("model", [HUB, CLAIM], ids=["hub", "claim"])
@pytest.mark.parametrize("storage", [None, {"size": "20Gi"}])
def test_the_pods_meet_the_restricted_standard(model: dict[str, Any], storage: dict[str, Any] | None) -> None:
    spec = {"model": model} if model is CLAIM or storage is None else {"model": model, "storage": storage}
    found = pod(target(**spec, resources=GPUS, apiKey={"secretRef": {"name": "key"}}))
    assert violations(found) == []
    assert found["automountServiceAccountToken"] is False


def test_room_for_adapters_is_a_container_beside_the_engine_with_credentials_of_its_own() -> None:
    lora = {"atOnce": 8, "maxRank": 32, "inMemory": 16, "credentials": {"secretRef": {"name": "bucket"}}}
    lora |= {"verifyKey": PUBLIC}
    found = target(model=HUB, lora=lora, apiKey={"secretRef": {"name": "key"}})
    run, beside = pod(found)["containers"]
    assert violations(pod(found)) == []
    assert [after(run, name) for name in ("--max-loras", "--max-lora-rank", "--max-cpu-loras")] == ["8", "32", "16"]
    assert variables(run)["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] == "1"
    assert run["readinessProbe"]["httpGet"]["path"] == "/finetune/ready"
    assert run["livenessProbe"]["httpGet"]["path"] == "/health"
    assert beside["image"] == "trainer:1"
    # What it asks the engine with, and what it fetches with; no key of a scheme that it doesn't use is missed.
    assert variables(beside)["VLLM_API_KEY"]["secretKeyRef"]["name"] == "key"
    secret = variables(beside)["FINETUNE_LORA_AWS_ACCESS_KEY_ID"]["secretKeyRef"]
    assert secret == {"name": "bucket", "key": "AWS_ACCESS_KEY_ID", "optional": True}
    assert variables(beside)["FINETUNE_LORA_VERIFY_KEY"] == PUBLIC
    assert "bucket" not in values(run)
    assert "bucket" not in values(fetch(found))
    # It writes what the engine reads.
    mounted = {each["name"]: each for each in run["volumeMounts"]}
    assert mounted["adapters"] == {"name": "adapters", "mountPath": "/adapters", "readOnly": True}
    (files,) = [each for each in beside["volumeMounts"] if each["name"] == "adapters"]
    assert files == {"name": "adapters", "mountPath": after(beside, "--into")}


def test_a_new_pod_begins_with_the_list_in_the_record_and_hears_of_changes_by_its_annotation() -> None:
    volumes = {volume["name"]: volume for volume in pod(target(lora={}))["volumes"]}
    begin = {"name": "chat-engine", "items": [{"key": "adapters.json", "path": "adapters.json"}]}
    assert volumes["adapters-begin"]["configMap"] == begin
    (item,) = volumes["adapters-now"]["downwardAPI"]["items"]
    assert item["fieldRef"] == {"fieldPath": "metadata.annotations['finetune.dev/adapters']"}
    assert "adapters.json" in desired.record(target(lora={}), "x")["data"]


def test_an_engine_without_room_for_adapters_is_as_it_was() -> None:
    """Pods are made anew by whatever changes in them."""
    found = target(model=HUB)
    assert "--enable-lora" not in engine(found)["args"]
    assert "VLLM_ALLOW_RUNTIME_LORA_UPDATING" not in variables(engine(found))
    assert engine(found)["readinessProbe"]["httpGet"]["path"] == "/health"
    assert after(engine(found), "--disable-access-log-for-endpoints") == "/health,/metrics"


def test_which_adapters_its_pods_have_they_tell_the_operator_alone() -> None:
    (clients,) = desired.policy(target())["spec"]["ingress"]
    assert clients["ports"] == [{"port": 8000, "protocol": "TCP"}]
    _, operator = desired.policy(target(Settings(lease_namespace="finetune"), lora={}))["spec"]["ingress"]
    assert operator == {
        "ports": [{"port": 8080, "protocol": "TCP"}],
        "from": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "finetune"}}}],
    }


def test_how_busy_they_are_they_tell_the_operator_though_it_is_in_another_namespace() -> None:
    settings = Settings(engine_clients="namespace", lease_namespace="finetune")
    clients, operator = desired.policy(target(settings))["spec"]["ingress"]
    assert clients == {"ports": [{"port": 8000, "protocol": "TCP"}], "from": [{"podSelector": {}}]}
    assert operator == {
        "ports": [{"port": 8000, "protocol": "TCP"}],
        "from": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "finetune"}}}],
    }


def test_the_models_credentials_are_the_fetching_containers_alone() -> None:
    found = target(model=HUB)
    assert variables(fetch(found))["FINETUNE_MODEL_HF_TOKEN"]["secretKeyRef"]["name"] == "hub"
    assert "hub" not in values(engine(found))


def test_what_is_fetched_is_served_and_the_engine_cannot_change_it() -> None:
    found = target(model=HUB | {"trustRemoteCode": True})
    assert fetch(found)["image"] == "trainer:1"
    assert after(fetch(found), "--source") == "hf://org/model"
    assert after(fetch(found), "--revision") == "main"
    assert "--trust-remote-code" in fetch(found)["args"]
    assert "--trust-remote-code" in engine(found)["args"]
    assert after(fetch(found), "--into") == after(engine(found), "--model") == "/model/files"
    (mount,) = [each for each in engine(found)["volumeMounts"] if each["mountPath"] == "/model"]
    assert mount["readOnly"] is True
    assert "readOnly" not in fetch(found)["volumeMounts"][0]


def test_a_claim_is_mounted_and_nothing_is_fetched() -> None:
    found = target(model=CLAIM)
    assert "initContainers" not in pod(found)
    assert after(engine(found), "--model") == "/mnt/claims/models/chat"
    claims = [volume["persistentVolumeClaim"] for volume in pod(found)["volumes"] if "persistentVolumeClaim" in volume]
    assert claims == [{"claimName": "models", "readOnly": True}]


@pytest.mark.parametrize(
    ("storage", "expected"),
    [
        (None, {"emptyDir": {}}),
        (
            {"size": "20Gi", "storageClassName": "fast"},
            {
                "ephemeral": {
                    "volumeClaimTemplate": {
                        "spec": {
                            "accessModes": ["ReadWriteOnce"],
                            "resources": {"requests": {"storage": "20Gi"}},
                            "storageClassName": "fast",
                        }
                    }
                }
            },
        ),
    ],
)
def test_the_model_lies_where_the_manifest_says(storage: dict[str, Any] | None, expected: dict[str, Any]) -> None:
    found = target(model=HUB, **({"storage": storage} if storage else {}))
    (volume,) = [each for each in pod(found)["volumes"] if each["name"] == "model"]
    assert volume == {"name": "model"} | expected


def test_the_accelerators_are_the_engines_alone() -> None:
    found = target(model=HUB, resources=GPUS)
    assert engine(found)["resources"]["limits"] == {"memory": "16Gi", "nvidia.com/gpu": "1"}
    assert fetch(found)["resources"] == {"limits": {"memory": "16Gi"}}


def test_vllm_is_told_what_the_manifest_says() -> None:
    found = target(contextLength=2048, quantization="fp8", arguments=["--max-num-seqs=64", "--enforce-eager"])
    arguments = engine(found)["args"]
    assert after(engine(found), "--served-model-name") == "chat"
    assert after(engine(found), "--max-model-len") == "2048"
    assert after(engine(found), "--quantization") == "fp8"
    assert {"--max-num-seqs=64", "--enforce-eager"} <= set(arguments)
    assert "--max-model-len" not in engine(target())["args"], "the model's own"


def test_a_key_is_in_the_environment_and_in_no_argument() -> None:
    found = target(apiKey={"secretRef": {"name": "key"}})
    assert variables(engine(found))["VLLM_API_KEY"] == {"secretKeyRef": {"name": "key", "key": "OPENAI_API_KEY"}}
    assert "VLLM_API_KEY" not in variables(engine(target()))


def test_the_users_variables_reach_each_container_and_are_kept_nowhere() -> None:
    found = target(pod={"env": [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}]})
    for container in (engine(found), fetch(found)):
        assert variables(container)["HTTPS_PROXY"] == "http://proxy:3128"
    assert "proxy:3128" not in str(desired.record(found, "inputs"))


def test_the_service_reaches_the_pods_and_only_them() -> None:
    found = target()
    labels = deployment(found)["spec"]["template"]["metadata"]["labels"]
    selector = desired.service(found)["spec"]["selector"]
    assert selector == {"finetune.dev/engine": "chat"}
    assert selector.items() <= labels.items()
    assert "finetune.dev/stage" not in labels, "no policy for stages is meant for them"


STAGES_ALONE = {"podSelector": {"matchExpressions": [{"key": "finetune.dev/job", "operator": "Exists"}]}}


@pytest.mark.parametrize(
    ("clients", "peers"),
    [("everyone", {}), ("namespace", {"from": [{"podSelector": {}}]}), ("none", {"from": [STAGES_ALONE]})],
    ids=str,
)
def test_the_engines_port_is_all_that_can_be_reached(clients: str, peers: dict[str, Any]) -> None:
    settings = Settings(**{**vars(SETTINGS), "engine_clients": clients})
    found = target(settings)
    policy = desired.policy(found)["spec"]
    assert policy["podSelector"]["matchLabels"] == desired.service(found)["spec"]["selector"]
    assert policy["ingress"] == [{"ports": [{"port": 8000, "protocol": "TCP"}]} | peers]
    (port,) = engine(found)["ports"]
    assert port["containerPort"] == 8000


def test_a_rollout_needs_one_more_pod_or_none() -> None:
    assert deployment(target())["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    assert deployment(target(rollout="recreate"))["spec"]["strategy"] == {"type": "Recreate"}
