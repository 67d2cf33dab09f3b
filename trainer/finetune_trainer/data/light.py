"""Config and tokenizer of the common architectures, without transformers' auto classes.

Called by `base`. Importing those takes ten seconds, with torch and scikit-learn behind them: most of what it takes to
prepare a small dataset. Here is only what they would make the same of; a test holds the two together. None: ask them.
"""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import transformers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

# The figures that `base` takes, which a config.json may leave to transformers' defaults.
FIGURES = (
    *("max_position_embeddings", "hidden_size", "num_hidden_layers", "vocab_size"),
    *("intermediate_size", "num_attention_heads", "num_key_value_heads", "head_dim"),
)
# Those of them that follow from others where a config.json of the architecture leaves them out.
FOLLOWING = {"llama": {"num_key_value_heads", "head_dim"}, "qwen2": {"head_dim"}}
# The class of every tokenizer.json that no model's own class reads.
GENERIC = ("PreTrainedTokenizer", "TokenizersBackend")
# Architectures, and which of the classes that tokenizer_config.json names the auto class would take as they are.
TOKENIZERS = {
    "llama": (*GENERIC, "GPT2Tokenizer", "LlamaTokenizer"),
    "qwen2": ("Qwen2Tokenizer",),
    "qwen3": (*GENERIC, "Qwen2Tokenizer"),
    "gemma": (*GENERIC, "GemmaTokenizer"),
    "gemma2": (*GENERIC, "GemmaTokenizer"),
    "gemma3_text": (*GENERIC, "GemmaTokenizer"),
}


def config(directory: Path) -> SimpleNamespace | None:
    """The figures in config.json."""
    found = _read(directory / "config.json")
    kind, missing = found.get("model_type"), {key for key in FIGURES if not isinstance(found.get(key), int)}
    if kind not in TOKENIZERS or "auto_map" in found or missing - FOLLOWING.get(kind, set()):
        return None
    return SimpleNamespace(**{key: found.get(key) for key in FIGURES})


def tokenizer(directory: Path) -> PreTrainedTokenizerBase | None:
    """The tokenizer in tokenizer.json."""
    found = _read(directory / "tokenizer_config.json")
    name = str(found.get("tokenizer_class")).removesuffix("Fast")
    usable = TOKENIZERS.get(_read(directory / "config.json").get("model_type", ""), ())
    if name not in usable or "auto_map" in found or not (directory / "tokenizer.json").exists():
        return None
    kind = PreTrainedTokenizerFast if name in GENERIC else getattr(transformers, name)
    loaded: PreTrainedTokenizerBase = kind.from_pretrained(directory, local_files_only=True)
    return loaded


def _read(path: Path) -> dict[str, Any]:
    """A file of JSON; nothing where it is none, which the auto classes explain."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
