"""Whether a base model can become a reward model: transformers has no head for models of every type.

Called by `prepare`, so that this is told before an accelerator is held.
"""

import json
from pathlib import Path

from finetune_trainer.contract.config import Method, ModelConfig
from finetune_trainer.contract.outcome import Outcome, StageError

AUTO_CLASS = "AutoModelForSequenceClassification"


def check(method: Method, directory: Path, config: ModelConfig) -> None:
    """Raise StageError (CONFIG_INVALID) where a method needs a head and the model in `directory` can have none."""
    if method.writes:
        return
    # Seconds of imports, which other methods don't need.
    from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES

    found = json.loads((directory / "config.json").read_text())
    kind, own = found.get("model_type"), config.trust_remote_code and AUTO_CLASS in found.get("auto_map", {})
    if kind not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES and not own:
        raise StageError(
            Outcome.CONFIG_INVALID,
            f"training.method {method.value} puts a head in place of the model's output layer, and transformers has "
            f"none for models of type {kind}, as {config.source.uri} is: choose a base model of another type, such as "
            "llama or qwen3.",
        )
