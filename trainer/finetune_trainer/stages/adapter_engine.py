"""The engine beside which adapters are fetched: asked what it has and how busy it is, told to load and to forget.

Used by `adapters`. It is vLLM; the routes that load are closed to whoever doesn't have the key.
"""

import os
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from finetune_trainer.contract.adapters import KEY_HEADER, READY

# An engine on CPUs answers nothing while it computes.
_SECONDS, _LOADING_SECONDS = 10.0, 120.0


class Refused(Exception):
    """The engine will not do it; its own words."""


class VllmClient:
    """The one at `url`. Its methods raise httpx.TransportError where it gives no answer, ConnectError where nothing
    listens.
    """

    def __init__(self, url: str, key: str) -> None:
        users = os.environ.get("VLLM_API_KEY")
        headers = {KEY_HEADER: key} | ({"Authorization": f"Bearer {users}"} if users else {})
        self._client = httpx.Client(base_url=url, headers=headers, timeout=_SECONDS, trust_env=False)

    def adapters(self) -> Mapping[str, str]:
        """The directory of each that it has, by name. Raises Refused."""
        answer = _well(self._client.get("/v1/models"))
        return {model["id"]: model["root"] for model in answer.json()["data"] if model.get("parent")}

    def load(self, name: str, path: Path, instead: bool) -> None:
        """Have an adapter, in place of another one of that name if there is one. Raises Refused."""
        wanted = {"lora_name": name, "lora_path": str(path), "load_inplace": instead}
        _well(self._client.post("/v1/load_lora_adapter", json=wanted, timeout=_LOADING_SECONDS))

    def unload(self, name: str) -> None:
        """Forget one. Requests under way end as they began. Raises Refused."""
        _well(self._client.post("/v1/unload_lora_adapter", json={"lora_name": name}))

    def ready(self) -> None:
        """Let requests come. It is the engine's process that knows it, and a new one does not. Raises Refused."""
        _well(self._client.post(READY))

    def busy(self) -> frozenset[str]:
        """The adapters that it has requests for. Raises Refused."""
        return read(_well(self._client.get("/metrics")).text)


def read(metrics: str) -> frozenset[str]:
    """What vLLM's metrics say of adapters with requests: the labels of whatever was set last."""
    counts = {"vllm:num_requests_running": 0.0, "vllm:num_requests_waiting": 0.0}
    last, busy = 0.0, ""
    for family in text_string_to_metric_families(metrics):
        for sample in family.samples:
            if sample.name in counts:
                counts[sample.name] += sample.value
            elif sample.name == "vllm:lora_requests_info" and sample.value >= last:
                names = (sample.labels.get(f"{state}_lora_adapters", "") for state in ("running", "waiting"))
                last, busy = sample.value, ",".join(names)
    return frozenset(filter(None, busy.split(","))) if any(counts.values()) else frozenset()


def _well(answer: httpx.Response) -> httpx.Response:
    if answer.status_code == HTTPStatus.OK:
        return answer
    raise Refused(_words(answer))


def _words(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"it answers {answer.status_code}: {answer.text[:500]}"
