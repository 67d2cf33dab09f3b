"""The API server as a component of the chart: off by default, admitted under restricted, and with hardly any rights."""

import itertools
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import chart
import httpx
import pytest
from chart import RELEASE, SYSTEM
from control_plane import PATIENCE, ControlPlane, Kubectl
from finetune_server import cluster
from finetune_server.settings import PREFIX, ClusterSettings
from ports import free_port
from test_chart_objects import EVERYTHING, dry_run, labels_of, matches

NAME = f"{RELEASE}-api"
ON: dict[str, Any] = {
    "enabled": True,
    "models": {"gpt": {"model": {"source": "hf://acme/small"}, "training": {"learningRate": 0.0002}}},
    "files": {"bucket": "s3://rows/openai", "secret": "bucket"},
}


def test_it_is_off_until_it_is_asked_for() -> None:
    assert not [found for found in chart.render() if found["metadata"]["name"].startswith(NAME)]
    assert "api.files.bucket: where are uploaded files to be kept?" in chart.refusal(api={"enabled": True})


@pytest.mark.parametrize("values", [{"api": ON}, EVERYTHING], ids=["on", "everything"])
def test_a_real_api_server_takes_it_and_admits_its_pod_where_restricted_is_enforced(
    admin: Kubectl, values: dict[str, Any]
) -> None:
    """The objects are taken in test_chart_objects; of a pod Pod Security has its own word."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM, "labels": labels}}
    admin("apply", "-f-", document=namespace)
    manifests = chart.render(**values)
    template = chart.one(manifests, "Deployment", NAME)["spec"]["template"]
    pod = template | {"apiVersion": "v1", "kind": "Pod"}
    dry_run(admin, pod | {"metadata": template["metadata"] | {"name": "api", "namespace": SYSTEM}})
    (container,) = template["spec"]["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    for kind in ("ServiceAccount", "ConfigMap", "Service", "Deployment", "PodDisruptionBudget", "NetworkPolicy"):
        dry_run(admin, chart.one(manifests, kind, NAME))


def test_it_may_do_what_its_code_does_with_finetunejobs_and_engines_and_nothing_else() -> None:
    # Those with a token of the cluster are asked about, and act, with that token.
    rules = chart.one(chart.render(api=ON | {"clusterTokens": True}), "ClusterRole", NAME)["rules"]
    assert {group for rule in rules for group in rule["apiGroups"]} == {"finetune.dev"}
    assert {each: set(rule["verbs"]) for rule in rules for each in rule["resources"]} == cluster.VERBS
    named = {"namespaces": ["kitchen", "bakery"]}
    for values in ({"api": ON, "watchNamespaces": named["namespaces"]}, {"api": ON | named}):
        found = [each for each in chart.render(**values) if each["metadata"]["name"] == NAME]
        roles = [each["metadata"]["namespace"] for each in found if each["kind"] == "Role"]
        assert roles == named["namespaces"]
        assert not {each["kind"] for each in found} & {"ClusterRole", "ClusterRoleBinding"}
        assert json.dumps(named["namespaces"]) in json.dumps(chart.one(found, "NetworkPolicy", NAME))


def test_nothing_of_the_operators_selects_its_pods_and_nothing_of_its_own_the_operators() -> None:
    manifests = chart.render(api=ON)
    pods = {name: labels_of(chart.one(manifests, "Deployment", name)) for name in (RELEASE, NAME)}
    for kind, (mine, other) in itertools.product(
        ("Deployment", "Service", "PodDisruptionBudget", "NetworkPolicy"), itertools.permutations(pods)
    ):
        spec = chart.one(manifests, kind, mine)["spec"]
        selector = spec.get("podSelector") or spec["selector"]
        selector = selector if kind != "Service" else {"matchLabels": selector}
        assert matches(selector, pods[mine])
        assert not matches(selector, pods[other])


def test_the_server_reads_what_the_chart_sets(tmp_path: Path) -> None:
    limits = {"requestsPerMinute": 60, "jobs": 2, "files": 10, "megabytes": 100}
    manifests = chart.render(api=ON | {"limits": limits, "clusterTokens": True})
    (container,) = chart.one(manifests, "Deployment", NAME)["spec"]["template"]["spec"]["containers"]
    variables = {each["name"]: each["value"] for each in container["env"]}
    (tmp_path / "models.yaml").write_text(chart.one(manifests, "ConfigMap", NAME)["data"]["models.yaml"])
    found = ClusterSettings.from_environment({**variables, f"{PREFIX}MODELS": str(tmp_path / "models.yaml")})
    assert (found.bucket, found.port, found.requests) == ("s3://rows/openai", 8000, 256)
    assert (found.waiting, found.wait_seconds) == (64, 300)
    assert found.models == ON["models"]
    assert found.limits.model_dump(by_alias=True) == limits
    assert (found.upload_seconds, found.cluster_tokens) == (900, True)
    mounts = {each["mountPath"] for each in container["volumeMounts"]}
    assert {str(found.keys), "/etc/finetune-api/models.yaml", "/tmp"} == mounts
    (source,) = container["envFrom"]
    assert source == {"prefix": "FINETUNE_BUCKET_", "secretRef": {"name": "bucket"}}


CLAIMED = ON | {"files": {"claim": "files", "jobsClaim": "my-files"}}


def test_a_claim_is_mounted_where_the_server_looks_for_it_and_no_bucket_is_reached(tmp_path: Path) -> None:
    manifests = chart.render(api=CLAIMED)
    pod = chart.one(manifests, "Deployment", NAME)["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    variables = {each["name"]: each["value"] for each in container["env"]}
    (tmp_path / "models.yaml").write_text("{}")
    found = ClusterSettings.from_environment({**variables, f"{PREFIX}MODELS": str(tmp_path / "models.yaml")})
    assert (found.bucket, found.claim, found.jobs_claim) == ("", "files", "my-files")
    (mount,) = [each["name"] for each in container["volumeMounts"] if each["mountPath"] == str(found.files)]
    (volume,) = [each for each in pod["volumes"] if each["name"] == mount]
    assert volume["persistentVolumeClaim"] == {"claimName": "files"}
    # The files are its user's to write.
    assert pod["securityContext"]["fsGroup"] == pod["securityContext"]["runAsUser"]
    egress = json.dumps(chart.one(manifests, "NetworkPolicy", NAME)["spec"]["egress"])
    assert "9000" not in egress
    bucket = ON | {"files": ON["files"] | {"ports": [9000]}}
    assert "9000" in json.dumps(chart.one(chart.render(api=bucket), "NetworkPolicy", NAME)["spec"]["egress"])


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({"bucket": "s3://rows", "claim": "files"}, "files are kept in one place; give bucket or claim"),
        ({"claim": "files", "rowsSecret": "rows"}, "secret and rowsSecret are for a bucket"),
        ({"bucket": "s3://rows", "jobsClaim": "files"}, "api.files.jobsClaim needs api.files.claim"),
        ({"claim": "../files"}, "/api/files/claim"),
    ],
)
def test_a_place_for_files_that_cant_be_is_refused(files: dict[str, str], sentence: str) -> None:
    assert sentence in chart.refusal(api=ON | {"files": files})


@pytest.fixture
def program(control_plane: ControlPlane, tmp_path: Path) -> Callable[..., AbstractContextManager[Any]]:
    """What the chart's container runs, with the variables that the chart gives it and some others."""
    manifests = chart.render(api=ON | {"port": free_port()})
    (container,) = chart.one(manifests, "Deployment", NAME)["spec"]["template"]["spec"]["containers"]
    (tmp_path / "models.yaml").write_text(chart.one(manifests, "ConfigMap", NAME)["data"]["models.yaml"])
    given = {each["name"]: each["value"] for each in container["env"]}
    given |= {"FINETUNE_BUCKET_AWS_ACCESS_KEY_ID": "a", "FINETUNE_BUCKET_AWS_SECRET_ACCESS_KEY": "b"}
    given |= {f"{PREFIX}MODELS": str(tmp_path / "models.yaml"), "KUBECONFIG": str(control_plane.kubeconfig())}
    command = [sys.executable, *container["command"][1:]]

    @contextmanager
    def start(**others: str) -> Iterator[subprocess.Popen[str]]:
        environment = {**os.environ, **given, **others}
        with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
            try:
                yield process
            finally:
                process.kill()

    return start


