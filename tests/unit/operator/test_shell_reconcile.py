"""The shell around plan(): what becomes of a fault in it, of refusals, and of an API server that is briefly away."""

import json
import logging
from dataclasses import replace
from typing import Any

import pytest
from finetune_operator.api.v1alpha1 import KIND
from finetune_operator.settings import Settings
from finetune_operator.shell.errors import Refused, Unavailable
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
        self.statuses: list[dict[str, Any]] = []

    def _note(self, call: str) -> None:
        self.calls.append(call)
        if call in self.answers:
            raise self.answers[call]

    async def create(self, manifest: dict[str, Any]) -> dict[str, Any]:
        self._note(f"create {manifest['kind']}")
        metadata = {
            **manifest["metadata"],
            "uid": f"uid-{len(self.calls)}",
            "resourceVersion": str(len(self.calls) + 10),
        }
        return {**manifest, "metadata": metadata}

    async def read(self, namespace: str, wanted: Any) -> dict[Any, Any]:
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


def reconciler(server: ApiServer) -> Reconciler:
    job = json.loads(json.dumps(Rehearsal().job))
    job["metadata"]["resourceVersion"] = "1"
    store = Store()
    store.put(KIND, job)
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


async def test_a_status_that_breaks_the_schema_is_told_as_such() -> None:
    class Strict(ApiServer):
        async def apply_status(self, kind: str, subject: Any, status: Any) -> None:
            if not self.statuses and "InternalError" not in str(status):
                raise Refused("the status of FineTuneJob recipes", "spec is too large")
            await super().apply_status(kind, subject, status)

    server = Strict()
    await reconciler(server)(KEY)
    assert "the API server refused its status: spec is too large" in ready(server)["message"]
