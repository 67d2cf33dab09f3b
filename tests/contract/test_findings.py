"""What a review found: stories in which the operator stuck, lied, or deleted what it should have kept.

Real controllers run (`ground`): the garbage collector, protected claims and quotas behave as in a cluster.
"""

import asyncio
import functools
import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from inspect import Parameter, Signature, signature
from typing import Any

import pytest
from api_client import Raw, Refusal
from control_plane import PATIENCE, Kubectl
from fault_proxy import Fault, Point
from finetune_operator import names
from ground import Ground
from life import GATED, NAME, Life, foreign, untouched
from node import Ending
from playing import Played

SEVEN, EIGHT = {"seed": 7}, {"seed": 8}


def story(tell: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """A test on the ground: `tell` gets a life in a namespace of its own, where the operator isn't started yet."""

    def test(ground: Ground, **more: Any) -> None:
        async def told() -> None:
            async with ground.space() as space:
                await tell(Life(space), **more)

        ground.run(told())

    test.__name__, test.__module__ = tell.__name__, tell.__module__
    # pytest hands over what it finds here: the ground in place of the life.
    taken = [found.replace(kind=Parameter.KEYWORD_ONLY) for found in list(signature(tell).parameters.values())[1:]]
    test.__signature__ = Signature([Parameter("ground", Parameter.POSITIONAL_OR_KEYWORD), *taken])  # type: ignore[attr-defined]
    return test


async def serving(life: Life, **spec: Any) -> str:
    """A FineTuneJob that serves, and its revision."""
    life.space.operator.start()
    await life.create(**spec)
    await life.until(lambda life: life.serves)
    return life.revision


async def serve_another(life: Life, **training: Any) -> str:
    """Train and promote another revision; returns it."""
    await life.edit(training=training)
    await life.until(lambda life: life.serves)
    return life.revision


def all_owned_by(life: Life, uid: str) -> bool:
    return all([owner["uid"] for owner in raw["metadata"]["ownerReferences"]] == [uid] for raw in life.made())


def going(raw: Raw | None) -> bool:
    """Whether an object is gone or going."""
    return raw is None or "deletionTimestamp" in raw["metadata"]


async def quota(life: Life, **hard: str) -> None:
    """A ResourceQuota that the quota controller has reckoned."""
    limits = {name.replace("__", "."): value for name, value in hard.items()}
    document = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q"}, "spec": {"hard": limits}}
    kubectl = functools.partial(asyncio.to_thread, life.space.kubectl)
    await kubectl("apply", "-f-", document=document)
    for name, value in limits.items():
        escaped = name.replace(".", "\\.").replace("/", "\\/")
        await kubectl(
            "wait", "resourcequota/q", f"--for=jsonpath={{.status.hard.{escaped}}}={value}", f"--timeout={PATIENCE}s"
        )


@story
async def test_deleted_and_applied_again_at_once_it_serves_again(life: Life) -> None:
    await serving(life)
    assert life.job
    before, revision = life.job["metadata"]["uid"], life.revision
    # The engine takes its time to end, and keeps its claim as long.
    life.space.node.lingering = {"host"}
    await life.delete()
    await life.create()
    await life.until(lambda life: going(life.of(revision, "PersistentVolumeClaim")))
    await life.until(lambda life: life.job["metadata"]["uid"] != before and life.condition("Ready")[0] != "")
    life.space.node.lingering = set()
    await life.space.node.tick()
    await life.until(lambda life: life.serves)
    assert life.job
    uid = life.job["metadata"]["uid"]
    await life.until(lambda life: all_owned_by(life, uid))


@story
async def test_going_back_to_a_revision_whose_trainer_is_still_ending(life: Life) -> None:
    life.space.operator.start()
    life.space.node.lingering = {"train"}
    await life.plays(train=Ending.HOLD)
    await life.create(training={"seed": 1})
    await life.until(lambda life: life.condition("Trained")[1] == "Running")
    first = life.revision
    await life.edit(training=SEVEN)
    await life.until(lambda life: going(life.of(first, "PersistentVolumeClaim")))
    await life.edit(training={"seed": 1})
    await life.until(lambda life: life.condition("Accepted")[0] == "True")
    life.space.node.lingering = set()
    await life.plays(train=Ending.SUCCEED)
    await life.until(lambda life: life.serves and life.served == first)
    assert not going(life.of(first, "PersistentVolumeClaim"))


@story
async def test_a_claim_deleted_by_hand_under_a_serving_revision_is_filled_anew(life: Life) -> None:
    revision = await serving(life)
    claim = life.of(revision, "PersistentVolumeClaim")
    assert claim
    name = claim["metadata"]["name"]
    await life.space.api.delete("PersistentVolumeClaim", life.space.name, name)
    await life.until(lambda life: going(life.get("PersistentVolumeClaim", name)))
    for pod in life.space.mirror.all(life.space.name, "Pod"):
        await life.space.api.delete("Pod", life.space.name, pod["metadata"]["name"])

    def made_anew(life: Life) -> bool:
        now = life.get("PersistentVolumeClaim", name)
        return now is not None and not going(now) and now["metadata"]["uid"] != claim["metadata"]["uid"]

    await life.until(lambda life: made_anew(life) and life.serves)


@story
async def test_nothing_of_a_dead_namesake_is_adopted_before_the_garbage_collector_has_run(life: Life) -> None:
    await serving(life)
    assert life.job
    before = life.job["metadata"]["uid"]
    life.space.operator.kill()
    life.space.ground.controllers.pause()
    try:
        await life.delete()
        await life.create()
        life.space.operator.start()
        await life.until(lambda life: life.job["metadata"]["uid"] != before and "status" in life.job)
        await life.until(lambda life: life.condition("Ready")[0] != "")
        assert life.condition("DataReady")[0] != "True"
        assert life.condition("Trained")[0] != "True"
    finally:
        life.space.ground.controllers.resume()
    await life.until(lambda life: life.serves)
    assert life.job
    uid = life.job["metadata"]["uid"]
    await life.until(lambda life: all_owned_by(life, uid))


@story
async def test_at_a_quota_of_two_claims_an_abandoned_training_makes_way(life: Life) -> None:
    first = await serving(life, hosting={"revisionHistoryLimit": 0})
    await quota(life, persistentvolumeclaims="2")
    await life.plays(train=Ending.HOLD)
    await life.edit(training=SEVEN)
    await life.until(lambda life: life.condition("Trained")[1] == "Running")
    abandoned = life.revision
    await life.edit(training=EIGHT)
    await life.until(lambda life: going(life.of(abandoned, "Job", "train")))
    assert life.served == first
    await life.plays(train=Ending.SUCCEED)
    await life.until(lambda life: life.serves)


@story
async def test_what_serves_is_restored_while_a_quota_refuses_what_is_new(life: Life) -> None:
    first = await serving(life)
    await quota(life, persistentvolumeclaims="1")
    await life.edit(training=SEVEN)
    await life.until(lambda life: life.condition("Ready")[1] == "Refused")
    deployment = life.of(first, "Deployment")
    assert deployment
    uid = deployment["metadata"]["uid"]
    await life.space.api.delete("Deployment", life.space.name, deployment["metadata"]["name"])

    def restored(life: Life) -> bool:
        now = life.of(first, "Deployment")
        return now is not None and now["metadata"]["uid"] != uid

    await life.until(restored)
    assert life.condition("Ready")[1] == "Refused"
    assert "exceeded quota: q" in life.message("Ready")


@contextmanager
def claims_undeletable(kubectl: Kubectl, namespace: str) -> Iterator[None]:
    """A policy of the cluster that lets nobody delete a claim in a namespace."""
    kind = {"apiVersion": "admissionregistration.k8s.io/v1", "metadata": {"name": namespace}}
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["DELETE"], "resources": ["persistentvolumeclaims"]}
    validation = {"expression": "false", "message": "claims are kept here", "reason": "Forbidden"}
    spec = {"matchConstraints": {"resourceRules": [rule]}, "validations": [validation]}
    where = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}}
    bound = {"policyName": namespace, "validationActions": ["Deny"], "matchResources": where}
    kubectl("apply", "-f-", document=kind | {"kind": "ValidatingAdmissionPolicy", "spec": spec})
    kubectl("apply", "-f-", document=kind | {"kind": "ValidatingAdmissionPolicyBinding", "spec": bound})
    try:
        while kubectl.run("delete", "pvc", "--all", "--dry-run=server").returncode == 0:
            pass
        yield
    finally:
        kubectl("delete", "validatingadmissionpolicybinding,validatingadmissionpolicy", namespace)


