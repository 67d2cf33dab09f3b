"""A rule's two readings agree on whatever text hypothesis thinks of, and what passes is a pod that can be made.

The table of bad manifests has what people write; here is what nobody thought of.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from control_plane import ControlPlane, Kubectl
from finetune_operator.api.v1alpha1 import FineTuneJob
from finetune_operator.api.values import LABEL_KEY
from hypothesis import given, settings
from hypothesis import strategies as st
from manifests import manifest
from pydantic import ValidationError
from rendering import pods, target

# What separates parts in names, keys, images and URIs, and what must stand in none.
TEXTS = st.text("aZ09-._/:@+ =\nä", max_size=8)
KEYS = st.from_regex(LABEL_KEY, fullmatch=True) | st.from_regex("[a.-]{1,6}/[A_.-]{1,6}", fullmatch=True) | TEXTS
VALUES = st.from_regex("[Aa0._-]{1,66}", fullmatch=True) | TEXTS
IMAGES = st.from_regex("([a.:5-]{1,6}/)?[a._-]{1,6}(:[vA.-]{1,4})?(@sha256:[0-9a]{62,64})?", fullmatch=True) | TEXTS
VARIABLES = VALUES | st.sampled_from(["HF_TOKEN", "AWS_ENDPOINT_URL_S3", "FINETUNE_", "FINETUNE", "HOME\n"])
PLACES = "hf://datasets/a/|pvc://[a.]{1,3}/|s3://[aA_]{1,3}/|configmap://a/"
URIS = st.from_regex(f"({PLACES})[a/.]{{1,6}}", fullmatch=True) | TEXTS
REVISIONS = st.from_regex("[a./-]{1,5}", fullmatch=True) | TEXTS
WRITTEN = "0 1 1.0 2. .5 . 1000m 1500m 1Mi 2M 1e3 1E 1e-3 1E+2 +1 -1 Mi e3 1Ki1 1mi"
QUANTITIES = st.integers(-1, 2) | st.sampled_from(WRITTEN.split())
NAMES = st.sampled_from(["cpu", "memory", "nvidia.com/gpu", "hugepages-1Mi", "kubernetes.io/batch-cpu", "gpu", "a/b/c"])
RESOURCES = st.dictionaries(NAMES, QUANTITIES, max_size=2)
POD = "spec.training.pod"

Fields = dict[str, Any]
KINDS: dict[str, st.SearchStrategy[Fields]] = {
    "labels": st.builds(lambda key, value: {f"{POD}.labels": {key: value}}, KEYS, VALUES),
    "annotations": st.builds(lambda key, value: {f"{POD}.annotations": {key: value}}, KEYS, TEXTS),
    "node selector": st.builds(lambda key, value: {f"{POD}.nodeSelector": {key: value}}, KEYS, VALUES),
    "service account": st.builds(lambda name: {f"{POD}.serviceAccountName": name}, VALUES),
    "pull secret": st.builds(lambda name: {f"{POD}.imagePullSecrets": [{"name": name}]}, VALUES),
    "variable": st.builds(lambda name: {f"{POD}.env": [{"name": name, "value": "1"}]}, VARIABLES),
    "secret key": st.builds(
        lambda name, key: {f"{POD}.env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": name, "key": key}}}]},
        VALUES,
        VALUES,
    ),
    "toleration": st.builds(
        lambda toleration: {f"{POD}.tolerations": [toleration]},
        st.fixed_dictionaries(
            {},
            optional={
                "key": KEYS,
                "operator": st.sampled_from(["Exists", "Equal"]),
                "value": VALUES,
                "effect": st.sampled_from(["NoSchedule", "NoExecute"]),
                "tolerationSeconds": st.integers(-1, 60),
            },
        ),
    ),
    "image": st.builds(lambda image: {"spec.training.image": image, "spec.hosting.image": image}, IMAGES),
    "resources": st.builds(
        lambda limits, requests: {"spec.training.resources": {"limits": limits, "requests": requests}},
        RESOURCES,
        RESOURCES,
    ),
    "rows": st.builds(lambda uri: {"spec.dataset.train.source": uri}, URIS),
    "revision": st.builds(lambda name: {"spec.model.revision": name}, REVISIONS),
    "size": st.builds(lambda size: {"spec.workspace.size": size}, QUANTITIES),
}


@pytest.fixture(scope="module")
def post(control_plane: ControlPlane, admin: Kubectl) -> Callable[[str, Any], dict[str, Any]]:
    """Create it in a namespace, but for keeping it."""
    admin("get", "crd", "finetunejobs.finetune.dev")

    def created(path: str, document: Any) -> dict[str, Any]:
        return control_plane.request("POST", f"{path}?dryRun=All&fieldValidation=Strict", document)

    return created


def read(document: dict[str, Any]) -> FineTuneJob | None:
    """The manifest as the local backend reads it; None for a bad one."""
    try:
        return FineTuneJob.model_validate_json(json.dumps(document), strict=True)
    except ValidationError:
        return None


@pytest.mark.parametrize("kind", KINDS)
def test_both_readings_agree_and_what_passes_can_be_made(kind: str, post: Callable[[str, Any], dict[str, Any]]) -> None:
    @settings(max_examples=50, deadline=None, derandomize=True, database=None)
    @given(KINDS[kind])
    def agree(fields: Fields) -> None:
        document = manifest(fields)
        answer = post("/apis/finetune.dev/v1alpha1/namespaces/default/finetunejobs", document)
        job = read(document)
        assert (job is not None) == (answer["kind"] == "FineTuneJob"), answer.get("message")
        if job is not None:
            found = replace(target(**document["spec"]), namespace="default")
            assert [answer["message"] for answer in map(made, pods(found)) if answer["kind"] == "Status"] == []

    def made(template: dict[str, Any]) -> dict[str, Any]:
        metadata = template["metadata"] | {"name": "a"}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
        return post("/api/v1/namespaces/default/pods", pod)

    agree()
