"""Adapters that an engine loads while it runs: what is wanted, and what the container beside the engine tells of it.

A FineTuneJob asks for one by a `PublishedAdapter` in a ConfigMap of its own; the Engine's controller makes
`WantedAdapters` of all of them, and the verb `adapters`, in each of the Engine's pods, acts by it and answers with
`HeldAdapters`.
"""

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from finetune_trainer.contract.config import Contract

# The file with `WantedAdapters`.
LIST = "adapters.json"
# What the container beside the engine leaves for the engine's middleware, in the volume that they share: the aliases in
# force, and the key that requests have to carry which load and unload.
ALIASES, LEAVING, KEY, KEY_HEADER = "aliases.json", "leaving.json", "key", "x-finetune-key"
# The variable with the public key that artifacts have to be signed with.
VERIFY_KEY = "FINETUNE_LORA_VERIFY_KEY"
# Where the engine is told that it has all that it can have, and where the kubelet asks whether it has.
READY = "/finetune/ready"


class PublishedAdapter(Contract):
    """A published adapter. `name`: what requests call it; `digest`: the artifact's, of which the manifest at `uri`
    tells.
    """

    name: Annotated[str, Field(pattern="^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=253)]
    uri: str
    digest: str


class WantedAdapters(Contract):
    """All that a pod should have. `aliases`: further names that requests may call adapters by."""

    adapters: tuple[PublishedAdapter, ...] = ()
    aliases: Mapping[str, str] = {}


class HeldAdapters(Contract):
    """What a pod has. `aliases`: those in force; `failed`: why an adapter could not be loaded."""

    loaded: tuple[str, ...] = ()
    aliases: Mapping[str, str] = {}
    failed: Mapping[str, str] = {}