@story
async def test_where_claims_may_not_be_deleted_status_tells_the_truth(life: Life) -> None:
    await serving(life, hosting={"revisionHistoryLimit": 0})
    with claims_undeletable(life.space.kubectl, life.space.name):
        await life.edit(training=SEVEN)
        await life.until(lambda life: life.served == life.revision)
        await life.until(lambda life: life.job["status"].get("servedRevision") == life.revision)
        await life.until(lambda life: life.condition("Promoted")[0] == "True")
        await life.until(lambda life: "claims are kept here" in json.dumps(life.job["status"]["conditions"]))


def kept(life: Life, revision: str) -> bool:
    return not going(life.of(revision, "PersistentVolumeClaim"))


async def look_again(life: Life) -> None:
    """Have a new operator look, and act on an edit: what it does not want any more it has then removed."""
    life.space.operator.start()
    await life.edit(hosting={"resources": {"limits": {"memory": "9Gi"}}})
    await life.until(lambda life: life.serves and life.condition("Hosted")[0] == "True")


@story
async def test_a_lost_status_costs_no_kept_volume(life: Life) -> None:
    old = await serving(life)
    new = await serve_another(life, **SEVEN)
    life.space.operator.kill()
    await life.space.api.patch("FineTuneJob", life.space.name, NAME, {"status": None}, "status")
    await look_again(life)
    assert kept(life, old)
    assert life.served == new


