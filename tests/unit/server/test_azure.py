"""Deployments where two want the same name, and accounts where nobody could tell who asks; the rest is in contract."""

import json
from typing import Any

import pytest
from finetune_server import view
from finetune_server.accounts import Accounts
from finetune_server.azure import Deployments
from finetune_server.errors import Problem
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.configuration import Configuration

Raw = dict[str, Any]
WHEN = "2026-11-27T11:00:00Z"


def tuned(name: str) -> Raw:
    """A FineTuneJob that has passed its gate, and serves nobody."""
    told = {"type": "Ready", "status": "True", "reason": "Succeeded", "message": "…", "lastTransitionTime": WHEN}
    return {
        "metadata": {"name": name, "namespace": "kitchen", "uid": name, "creationTimestamp": WHEN, "generation": 1},
        "spec": {
            "model": {"source": "hf://acme/small"},
            "dataset": {"train": {"source": "s3://b/a.jsonl"}},
            "hosting": {"enabled": False},
        },
        "status": {"phase": "Succeeded", "conditions": [told]},
    }


class Racing:
    """An API server where somebody else has the same name, a moment after it was free."""

    def __init__(self, mine: Raw, other: Raw) -> None:
        self._mine, self._other = mine, other
        self.labels: list[Raw] = []

    async def get(self, namespace: str, name: str) -> Raw:
        return self._mine

    async def all(self, namespace: str, selector: str) -> list[Raw]:
        return [self._mine, self._other] if self.labels else []

    async def patch(self, raw: Raw, body: Raw) -> Raw:
        self.labels.append(body["metadata"]["labels"])
        raw["metadata"].setdefault("labels", {}).update(body["metadata"]["labels"])
        return raw


async def test_of_two_who_take_a_name_at_once_the_newer_jobs_gives_way() -> None:
    mine, other = tuned("newer"), tuned("older")
    jobs = Racing(mine, other)
    body = {
        "sku": {"name": "standard", "capacity": 1},
        "properties": {"model": {"format": "OpenAI", "name": view.model_of(mine), "version": "1"}},
    }
    with pytest.raises(Problem) as found:
        await Deployments(jobs).put("kitchen", "chef", json.dumps(body).encode(), "/a")  # type: ignore[arg-type]
    assert found.value.status == 409
    assert found.value.message == (
        f"Deployment chef is of model {view.model_of(other)}: delete it first, or take another name."
    )
    label = "deployments.finetune.dev/chef"
    assert jobs.labels == [{label: "standard"}, {label: None}]


def test_what_is_deployed_later_was_finished_before() -> None:
    raw = tuned("recipes")
    when = {"Evaluated": "2026-11-27T10:00:00Z", "Promoted": WHEN, "Ready": WHEN}
    raw["status"]["conditions"] = [
        {"type": kind, "status": "True", "reason": "Succeeded", "message": "…", "lastTransitionTime": at}
        for kind, at in when.items()
    ]
    finished = view.job(raw)["finished_at"]
    raw["metadata"]["labels"] = {"deployments.finetune.dev/chef": "standard"}
    raw["spec"]["hosting"]["enabled"] = True
    raw["status"]["phase"] = "Promoting"
    assert (view.job(raw)["status"], view.job(raw)["finished_at"]) == ("succeeded", finished)
    del raw["metadata"]["labels"]
    raw["status"]["phase"] = "Succeeded"
    assert view.job(raw)["finished_at"] == finished + 3600


def test_accounts_are_not_let_in_where_the_servers_certificate_would_speak_for_all() -> None:
    client = ApiClient(Configuration())
    client.configuration.cert_file = "/etc/client.crt"
    with pytest.raises(ValueError, match="can't be had with a client certificate in the kubeconfig"):
        Accounts(client)
