"""The hub's client, with the patience that others are asked with. Made for whatever asks the hub."""

from collections.abc import Mapping
from functools import lru_cache

import httpx
from huggingface_hub import HfApi, set_client_factory
from huggingface_hub.utils._http import default_client_factory

from finetune_trainer.data import patience
from finetune_trainer.data.patience import Patience, persistent


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
    _wait(patience.given())
    return Api(endpoint=secrets.get("HF_ENDPOINT"), token=secrets.get("HF_TOKEN"))


@lru_cache(maxsize=1)
def _wait(given: Patience) -> None:
    """Have the library's clients wait no longer; by themselves they wait for ever for an upload's answer. Once: to set
    it closes the client that others may be using.
    """

    def client() -> httpx.Client:
        made = default_client_factory()
        made.timeout = given.timeout
        return made

    set_client_factory(client)
