"""A FineTuneJob in Git: what Argo CD, Flux and a backup do with it while real controllers run. Flux by its library."""

import asyncio
import copy
import json
import subprocess
from typing import Any

from api_client import Raw
from control_plane import PATIENCE, binary
from finetune_operator import names
from finetune_operator.pods.metadata import controller_of
from ground import Ground
from life import GATED, MADE, NAME, Life
from node import Ending
from rehearsal import MANIFEST
from test_findings import SEVEN, going, story

# How the tools mark what they apply, and find by it what they made. Flux's labels are put on by its library.
MARKS = {"app.kubernetes.io/instance": "kitchen"}
OWNED = {"kustomize.toolkit.fluxcd.io/name", "kustomize.toolkit.fluxcd.io/namespace"}
TRACKED = {"argocd.argoproj.io/tracking-id": "kitchen:finetune.dev/FineTuneJob:kitchen/recipes"}


def committed(life: Life, **spec: Any) -> Raw:
    """The manifest as it stands in a repository."""
    metadata = {"name": NAME, "namespace": life.space.name, "labels": MARKS, "annotations": TRACKED}
    kind = {"apiVersion": "finetune.dev/v1alpha1", "kind": "FineTuneJob"}
    return copy.deepcopy(kind | {"metadata": metadata, "spec": MANIFEST | spec})


async def flux(life: Life, verb: str, manifest: Raw) -> tuple[int, str]:
    """What hack/gitops does with a manifest: its exit code, and what it says of the FineTuneJob."""

    def run() -> subprocess.CompletedProcess[str]:
        command = [binary("gitops"), life.space.kubectl.kubeconfig, verb]
        return subprocess.run(
            command, input=json.dumps(manifest), capture_output=True, text=True, timeout=PATIENCE, check=False
        )

    done = await asyncio.to_thread(run)
    told = done.stderr if done.returncode else done.stdout
    return done.returncode, told.strip().removeprefix(f"FineTuneJob/{life.space.name}/{NAME} ")


async def sync(life: Life, manifest: Raw, does: str = "configured") -> None:
    """Apply it, and wait until the mirror shows it."""
    assert await flux(life, "apply", manifest) == (0, does)
    await life._seen(json.loads(await asyncio.to_thread(life.space.kubectl, "get", f"ftj/{NAME}", "-o", "json")))


def changed(manifest: Any, live: Any, at: str = "") -> list[str]:
    """The fields of a manifest that live otherwise: Argo CD's three-way comparison, which ignores what only lives."""
    if isinstance(manifest, dict) and isinstance(live, dict):
        return [found for key in manifest for found in changed(manifest[key], live.get(key), f"{at}.{key}")]
    return [] if manifest == live else [at]


async def in_sync(life: Life, manifest: Raw) -> None:
    assert await flux(life, "diff", manifest) == (0, "unchanged")
    assert changed(manifest, life.job) == []


@story
async def test_flux_sees_drift_and_fails_at_once_when_it_is_stalled(life: Life) -> None:
    life.space.operator.start()
    await life.plays(prepare=Ending.FAIL)
    await sync(life, committed(life), "created")
    await life.until(lambda life: life.condition("Ready")[0] == "False")
    code, told = await flux(life, "wait", committed(life))
    assert code == 1
    assert "status: 'Failed'" in told
    # Drift is what differs of what the repository says, and no more.
    await life.edit(training=SEVEN)
    assert await flux(life, "diff", committed(life)) == (0, "unchanged")
    await life.edit(training={"maxSteps": 41})
    assert await flux(life, "diff", committed(life)) == (0, "configured")


@story
async def test_it_is_in_sync_at_rest_promoted_by_hand_after_its_ttl_and_reverted(life: Life) -> None:
    life.space.operator.start()
    first = committed(life)
    await sync(life, first, "created")
    await life.until(lambda life: life.serves)
    assert await flux(life, "wait", first) == (0, "")
    before = life.revision
    await in_sync(life, first)
    # Neither tool may take what the operator makes for its own: it would remove it as no part of the repository.
    made = [raw["metadata"] for raw in life.space.mirror.all(life.space.name, *MADE, "Pod")]
    assert len(made) > 5
    assert not [each["name"] for each in made if (MARKS.keys() | OWNED) & each["labels"].keys()]
    assert not [each["name"] for each in made if TRACKED.keys() & each.get("annotations", {}).keys()]

    second = committed(life, training=MANIFEST["training"] | SEVEN, ttlAfterFinished="1s")
    await sync(life, second)
    await life.until(lambda life: life.serves)
    await in_sync(life, second)

    await asyncio.to_thread(life.space.kubectl, "annotate", f"ftj/{NAME}", f"{names.PROMOTE}={before}")
    await life.until(lambda life: life.served == before)
    await in_sync(life, second)
    await sync(life, second, "unchanged")
    assert life.job
    assert life.job["metadata"]["annotations"][names.PROMOTE] == before
    await asyncio.to_thread(life.space.kubectl, "annotate", f"ftj/{NAME}", f"{names.PROMOTE}-")
    await life.until(lambda life: life.serves)

    await life.until(lambda life: life.of(life.revision, "Job", "train") is None)
    await in_sync(life, second)

    # git revert: what was trained is there, and is not trained again.
    trained = life.of(before, "ConfigMap")
    await sync(life, first)
    await life.until(lambda life: life.serves and life.served == before)
    assert life.of(before, "ConfigMap") == trained
    await in_sync(life, first)

    # Pruned, as a tool deletes what is in the repository no more: nothing that was made for it stays.
    assert await flux(life, "prune", first) == (0, "deleted")
    await life.until(lambda life: life.job is None and all(map(going, life.made())))


