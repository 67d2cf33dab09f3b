"""Under which license a base model is, as its own model card says: what an artifact's card tells on.

Called by `prepare`, which may ask the hub. A card that can't be read says nothing: people write them by hand.
"""

from pathlib import Path
from typing import Any

import yaml
from huggingface_hub.repocard import metadata_load

from finetune_trainer.contract.config import ModelConfig
from finetune_trainer.data import bucket, hub
from finetune_trainer.data.fetch_errors import Access, explained

CARD = "README.md"
# The hub's word for a license that it has no word for.
OTHER = "other"


def of(config: ModelConfig, commit: str | None) -> str | None:
    """That of a model on the hub, at a commit, or where it is mounted; None where no card says. Raises StageError."""
    source = config.source
    if source.path is not None:
        return _said(_front(source.path / CARD))
    if not source.uri.startswith("hf://"):
        return None
    secrets = bucket.credentials("model")
    with explained(Access(source.uri, "model", secrets)):
        told: Any = hub.api(secrets).model_info(source.uri.removeprefix("hf://"), revision=commit).card_data
    return _said(told.to_dict() if told else {})


def _front(card: Path) -> dict[str, Any]:
    try:
        return metadata_load(card) or {}
    except (OSError, ValueError, yaml.YAMLError):
        return {}


def _said(front: dict[str, Any]) -> str | None:
    found, name = front.get("license"), front.get("license_name")
    told = name if found == OTHER and name else found
    return told if isinstance(told, str) else None