@contextmanager
def newer_definition(ground: Ground) -> Iterator[None]:
    """The CustomResourceDefinition of a version to come, whose status has more fields and phases."""
    kubectl = ground.kubectl()
    crd = json.loads(kubectl("get", "crd", "finetunejobs.finetune.dev", "-o", "json"))
    status = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]
    before = json.dumps({"spec": crd["spec"]})
    status.clear()
    status |= {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    kubectl("patch", "crd", "finetunejobs.finetune.dev", "--type=merge", "-p", json.dumps({"spec": crd["spec"]}))
    try:
        yield
    finally:
        kubectl("patch", "crd", "finetunejobs.finetune.dev", "--type=merge", "-p", before)


@story
async def test_a_status_of_a_newer_version_costs_no_kept_volume(life: Life) -> None:
    old = await serving(life)
    new = await serve_another(life, **SEVEN)
    life.space.operator.kill()
    with newer_definition(life.space.ground):
        future = {"status": {"phase": "Dreaming", "dreams": [{"of": "sheep"}]}}

        async def written() -> bool:
            try:
                raw = await life.space.api.patch("FineTuneJob", life.space.name, NAME, future, "status")
            except Refusal:
                return False
            return "dreams" in raw["status"]

        # The API server takes a moment to know its new definition: until then it refuses the phase, or drops the field.
        while not await written():
            pass
        await look_again(life)
        assert kept(life, old)
        assert life.served == new


QUOTAS = {"train": {"requests__nvidia__com/gpu": "0"}, "evaluate": {"pods": "1"}}
CONDITIONS = {"train": "Trained", "evaluate": "Evaluated"}


@pytest.mark.parametrize("stage", QUOTAS)
@story
async def test_a_pod_that_a_quota_refuses_is_told(life: Life, stage: str) -> None:
    life.space.operator.start()
    await quota(life, **QUOTAS[stage])
    await life.create(**GATED)
    await life.until(lambda life: life.condition(CONDITIONS[stage])[1] == "PodNotCreated")
    assert "exceeded quota: q" in life.message("Ready")


@story
async def test_a_foreign_config_map_with_our_labels_is_left_alone(life: Life) -> None:
    theirs = [await life.space.api.create(raw, life.space.name) for raw in foreign()]
    await serving(life)
    await serve_another(life, **SEVEN)
    assert list(untouched(theirs, life.space)) == []


@story
async def test_a_foreign_config_map_with_our_labels_and_keys_is_not_read(life: Life) -> None:
    labels = names.labels(NAME, "0123abcd")
    metadata = {"name": "theirs", "labels": labels}
    raw = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"run.json": "{}"}}
    await life.space.api.create(raw, life.space.name)
    await serving(life)
    assert life.get("ConfigMap", "theirs")


@story
async def test_records_of_a_newer_version_are_read(life: Life) -> None:
    old = await serving(life)
    await serve_another(life, **SEVEN)
    life.space.operator.kill()
    for raw in life.space.mirror.all(life.space.name, "ConfigMap"):
        data = {key: from_the_future(text) for key, text in raw["data"].items()}
        await life.space.api.patch("ConfigMap", life.space.name, raw["metadata"]["name"], {"data": data})
    await look_again(life)
    assert kept(life, old)


def from_the_future(text: str) -> str:
    """A JSON document with a field that this version does not know; any other text as it is."""
    try:
        found = json.loads(text)
    except ValueError:
        return text
    return json.dumps(found | {"dreams": [{"of": "sheep"}]}) if isinstance(found, dict) else text


def deaf(point: Point) -> Fault | None:
    """No watch tells of a FineTuneJob."""
    return Fault.EVENT_DROPPED if point.event and point.kind == "FineTuneJob" else None


@story
async def test_a_manifest_of_which_no_event_tells_is_found(life: Life) -> None:
    life.space.proxy.decide = deaf
    life.space.operator.start()
    # The operator has its first list behind it.
    await life.space.proxy.watched("FineTuneJob")
    await life.create()
    await life.until(lambda life: life.serves)
    await life.edit(training=SEVEN)
    await life.until(lambda life: life.serves)


@story
async def test_a_manifest_that_is_there_before_the_operator_is_found(life: Life) -> None:
    await life.create()
    life.space.operator.start()
    await life.until(lambda life: life.serves)


def test_a_sidecar_listed_first_is_not_taken_for_the_trainer(operator: object, played: Played) -> None:
    played.create()
    played.sidecar = {"name": "a-mesh", "image": "mesh"}
    played.serve()


@story
async def test_a_conflict_at_a_deletion_is_no_proof_that_an_object_is_gone(life: Life) -> None:
    old = await serving(life)
    life.space.proxy.decide = lambda point: Fault.CONFLICT if (point.verb, point.nth) == ("DELETE", 1) else None
    await serve_another(life, **SEVEN)
    await life.until(lambda life: all(going(life.of(old, kind)) for kind in ("Service", "Deployment")))
    assert {fault for _, fault in life.space.proxy.spoilt} == {Fault.CONFLICT}
