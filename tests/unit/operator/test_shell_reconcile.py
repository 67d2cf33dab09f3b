"""The shell around plan(): what becomes of a fault in it, of refusals, and of an API server that is briefly away."""

import json
import logging
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any

import pytest
from engines import Cluster as Engine
from finetune_operator.api.engine import KIND as ENGINE
from finetune_operator.api.v1alpha1 import KIND
from finetune_operator.kinds.actions import Id, Ref
from finetune_operator.kinds.plan import MISSING_SECONDS
from finetune_operator.settings import Settings
from finetune_operator.shell.errors import Gone, InTheWay, Refused, Unavailable
from finetune_operator.shell.kinds import KINDS
from finetune_operator.shell.reconcile import Reconciler
from finetune_operator.shell.resources import Key
from finetune_operator.shell.store import Store
from rehearsal import Rehearsal

KEY = Key(KIND, "kitchen", "recipes")


class ApiServer:
    """What the tests need of `Cluster`: it notes what it is asked, and refuses or fails as it is told."""

    def __init__(self, **answers: Exception) -> None:
        self.answers = answers
        self.calls: list[str] = []
        self.there: dict[Id, dict[str, Any]] = {}
        self.statuses: list[dict[str, Any]] = []

    def _note(self, call: str) -> None:
        self.calls.append(call)
        if call in self.answers:
            raise self.answers[call]

    async def get(self, kind: str, namespace: str, name: str) -> dict[str, Any] | None:
        return self.there.get((kind, name))

    async def list(self, kind: str, namespace: str, label: str) -> AsyncIterator[tuple[list[dict[str, Any]], int]]:
        self._note(f"list {kind}")
        yield [raw for (found, _), raw in self.there.items() if found == kind], 1

    async def adopt(self, namespace: str, ref: Ref, owner: Mapping[str, Any]) -> dict[str, Any]:
        self._note(f"adopt {ref.kind}")
        raw = self.there[ref.kind, ref.name]
        version = str(len(self.calls) + 10)
        return raw | {"metadata": raw["metadata"] | {"ownerReferences": [owner], "resourceVersion": version}}

    async def delete(self, namespace: str, ref: Ref) -> None:
        self._note(f"delete {ref.kind}")

    async def create(self, manifest: dict[str, Any]) -> dict[str, Any]:
        self._note(f"create {manifest['kind']}")
        if found := self.there.get((manifest["kind"], manifest["metadata"]["name"])):
            raise InTheWay(manifest["kind"], found)
        metadata = {
            **manifest["metadata"],
            "uid": f"uid-{len(self.calls)}",
            "resourceVersion": str(len(self.calls) + 10),
        }
        return {**manifest, "metadata": metadata}

    async def read(self, namespace: str, wanted: Any) -> dict[Any, Any]:
        self._note("read")
        return {found: None if found[0] == "Service" else {"metadata": {}} for found in wanted}

    async def post(self, kind: str, subject: Any, event: Any) -> None:
        self._note("post")

    async def apply_status(self, kind: str, subject: Any, status: Any) -> None:
        self._note("status")
        self.statuses.append(status.model_dump(mode="json", by_alias=True, exclude_none=True))


class Nobody:
    """A Poller that nobody answers."""

    def follow(self, key: Key, pods: dict[str, str], soon: bool = False) -> None:
        """Ask nobody."""

    def last(self, key: Key) -> dict[str, Any]:
        """No answer."""
        return {}


def subject() -> dict[str, Any]:
    job: dict[str, Any] = json.loads(json.dumps(Rehearsal().job))
    job["metadata"]["resourceVersion"] = "1"
    return job


def reconciler(server: ApiServer) -> Reconciler:
    store = Store()
    store.put(KIND, subject())
    return Reconciler(server, store, Nobody(), Settings())  # type: ignore[arg-type]


def ready(server: ApiServer) -> dict[str, Any]:
    return next(found for found in server.statuses[-1]["conditions"] if found["type"] == "Ready")


async def test_a_fault_is_a_condition_of_its_object_and_logged_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def bug(*_: Any) -> None:
        raise KeyError("a bug")

    monkeypatch.setitem(KINDS, KIND, replace(KINDS[KIND], plan=bug))
    server = ApiServer()
    work = reconciler(server)
    with caplog.at_level(logging.ERROR):
        seconds = [await work(KEY) for _ in range(3)]
    assert ready(server)["reason"] == "InternalError"
    assert "KeyError: 'a bug'" in ready(server)["message"]
    assert "its log has the traceback" in ready(server)["message"].lower()
    assert [record.message for record in caplog.records] == ["FineTuneJob kitchen/recipes: a fault in the operator"]
    assert min(seconds) >= 400, "it is not tried again and again"


async def test_what_comes_after_a_refusal_is_tried_and_the_status_written() -> None:
    server = ApiServer(**{"create PersistentVolumeClaim": Refused("PersistentVolumeClaim x", "exceeded quota")})
    await reconciler(server)(KEY)
    assert server.calls.count("create PersistentVolumeClaim") == 1
    assert "create ConfigMap" in server.calls
    assert "exceeded quota" in ready(server)["message"]


