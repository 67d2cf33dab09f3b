"""The hub's client, with the patience that others are asked with. Made for whatever asks the hub."""

from collections.abc import Mapping

import httpx
from huggingface_hub import HfApi, set_client_factory
from huggingface_hub.utils._http import default_client_factory

from finetune_trainer.data import patience
from finetune_trainer.data.patience import persistent


class Api(HfApi):
    """Tries again by itself where huggingface_hub's asks but once, or gives up a file that breaks off."""

    model_info = persistent(HfApi.model_info)
    create_repo = persistent(HfApi.create_repo)
    create_tag = persistent(HfApi.create_tag)
    delete_tag = persistent(HfApi.delete_tag)
    hf_hub_download = persistent(HfApi.hf_hub_download)  # type: ignore[assignment]
    snapshot_download = persistent(HfApi.snapshot_download)  # type: ignore[assignment]


def api(secrets: Mapping[str, str]) -> Api:
    """Asks the hub that the credentials name, with their token."""
    return Api(endpoint=secrets.get("HF_ENDPOINT"), token=secrets.get("HF_TOKEN"))


def _client() -> httpx.Client:
    # By itself it waits for ever for an upload's answer.
    client = default_client_factory()
    client.timeout = patience.given().timeout
    return client


# Once: it closes the client that others may be using.
set_client_factory(_client)
