"""Four FineTuneJobs on one Engine of two pods: each goes on answering, whatever comes, goes or is killed beside it.

One of them is the best of a sweep, whose two pods train at the same time. The Engine loads only what is signed. What
one of them has made lies in a registry, is fetched, and gone on from.
"""

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from kube import apply, finetune, get, items, kubectl, shared_volume, until_told, wait
from recipes import REGISTRY, REGISTRY_KEYS, TINY, load, manifest, port_forward, secret
from signing_keys import Keys, keys
from stages import READY_SECONDS, apply_job, revision

ENGINE = "herbs"
BASIL, DILL, MINT, SAGE = "basil", "dill", "mint", "sage"
# Of dill's volume, which its pods share; and what is tried, of which the first hardly learns.
SWEPT, RATES = "swept", [1e-6, 1e-3]
THYME = "thyme"
CREDENTIALS = {"secretRef": {"name": "bucket"}}
# For the bucket and the registry.
PLACES = {"secretRef": {"name": "places"}}
SIGN = {"secretRef": {"name": "signing"}}


@pytest.fixture(scope="module")
def volume() -> Iterator[None]:
    with shared_volume(SWEPT, f"/var/lib/finetune-{SWEPT}"):
        yield


@pytest.fixture(scope="module")
def signing(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    """What everything here is signed with."""
    return keys(tmp_path_factory.mktemp("signing") / "keys")


@pytest.fixture(scope="module")
def served(namespace: str, signing: Keys, volume: None) -> str:
    """The namespace of an Engine that answers in two pods, with nothing loaded yet."""
    engine = {
        "apiVersion": "finetune.dev/v1alpha1",
        "kind": "Engine",
        "metadata": {"name": ENGINE, "namespace": namespace},
        "spec": {
            "model": {"source": f"s3://models/{TINY}", "credentials": CREDENTIALS},
            "replicas": 2,
            "contextLength": 512,
            "lora": {
                "atOnce": 4,
                "maxRank": 8,
                "credentials": PLACES,
                "verifyKey": signing.public.read_text(),
            },
        },
    }
    key = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "signing", "namespace": namespace}}
    apply(secret(namespace, "places", **REGISTRY_KEYS), key | {"stringData": {"SIGNING_KEY": signing.private}}, engine)
    wait(namespace, f"eng/{ENGINE}", "condition=Ready", READY_SECONDS)
    return namespace


def start(namespace: str, name: str, steps: int = 2, **sections: Any) -> None:
    """A FineTuneJob that the Engine serves, and until it does."""
    # A bucket outlives its users: what another one published there is refused.
    place = get("eng", ENGINE, namespace)["metadata"]["uid"]
    destination = f"oci://{REGISTRY}/{place}/{name}" if name == MINT else f"s3://recipes/{place}/{name}"
    job = manifest(name, maxSteps=steps, adapter={"rank": 8})
    job["spec"] |= {
        "hosting": {"engine": {"name": ENGINE}},
        "output": {"destination": destination, "credentials": PLACES, "sign": SIGN},
    } | sections
    apply_job(namespace, job)
    wait(namespace, f"ftj/{name}", "condition=Ready", READY_SECONDS)


def swept() -> dict[str, Any]:
    """The sections of a sweep on two pods."""
    sweep = {"parameters": {"learningRate": RATES}, "parallel": 2}
    return {
        "training": {"batchSize": 2, "maxLength": 128, "maxSteps": 8, "adapter": {"rank": 8}, "sweep": sweep},
        "workspace": {"size": "2Gi", "accessModes": ["ReadWriteMany"], "storageClassName": SWEPT},
    }


Loaded = dict[str, tuple[int, tuple[str, ...]]]


def until_loaded(namespace: str, wanted: Loaded) -> None:
    """Until the Engine has these adapters and no others: in how many pods each is, and the names it answers to."""
    until_told(namespace, f"eng/{ENGINE}", "{.status.adapters}", lambda told: loaded(told) == wanted)


def loaded(told: str) -> Loaded:
    """What status says of the Engine's adapters."""
    found = json.loads(told.strip() or "[]")
    return {each["name"]: (each["loaded"], tuple(each.get("answersAs", ()))) for each in found}


def listed(namespace: str, host: str) -> set[str]:
    """The models that a client in the cluster finds at a Service."""
    (pod,) = items("pod", namespace, "job-name=load-basil")
    ask = f"import urllib.request as web; print(web.urlopen('http://{host}.{namespace}.svc/v1/models').read().decode())"
    told = kubectl("exec", "-n", namespace, pod["metadata"]["name"], "--", "python", "-c", ask)
    return {model["id"] for model in json.loads(told)["data"]}