# The order in which velero restores what there is of a namespace; what it finds there it leaves. Of Jobs those
# that have not ended.
RESTORED = (
    *("PersistentVolumeClaim", "ConfigMap", "Service", "Deployment", "Engine", "FineTuneJob"),
    *("Job", "NetworkPolicy"),
)
_RESET = (
    *("generateName", "selfLink", "uid", "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp"),
    *("deletionGracePeriodSeconds", "ownerReferences", "managedFields"),
)


def backed_up(life: Life) -> list[Raw]:
    """What is there, as velero restores it: no status, no uid, and no owner, whose uid would be another one's."""
    kept = [raw for raw in life.space.mirror.all(life.space.name, *RESTORED) if not ended(raw)]
    return [restored(raw) for raw in sorted(kept, key=lambda raw: RESTORED.index(raw["kind"]))]


def ended(raw: Raw) -> bool:
    return "completionTime" in raw.get("status", {})


def restored(raw: Raw) -> Raw:
    metadata = {key: value for key, value in raw["metadata"].items() if key not in _RESET}
    found = {key: value for key, value in raw.items() if key != "status"} | {"metadata": metadata}
    for given in ("volumeName", "clusterIP", "clusterIPs"):
        (found.get("spec") or {}).pop(given, None)
    if raw["kind"] == "Job":
        found["spec"].pop("selector", None)
        labels = found["spec"]["template"]["metadata"]["labels"]
        for label in ("controller-uid", "batch.kubernetes.io/controller-uid"):
            labels.pop(label, None)
    return found


def told(life: Life) -> Raw:
    """What is said of it, but for when."""
    status = life.job["status"] if life.job else {}
    conditions = {found["type"]: (found["status"], found["reason"]) for found in status["conditions"]}
    keys = ("phase", "revision", "servedRevision", "artifact", "endpoint", "evaluation", "dataset", "plan")
    return {"conditions": conditions, **{key: status.get(key) for key in keys}}


async def lost(life: Life) -> None:
    """Everything of it is deleted, and has gone."""
    await life.delete()
    await life.until(lambda life: life.job is None and not list(life.made()))


def stages(life: Life) -> set[str]:
    """The stages that have a Job."""
    jobs = life.space.mirror.all(life.space.name, "Job")
    return {raw["metadata"]["labels"][names.STAGE] for raw in jobs}


def controllers(life: Life) -> set[str | None]:
    """The uids that what was made for it is controlled by."""
    return {controller_of(raw) for raw in life.made()}


@story
async def test_restored_from_a_backup_it_ends_in_the_same_place_and_trains_nothing(life: Life) -> None:
    """While an operator works, with the revision before, and with one promoted by hand."""
    life.space.operator.start()
    await life.create(**GATED)
    await life.until(lambda life: life.serves)
    before = life.revision
    await life.edit(training=SEVEN)
    await life.until(lambda life: life.serves)
    await life.patch(metadata={"annotations": {names.PROMOTE: before}})
    await life.until(lambda life: life.served == before and life.condition("Ready")[0] == "True")
    was, kept = told(life), backed_up(life)
    assert {raw["kind"] for raw in kept} == {*RESTORED} - {"Job", "Engine"}

    await lost(life)
    for raw in kept:
        await life.space.api.create(raw, life.space.name)
    await life.until(lambda life: life.served == before and life.condition("Ready")[0] == "True")
    await life.until(lambda life: told(life) == was)
    assert stages(life) == set()
    assert life.job
    assert controllers(life) == {life.job["metadata"]["uid"]}

    # What it adopted is its own: it goes on from there, and goes with it.
    await life.patch(metadata={"annotations": {names.PROMOTE: None}})
    await life.until(lambda life: life.serves)
    assert stages(life) == set()
    await lost(life)


def test_restored_elsewhere_amid_its_training_it_trains_on_the_volume_that_it_had(ground: Ground) -> None:
    async def tell() -> None:
        async with ground.space() as source, ground.space() as space:
            before, life = Life(source), Life(space)
            source.operator.start()
            await before.plays(train=Ending.HOLD)
            await before.create()
            await before.until(lambda life: life.condition("Trained")[1] == "Running")
            kept, prepared = backed_up(before), before.of(before.revision, "ConfigMap")
            source.operator.kill()
            jobs = [raw["metadata"]["name"] for raw in kept if raw["kind"] == "Job"]
            assert jobs == [f"{NAME}-{before.revision}-train"]

            space.operator.start()
            for raw in kept:
                mapped = raw | {"metadata": raw["metadata"] | {"namespace": space.name}}
                await space.api.create(mapped, space.name)
            await life.until(lambda life: life.serves)
            assert stages(life) == {"train"}
            record = life.of(before.revision, "ConfigMap")
            assert record
            assert prepared
            assert record["data"]["prepare.json"] == prepared["data"]["prepare.json"]

    ground.run(tell())


@story
async def test_restored_without_what_was_made_for_it_it_is_trained_again(life: Life) -> None:
    life.space.operator.start()
    await life.create()
    await life.until(lambda life: life.serves)
    was, kept = told(life), backed_up(life)
    await lost(life)
    for raw in kept:
        if raw["kind"] == "FineTuneJob":
            await life.space.api.create(raw, life.space.name)
    await life.until(lambda life: life.serves)
    assert stages(life) == {"prepare", "train"}
    assert told(life) == was
