"""A training on two nodes: two pods of one Job, one of which is drained, come to the weights that one pod comes to."""

import base64
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from kube import evict, get, items, kubectl, node, shared_volume, wait
from numpy.testing import assert_allclose
from recipes import manifest
from safetensors.numpy import load
from stages import READY_SECONDS, STAGE_SECONDS, apply_job, first_revision, stage_pod, trains

CLASS = "shared"
DIRECTORY = f"/var/lib/finetune-{CLASS}"
PAIR, ALONE = "pair", "alone"
STEPS = 60
# A step of them takes long enough that a pod can be ended between two.
BATCH = 32


@pytest.fixture(scope="module")
def shared_volumes() -> Iterator[None]:
    """A volume for each job."""
    with ExitStack() as volumes:
        for name in (PAIR, ALONE):
            path = f"{DIRECTORY}/{name}"
            # In bfloat16 half as many rows in a pass round otherwise.
            node("sh", "-c", f"mkdir -p {path}/checkpoints && echo -n float32 >{path}/checkpoints/precision")
            volumes.enter_context(shared_volume(f"{CLASS}-{name}", path))
        yield


def start(namespace: str, name: str, nodes: int) -> str:
    """The revision of a training on so many nodes."""
    job = manifest(name, maxSteps=STEPS, batchSize=BATCH, nodes=nodes)
    job["spec"]["hosting"] = {"enabled": False}
    job["spec"]["workspace"] |= {"accessModes": ["ReadWriteMany"], "storageClassName": f"{CLASS}-{name}"}
    apply_job(namespace, job)
    return first_revision(namespace, name)


def pod(namespace: str, index: int) -> str:
    """The newest pod of the pair with that number."""
    selector = f"finetune.dev/job={PAIR},batch.kubernetes.io/job-completion-index={index}"
    wait(namespace, "pod", "create", STAGE_SECONDS, selector)
    found = items("pod", namespace, selector)
    return str(max(found, key=lambda each: each["metadata"]["creationTimestamp"])["metadata"]["name"])


def checkpoint() -> int:
    """The step of the pair's last checkpoint; the one before it goes a moment later."""
    names = node("sh", "-c", f"cd {DIRECTORY}/{PAIR}/checkpoints && ls -d checkpoint-*").split()
    return max(int(name.removeprefix("checkpoint-")) for name in names)


def weights(name: str) -> dict[str, object]:
    return dict(load(base64.b64decode(node("base64", f"{DIRECTORY}/{name}/artifact/adapter_model.safetensors"))))


def test_two_pods_go_on_from_their_checkpoint_and_end_with_the_weights_of_one(
    namespace: str, shared_volumes: None
) -> None:
    stage_pod(namespace, "train", start(namespace, PAIR, nodes=2), PAIR)
    first, second = pod(namespace, 0), pod(namespace, 1)
    # Before its first step there is nothing to keep.
    trains(namespace, first)
    evict(namespace, second)
    # Its end is the other's, too.
    wait(namespace, f"pod/{first}", "jsonpath={.status.phase}=Failed", STAGE_SECONDS)
    kept = checkpoint()
    assert 0 < kept < STEPS

    wait(namespace, f"ftj/{PAIR}", "condition=Ready", READY_SECONDS)
    assert pod(namespace, 0) != first
    learned = [line for line in kubectl("logs", pod(namespace, 0), "-n", namespace).splitlines() if "'loss'" in line]
    assert len(learned) == STEPS - kept
    assert get("ftj", PAIR, namespace)["status"]["artifact"]["digest"]

    start(namespace, ALONE, nodes=1)
    wait(namespace, f"ftj/{ALONE}", "condition=Ready", READY_SECONDS)
    ours, theirs = weights(PAIR), weights(ALONE)
    assert ours.keys() == theirs.keys()
    for name, found in ours.items():
        assert_allclose(found, theirs[name], rtol=1e-3, atol=1e-4, err_msg=name)
