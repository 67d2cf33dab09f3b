"""Pods that lie, users who reach for what is not theirs, and secrets that must not be told.

On the ground, so that the pods are made by real controllers from what the operator made of a manifest.
"""

import base64
import json
import re
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from api_client import Raw, Refusal
from conftest import STRANGER
from finetune_operator.shell.workqueue import WORKERS
from ground import Ground, Space
from liars import ENDLESS, LIES, Liar, liar, redirect
from life import GATED, NAME, Life
from node import Ending
from rehearsal import MANIFEST
from test_findings import story

# How many tell a lie: of those that never end, more than the operator has workers.
LIARS = dict.fromkeys(LIES, 6) | dict.fromkeys(ENDLESS, WORKERS + 1)
# Seconds: one that waits for a liar would not be heard of again.
FOR_EVER = 3600
# What an operator may need more after having been lied to, in MB.
GROWTH = 40


def memory(space: Space) -> float:
    """The operator's resident memory, in MB."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{space.operator.pid}/status").read_text())
    assert found
    return int(found[1]) / 1000


async def lied_to(space: Space, told: list[Liar]) -> list[Life]:
    """FineTuneJobs whose training pods are these."""
    liars = [Life(space, f"liar-{number}") for number in range(len(told))]
    space.node.addresses = {each.name: liar.address for each, liar in zip(liars, told, strict=True)}
    space.node.endings |= {(each.name, "train"): Ending.HOLD for each in liars}
    for each in liars:
        await each.create()
    for each in liars:
        await each.until(lambda each: bool(each.of(each.revision, "Job", "train")))
    return liars


def within_schema(progress: Raw) -> bool:
    """Whether progress has only what a person can read and the schema allows."""
    counts = [progress.get(key, 0) for key in ("step", "totalSteps")]
    fractions = [progress[key] for key in ("epoch", "loss", "validationLoss", "tokensPerSecond") if key in progress]
    texts = [str(value) for value in progress.values()]
    return (
        all(0 <= count < 2**53 for count in counts)
        and all(re.fullmatch(r"\d+(\.\d+)?", fraction) for fraction in fractions)
        and all(len(text) <= 1024 for text in texts)
        and progress["stage"] == "train"
    )


@pytest.mark.parametrize("lie", LIES)
@story
async def test_a_pod_that_lies_delays_nobody(life: Life, lie: str) -> None:
    async with AsyncExitStack() as stack:
        told = [await stack.enter_async_context(liar(LIES[lie])) for _ in range(LIARS[lie])]
        life.space.operator.set(progress_seconds=1)
        life.space.operator.patience = FOR_EVER
        life.space.operator.start()
        await serves(Life(life.space, "alone"))
        before = memory(life.space)
        liars = await lied_to(life.space, told)
        for each in told:
            await each.called(1)
        # Now each of them is listened to, and those that don't end are until the end.
        await serves(life)
        # And the liars' own FineTuneJobs still do what they are told.
        for each in liars:
            await each.edit(suspend=True)
        for each in liars:
            await each.until(lambda each: each.condition("Trained")[1] == "Suspended")
        assert memory(life.space) - before < GROWTH


async def serves(life: Life) -> None:
    """A FineTuneJob from its creation until it serves."""
    await life.create()
    await life.until(lambda life: life.serves)


@pytest.mark.parametrize("lie", LIES)
@story
async def test_what_a_pod_lies_is_not_told(life: Life, lie: str) -> None:
    async with liar(LIES[lie]) as told:
        life.space.operator.set(progress_seconds=1)
        life.space.operator.start()
        (lied,) = await lied_to(life.space, [told])
        # Asked for the second time, it has told of the first.
        await told.called(2)
        await lied.until(lambda lied: lied.condition("Trained")[1] == "Running")
        progress = (lied.job or {})["status"].get("progress")
        assert progress is None or within_schema(progress)


@story
async def test_no_pod_sends_the_operator_elsewhere(life: Life) -> None:
    async with liar(LIES["html"]) as elsewhere, liar(redirect(elsewhere.address)) as told:
        life.space.operator.set(progress_seconds=1)
        life.space.operator.start()
        (lied,) = await lied_to(life.space, [told])
        # Asked for the second time, it has told of the first.
        await told.called(2)
        await lied.until(lambda lied: lied.condition("Trained")[1] == "Running")
        assert elsewhere.calls == 0


VICTIM = "victim"
# A field of the spec, and what somebody might write there to get at another namespace.
PATHS = (
    "../victim/prod",
    "../../victim/secrets/prod",
    "victim/prod",
    "victim%2Fprod",
    "..%2f..%2fvictim",
    "..",
)
REACHING: dict[str, list[Raw]] = {
    "model": [{"model": {"source": f"pvc://{path}/base"}} for path in PATHS],
    "rows-of-a-claim": [{"dataset": {"train": {"source": f"pvc://{path}/rows"}}} for path in PATHS],
    "rows-of-a-config-map": [{"dataset": {"train": {"source": f"configmap://{path}/rows"}}} for path in PATHS],
    "model-path": [{"model": {"source": f"pvc://mine/../../{path}"}} for path in PATHS],
    "credentials": [
        {"model": {"source": "s3://models/base", "credentials": {"secretRef": {"name": path}}}} for path in PATHS
    ],
    "service-account": [
        {"training": {"pod": {"serviceAccountName": path}}}
        for path in (*PATHS, "system:serviceaccount:victim:admin", "victim:admin")
    ],
    "environment": [
        {"training": {"pod": {"env": [{"name": "X", "valueFrom": {"secretKeyRef": {"name": path, "key": "k"}}}]}}}
        for path in PATHS
    ],
    "pull-secret": [{"training": {"pod": {"imagePullSecrets": [{"name": path}]}}} for path in PATHS],
    "labels": [
        {"training": {"pod": {"labels": {"finetune.dev/job": "theirs", "finetune.dev/revision": "x"}}}},
        {"hosting": {"pod": {"labels": {"finetune.dev/job": "theirs", "app": "victim"}}}},
    ],
    "annotations": [{"training": {"pod": {"annotations": {"finetune.dev/promote": path}}}} for path in PATHS],
    "storage-class": [{"workspace": {"storageClassName": path}} for path in PATHS],
    "image": [{"training": {"image": path}} for path in PATHS],
}


@pytest.fixture(scope="module")
def victim(ground: Ground) -> Iterator[str]:
    """A namespace with everything that somebody might want, of which STRANGER knows the names."""
    kubectl = ground.kubectl()
    metadata = {"name": "prod", "namespace": VICTIM}
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    kubectl("create", "namespace", VICTIM)
    for kind, rest in (
        ("Secret", {"stringData": {"k": "canary-of-the-victim"}}),
        ("ConfigMap", {"data": {"rows": "canary-of-the-victim"}}),
        ("ServiceAccount", {}),
        ("PersistentVolumeClaim", {"spec": claim}),
    ):
        kubectl("apply", "-f-", document={"apiVersion": "v1", "kind": kind, "metadata": metadata} | rest)
    yield VICTIM
    kubectl("delete", "secret,configmap,serviceaccount,persistentvolumeclaim", "prod", "-n", VICTIM, "--wait=false")


def let_in(space: Space) -> None:
    """Give STRANGER what the chart gives editors of FineTuneJobs, in this namespace and nowhere else."""
    for role in ("edit", "view"):
        name = f"finetune-operator-{role}"
        space.kubectl("create", "rolebinding", role, f"--clusterrole={name}", f"--user={STRANGER.name}")
    for verb in ("get", "create"):
        space.ground.plane.until_allowed(STRANGER.name, verb, "finetunejobs", "finetune.dev", space.name)


def strays(path: str) -> bool:
    """Whether a call leaves the namespace whose manifest brought it about."""
    return f"/namespaces/{VICTIM}/" in f"{path}/" or ".." in path or "%2" in path.lower()


@pytest.mark.parametrize("field", REACHING)
def test_nobody_reaches_another_namespace(ground: Ground, victim: str, field: str) -> None:
    async def told() -> None:
        # Of all namespaces, as most operators are: nothing but its own care keeps it out of others.
        async with ground.space(namespaces="") as space:
            let_in(space)
            space.operator.start()
            for number, spec in enumerate(REACHING[field]):
                await attempt(space, f"reach-{number}", spec)
            # The last one comes after all the others: when it serves, they have been looked at.
            life = Life(space)
            await life.create()
            await life.until(lambda life: life.serves)
            assert [path for path in space.proxy.paths if strays(path)] == []
            made = [raw["metadata"]["name"] for raw in space.mirror.all(victim)]
            assert sorted(made) == ["prod", "prod"]

    ground.run(told())


async def attempt(space: Space, name: str, spec: Raw) -> None:
    """Apply a manifest as STRANGER; a refusal is as good as a failure."""
    metadata = {"name": name, "annotations": {"finetune.dev/promote": "../victim"}}
    document = {"apiVersion": "finetune.dev/v1alpha1", "kind": "FineTuneJob", "metadata": metadata}
    try:
        await space.ground.api.as_user(STRANGER.name).create(document | {"spec": MANIFEST | spec}, space.name)
    except Refusal as refusal:
        assert refusal.status in (400, 422), refusal  # noqa: PT017


def test_rights_on_finetunejobs_are_no_rights_elsewhere(ground: Ground, victim: str) -> None:
    async def told() -> None:
        async with ground.space() as space:
            let_in(space)
            stranger = ground.api.as_user(STRANGER.name)
            document = {"apiVersion": "finetune.dev/v1alpha1", "kind": "FineTuneJob", "metadata": {"name": NAME}}
            await stranger.create(document | {"spec": MANIFEST}, space.name)
            for namespace, kind in ((victim, "FineTuneJob"), (space.name, "ConfigMap"), (victim, "ConfigMap")):
                with pytest.raises(Refusal, match="forbidden"):
                    await stranger.create(document | {"kind": kind, "spec": MANIFEST}, namespace)
            with pytest.raises(Refusal, match="forbidden"):
                await stranger.patch("FineTuneJob", space.name, NAME, {"status": {"phase": "Serving"}}, "status")

    ground.run(told())


@story
async def test_no_secret_is_told(life: Life) -> None:
    space = life.space
    keys = {"AWS_SECRET_ACCESS_KEY": "canary-in-a-secret", "HF_TOKEN": "canary-token"}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "bucket"}, "stringData": keys}
    space.kubectl("apply", "-f-", document=secret)
    environment = [{"name": "PASSWORD", "value": "canary-in-env"}]
    space.operator.start()
    await life.plays(train=Ending.FAIL)
    training, hosting = MANIFEST["training"] | {"pod": {"env": environment}}, {"pod": {"env": environment}}
    await life.create(**GATED, training=training, hosting=hosting)
    await life.until(lambda life: life.condition("Trained")[0] == "False")
    await life.plays(train=Ending.SUCCEED)
    await life.patch(metadata={"annotations": {"finetune.dev/retry": "once"}})
    await life.until(lambda life: life.serves)
    events = json.loads(space.kubectl("get", "events", "-o", "json"))["items"]
    maps = list(space.mirror.all(space.name, "ConfigMap"))
    assert events
    assert maps
    told = {"log": space.operator.log(), "status": (life.job or {})["status"], "events": events, "ConfigMaps": maps}
    assert [where for where, found in told.items() if "canary" in json.dumps(found)] == []
    # Variables are shown by whoever may see pods; what is in a Secret is shown nowhere.
    kinds = "ftj,jobs,pods,deployments,replicasets,services,configmaps,pvc,networkpolicies,events"
    described = space.kubectl("describe", kinds)
    assert "canary-in-env" in described
    for canary in keys.values():
        for form in (canary, base64.b64encode(canary.encode()).decode()):
            assert form not in described
    # What was planted is where it belongs, so that the search above could have found it.
    assert "canary-in-env" in json.dumps(list(space.mirror.all(space.name, "Job")))