def test_the_containers_program_serves_and_ends_when_it_is_told_to(program: Callable[..., Any]) -> None:
    with program() as process:
        running = next(line for line in process.stderr if "Uvicorn running on" in line)
        port = re.findall(r":(\d+)", running)[-1]
        assert httpx.get(f"http://127.0.0.1:{port}/healthz", timeout=PATIENCE).status_code == 200
        assert httpx.get(f"http://127.0.0.1:{port}/v1/models", timeout=PATIENCE).status_code == 401
        process.terminate()
        process.stderr.read()
        assert process.wait(PATIENCE) in (0, -signal.SIGTERM)


def test_the_containers_program_says_why_it_does_not_start(program: Callable[..., Any]) -> None:
    for wrong, sentence in (
        ({"FINETUNE_API_BUCKET": "rows"}, "FINETUNE_API_BUCKET must be s3://BUCKET or s3://BUCKET/PREFIX, not 'rows'"),
        (
            {"FINETUNE_BUCKET_AWS_ENDPOINT_URL": "minio:9000"},
            "AWS_ENDPOINT_URL in the bucket's credentials is no URL: it has to begin with http:// or https://.",
        ),
    ):
        with program(**wrong) as process:
            assert process.stderr.read().strip() == sentence
            assert process.wait(PATIENCE) == 1