def test_nobodys_requests_fail_while_others_adapters_come_and_go(served: str) -> None:
    with ExitStack() as clients:
        said = {}
        start(served, BASIL)
        said[BASIL] = clients.enter_context(load(served, "load-basil", BASIL))
        # Measured on the Engine, beside what it serves.
        measured = {"metrics": ["token_f1"], "baselines": [{"type": "zero-shot"}], "sampleSize": 2}
        start(served, DILL, evaluation=measured, **swept())
        said[DILL] = clients.enter_context(load(served, "load-dill", DILL))
        for name in (MINT, SAGE):
            start(served, name)
            said[name] = clients.enter_context(load(served, f"load-{name}", name))
        before = revision(served, BASIL)
        assert listed(served, BASIL) == {ENGINE, BASIL, f"{BASIL}-{before}"}
        assert listed(served, ENGINE) >= {ENGINE, *said}
        start(served, BASIL, steps=3)
        assert revision(served, BASIL) != before
        pods = items("pod", served, f"finetune.dev/engine={ENGINE}")
        kubectl("delete", "pod", pods[0]["metadata"]["name"], "-n", served, timeout=600)
        wait(served, f"deployment/{ENGINE}", "jsonpath={.status.readyReplicas}=2", READY_SECONDS)
        wait(served, f"eng/{ENGINE}", "condition=Ready", READY_SECONDS)
    failed = [each for answers in said.values() for each in answers if not each["ok"]]
    assert failed == []
    until_loaded(served, {f"{name}-{revision(served, name)}": (2, (name,)) for name in said})
    # Nobody has an engine of its own.
    assert [each["metadata"]["name"] for each in items("deployment", served)] == [ENGINE]
    assert get("ftj", DILL, served)["status"]["evaluation"]["rows"] == 2


def test_of_trials_on_two_pods_the_best_is_promoted_and_the_report_has_all(served: str, tmp_path: Path) -> None:
    first, second = items("pod", served, f"finetune.dev/job={DILL},finetune.dev/stage=train")
    # Both pods ran at the same time.
    assert max(began(first), began(second)) < min(ended(first), ended(second))
    status = get("ftj", DILL, served)["status"]
    losses = [float(trial["validationLoss"]) for trial in status["trials"]]
    assert losses[1] < losses[0]
    assert [trial["taken"] for trial in status["trials"]] == [False, True]
    assert status["servedRevision"] == status["revision"]
    said = finetune(tmp_path, "report", DILL, "-n", served)
    assert re.search(rf"^ *2 +0\.001 +{losses[1]:.4f} .* taken *$", said, re.MULTILINE), said


def began(pod: dict[str, Any]) -> str:
    return str(_ended(pod)["startedAt"])


def ended(pod: dict[str, Any]) -> str:
    return str(_ended(pod)["finishedAt"])


def _ended(pod: dict[str, Any]) -> dict[str, Any]:
    (container,) = pod["status"]["containerStatuses"]
    return dict(container["state"]["terminated"])


def test_what_lies_in_a_registry_is_fetched_and_gone_on_from(served: str, signing: Keys, tmp_path: Path) -> None:
    made = get("ftj", MINT, served)["status"]["artifact"]
    assert made["uri"].startswith(f"oci://{REGISTRY}/")
    with port_forward("registry", "service/registry", 5000) as port:
        # A program in Go answers what is meant for a proxy: so the address is the one that the cluster knows.
        proxy = {"http_proxy": f"http://127.0.0.1:{port}", "no_proxy": "127.0.0.1,localhost"}
        fetch = ("fetch", MINT, "-n", served, "--to", "adapter", "--verify-key", str(signing.public))
        said = finetune(tmp_path, *fetch, **REGISTRY_KEYS, **proxy)
    assert f"{made['digest']}, and signed with the key of" in said
    assert (tmp_path / "adapter/adapter_model.safetensors").exists()

    further = manifest(THYME, maxSteps=2)
    further["spec"] |= {"model": {"source": f"ftj://{MINT}"}, "hosting": {"enabled": False}}
    apply_job(served, further)
    wait(served, f"ftj/{THYME}", "condition=Ready", READY_SECONDS)
    assert get("ftj", THYME, served)["status"]["model"]["digest"] == made["digest"]


def test_a_deleted_one_is_unloaded_and_the_others_stay(served: str) -> None:
    kubectl("delete", "ftj", SAGE, "-n", served, "--timeout=600s")
    until_loaded(served, {f"{name}-{revision(served, name)}": (2, (name,)) for name in (BASIL, DILL, MINT)})
