"""An Engine serves a base model: to those with its key, in as many pods as asked for, and its end leaves nothing."""

import json

import pytest
from kube import apply, get, kubectl, wait
from recipes import EXAMPLE, TINY, answers, client
from stages import READY_SECONDS

NAME, KEY = "chat", "chat-key"
ENGINE = f"eng/{NAME}"


@pytest.fixture(scope="module")
def served(namespace: str) -> str:
    """The namespace of an Engine that answers."""
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": KEY, "namespace": namespace}}
    engine = {
        "apiVersion": "finetune.dev/v1alpha1",
        "kind": "Engine",
        "metadata": {"name": NAME, "namespace": namespace},
        "spec": {
            "model": {"source": f"s3://models/{TINY}", "credentials": {"secretRef": {"name": "bucket"}}},
            "contextLength": 512,
            "apiKey": {"secretRef": {"name": KEY}},
        },
    }
    apply(secret | {"stringData": {"OPENAI_API_KEY": "the-key"}}, engine)
    wait(namespace, ENGINE, "condition=Ready", READY_SECONDS)
    return namespace


def test_it_answers_those_who_have_the_key_and_nobody_else(served: str) -> None:
    url = get("eng", NAME, served)["status"]["url"]
    rows = [json.loads((EXAMPLE / "test.jsonl").read_text().splitlines()[0])]
    client(served, "with-key", "ask", url, NAME, rows=rows, key=KEY)
    client(served, "without", "reach", f"{url}/models")
    (answer,) = answers(served, "with-key", READY_SECONDS)
    assert answer["model"] == NAME
    (refused,) = answers(served, "without", READY_SECONDS)
    assert (refused["ok"], "401" in refused["error"]) == (False, True)


def test_kubectl_scales_it_to_nothing_and_back(served: str) -> None:
    kubectl("scale", ENGINE, "--replicas=0", "-n", served)
    wait(served, ENGINE, "condition=Available=False", READY_SECONDS)
    until_gone(served, "pod")
    kubectl("scale", ENGINE, "--replicas=1", "-n", served)
    wait(served, ENGINE, "condition=Available", READY_SECONDS)
    assert kubectl("get", ENGINE, "-n", served).splitlines()[1].split()[2:5] == ["True", "Serving", "1"]


def test_deleting_it_leaves_nothing(served: str) -> None:
    kubectl("delete", ENGINE, "-n", served, "--timeout=600s")
    for kind in ("deployment", "service", "networkpolicy", "pod"):
        until_gone(served, kind)


def until_gone(namespace: str, kind: str) -> None:
    """Until nothing of a kind is there that was made for the Engine."""
    found = (kind, "-l", f"finetune.dev/engine={NAME}", "-n", namespace)
    kubectl("wait", *found, "--for=delete", "--timeout=600s", timeout=630)