async def test_an_api_server_that_is_away_for_one_call_costs_the_others_and_the_status_nothing() -> None:
    server = ApiServer(**{"create PersistentVolumeClaim": Unavailable("etcd is busy", 7), "post": Unavailable("busy")})
    with pytest.raises(Unavailable, match="etcd is busy"):
        await reconciler(server)(KEY)
    assert "create ConfigMap" in server.calls
    assert server.statuses


@pytest.mark.parametrize("kind", [KIND, ENGINE])
async def test_what_may_not_be_looked_up_is_told_in_the_status_and_nothing_made(kind: str) -> None:
    server = ApiServer(read=Refused("to show Service recipes", "services is forbidden: no RBAC policy matched"))
    work = reconciler(server)
    work.store.put(ENGINE, Engine().engine | {"metadata": subject()["metadata"]})
    seconds = await work(Key(kind, "kitchen", "recipes"))
    assert (ready(server)["status"], ready(server)["reason"]) == ("False", "Refused")
    told = "The API server refused to show Service recipes: services is forbidden: no RBAC policy matched"
    assert told in ready(server)["message"]
    assert not [call for call in server.calls if call.startswith("create")]
    assert seconds == MISSING_SECONDS


@pytest.mark.parametrize("error", [Unavailable("etcd is busy"), Gone("too old"), Refused("to show x", "forbidden")])
async def test_a_look_before_a_deletion_that_fails_costs_the_rest_and_the_status_nothing(error: Exception) -> None:
    """Nothing is deleted or adopted on the word of a watch alone."""
    server = ApiServer(**{"list Job": error})
    work = reconciler(server)
    work.store.put("PersistentVolumeClaim", volume())
    server.there = {(KIND, "recipes"): subject()}
    with pytest.raises(Unavailable):
        await work(KEY)
    assert server.statuses
    assert "create ConfigMap" in server.calls
    assert not [call for call in server.calls if call.startswith(("adopt", "delete"))]


async def test_a_status_that_breaks_the_schema_is_told_as_such() -> None:
    class Strict(ApiServer):
        async def apply_status(self, kind: str, subject: Any, status: Any) -> None:
            if not self.statuses and "InternalError" not in str(status):
                raise Refused("the status of FineTuneJob recipes", "spec is too large")
            await super().apply_status(kind, subject, status)

    server = Strict()
    await reconciler(server)(KEY)
    assert "the API server refused its status: spec is too large" in ready(server)["message"]


def volume() -> dict[str, Any]:
    """The revision's volume as a backup restores it."""
    return restored("PersistentVolumeClaim")


def restored(kind: str, served: bool = False) -> dict[str, Any]:
    cluster = Rehearsal()
    if served:
        cluster.serve()
    cluster.reconcile()
    made = cluster.get(kind)
    identity = {"namespace": "kitchen", "uid": f"restored-{kind}", "resourceVersion": "5"}
    metadata = {key: value for key, value in made["metadata"].items() if key != "ownerReferences"} | identity
    return made | {"kind": kind, "metadata": metadata}


@pytest.mark.parametrize("told", [True, False], ids=["a watch has told of it", "it stands in the way"])
async def test_what_a_backup_brought_back_is_adopted_and_none_made_beside_it(told: bool) -> None:
    server = ApiServer()
    work = reconciler(server)
    raw = volume()
    server.there = {(KIND, "recipes"): subject(), ("PersistentVolumeClaim", raw["metadata"]["name"]): raw}
    if told:
        work.store.put("PersistentVolumeClaim", raw)
    await work(KEY)
    assert server.calls.count("adopt PersistentVolumeClaim") == 1
    assert server.calls.count("create PersistentVolumeClaim") == (0 if told else 1)
    assert "create ConfigMap" in server.calls
    assert ready(server)["reason"] != "NameTaken"
    assert work.store.snapshot(KEY).children["PersistentVolumeClaim"]  # type: ignore[union-attr]


async def test_a_record_whose_volume_can_not_be_adopted_yet_is_kept() -> None:
    """Without the volume it would be taken for one that lost it, and the revision trained again."""
    server = ApiServer(**{"adopt PersistentVolumeClaim": Unavailable("the API server is busy")})
    work = reconciler(server)
    server.there = {(KIND, "recipes"): subject()}
    for raw in (volume(), restored("ConfigMap", served=True)):
        server.there[raw["kind"], raw["metadata"]["name"]] = raw
        work.store.put(raw["kind"], raw)
    with pytest.raises(Unavailable):
        await work(KEY)
    assert "adopt ConfigMap" in server.calls
    assert not [call for call in server.calls if call.startswith("delete")]


@pytest.mark.parametrize("now", ["gone", "going"])
async def test_a_job_that_is_no_more_adopts_nothing_though_no_watch_has_told(now: str) -> None:
    """What it took would go with it."""
    server = ApiServer()
    work = reconciler(server)
    work.store.put("PersistentVolumeClaim", volume())
    if now == "going":
        going = subject()
        going["metadata"] |= {"deletionTimestamp": "2026-01-01T00:00:00Z", "resourceVersion": "2"}
        server.there = {(KIND, "recipes"): going}
    await work(KEY)
    assert not [call for call in server.calls if call.startswith(("adopt", "create"))]
