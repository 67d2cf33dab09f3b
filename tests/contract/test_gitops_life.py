"""A FineTuneJob in Git: what Argo CD, Flux and a backup do with it, done by kubectl while real controllers run."""

import asyncio
import copy
import json
from typing import Any

from api_client import Raw
from finetune_operator import names
from ground import Ground
from life import MADE, NAME, Life
from rehearsal import MANIFEST
from test_findings import SEVEN, going, story

# How the tools mark what they apply, and find by it what they made.
MARKS = {"app.kubernetes.io/instance": "kitchen", "kustomize.toolkit.fluxcd.io/name": "kitchen"}
TRACKED = {"argocd.argoproj.io/tracking-id": "kitchen:finetune.dev/FineTuneJob:kitchen/recipes"}
# As Flux's kustomize-controller and Argo CD with ServerSideApply=true apply.
APPLY = ("--server-side", "--field-manager=gitops", "-f-")


def committed(**spec: Any) -> Raw:
    """The manifest as it stands in a repository."""
    metadata = {"name": NAME, "labels": MARKS, "annotations": TRACKED}
    kind = {"apiVersion": "finetune.dev/v1alpha1", "kind": "FineTuneJob"}
    return copy.deepcopy(kind | {"metadata": metadata, "spec": MANIFEST | spec})


async def sync(life: Life, manifest: Raw) -> None:
    """Apply it, and wait until the mirror shows it."""
    told = await asyncio.to_thread(life.space.kubectl, "apply", *APPLY, "-o", "json", document=manifest)
    await life._seen(json.loads(told))


async def drift(life: Life, manifest: Raw) -> tuple[Raw, Raw]:
    """What lives, and what would once the same was applied again; not status, which may just be written."""
    kubectl = life.space.kubectl
    told = await asyncio.to_thread(kubectl, "apply", *APPLY, "--dry-run=server", "-o", "json", document=manifest)
    live = await asyncio.to_thread(kubectl, "get", f"ftj/{NAME}", "-o", "json")
    return compared(json.loads(live)), compared(json.loads(told))


def compared(raw: Raw) -> Raw:
    metadata = {key: value for key, value in raw["metadata"].items() if key not in ("managedFields", "resourceVersion")}
    return {"metadata": metadata, "spec": raw["spec"]}


def changed(manifest: Any, live: Any, at: str = "") -> list[str]:
    """The fields of a manifest that live otherwise: Argo CD's three-way comparison, which ignores what only lives."""
    if isinstance(manifest, dict) and isinstance(live, dict):
        return [found for key in manifest for found in changed(manifest[key], live.get(key), f"{at}.{key}")]
    return [] if manifest == live else [at]


async def in_sync(life: Life, manifest: Raw) -> None:
    live, applied = await drift(life, manifest)
    assert live == applied
    assert changed(manifest, life.job) == []


@story
async def test_it_is_in_sync_at_rest_promoted_by_hand_after_its_ttl_and_reverted(life: Life) -> None:
    life.space.operator.start()
    first = committed()
    await sync(life, first)
    await life.until(lambda life: life.serves)
    before = life.revision
    await in_sync(life, first)
    # Neither tool may take what the operator makes for its own: it would remove it as no part of the repository.
    made = [raw["metadata"] for raw in life.space.mirror.all(life.space.name, *MADE, "Pod")]
    assert len(made) > 5
    assert not [each["name"] for each in made if MARKS.keys() & each["labels"].keys()]
    assert not [each["name"] for each in made if TRACKED.keys() & each.get("annotations", {}).keys()]

    second = committed(training=MANIFEST["training"] | SEVEN, ttlAfterFinished="1s")
    await sync(life, second)
    await life.until(lambda life: life.serves)
    await in_sync(life, second)

    await asyncio.to_thread(life.space.kubectl, "annotate", f"ftj/{NAME}", f"{names.PROMOTE}={before}")
    await life.until(lambda life: life.served == before)
    await in_sync(life, second)
    await sync(life, second)
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
    await life.delete()
    await life.until(lambda life: life.job is None and all(map(going, life.made())))


def restored(raw: Raw) -> Raw:
    """An object as velero restores it: without status, and of its metadata name, labels and annotations alone."""
    metadata = {key: raw["metadata"][key] for key in ("name", "labels", "annotations") if key in raw["metadata"]}
    return {key: value for key, value in raw.items() if key != "status"} | {"metadata": metadata}


def test_a_restored_job_ends_in_the_same_place(ground: Ground) -> None:
    """Without what the operator made for it. With it, it says what stands in its way until that is deleted."""

    async def told() -> None:
        async with ground.space() as lost, ground.space() as space:
            source, life = Life(lost), Life(space)
            lost.operator.start()
            await source.create()
            await source.until(lambda life: life.serves)
            assert source.job
            kept = source.of(source.revision, "PersistentVolumeClaim")
            assert kept
            kept["spec"].pop("volumeName", None)
            for raw in (restored(kept) | {"apiVersion": "v1"}, restored(source.job)):
                await space.api.create(raw, space.name)
            space.operator.start()
            await life.until(lambda life: life.condition("Ready")[0] == "False")
            assert kept["metadata"]["name"] in life.message("Ready")
            await space.api.delete("PersistentVolumeClaim", space.name, kept["metadata"]["name"])
            await life.until(lambda life: life.serves)
            assert life.revision == source.revision
            told, before = life.job["status"], source.job["status"]
            assert told["artifact"]["digest"] == before["artifact"]["digest"]

    ground.run(told())
