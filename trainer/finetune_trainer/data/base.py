"""The base model as prepare sees it: its figures and its tokenizer. The weights stay on disk.

Called by `prepare`.
"""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any

import jinja2
from safetensors import SafetensorError, safe_open
from transformers import PreTrainedTokenizerFast

from finetune_trainer.contract.config import ADAPTER_CONFIG, ModelConfig
from finetune_trainer.contract.outcome import Outcome, StageError
from finetune_trainer.data import light
from finetune_trainer.data.tokens import CantRender, Encoded, Row
from finetune_trainer.data.weights_file import WeightsFile

# A tokenizer that knows no longest input says so with a number beyond any model's.
UNLIMITED = 10**9
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
    "tekken.json",
)


@dataclass(frozen=True)
class ModelFigures:
    """The figures of the base model that arithmetic needs. `parameters` is a count; the rest as in its config.json.

    `query_size` and `key_value_size`: those of all heads. Where its config has no such figures they are Llama's of that
    hidden size.
    """

    parameters: int
    context_length: int
    hidden_size: int
    layers: int
    vocabulary: int
    intermediate_size: int
    query_size: int
    key_value_size: int


@dataclass(frozen=True)
class Base:
    """The base model's figures and its tokenizer."""

    model: ModelFigures
    tokenizer: PreTrainedTokenizerFast

    @property
    def chat(self) -> bool:
        """Whether it has a chat template."""
        return self.tokenizer.chat_template is not None

    @property
    def eos(self) -> str:
        """The text of its end-of-sequence token; empty when it has none."""
        return self.tokenizer.eos_token or ""

    @property
    def special(self) -> tuple[str, ...]:
        """The tokens that a template writes, and text should not hold."""
        return tuple(str(token) for token in self.tokenizer.added_tokens_decoder.values() if token.special)

    @property
    def developer(self) -> bool:
        """Whether its chat template knows the role developer."""
        return "developer" in str(self.tokenizer.chat_template)

    def count(self, text: str) -> int:
        """Tokens of a text by itself."""
        return len(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def text(self, ids: Sequence[int]) -> str:
        """The text of tokens, special ones as they are written."""
        return str(self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))

    def render(self, messages: list[Row], tools: list[Row] | None, generation: bool) -> str:
        """The chat as text, with the generation prompt or without. Raises CantRender."""
        try:
            text: str = self.tokenizer.apply_chat_template(
                messages, tools=tools, add_generation_prompt=generation, tokenize=False
            )
        except (jinja2.TemplateError, TypeError) as error:
            raise CantRender(f"the model's chat template refuses it: {error}") from error
        return text

    def encode(self, texts: list[str], special: bool) -> list[Encoded]:
        """Tokens of each text, with the special tokens that plain text gets or without."""
        encoded: list[Encoded] = self.tokenizer.backend_tokenizer.encode_batch(texts, add_special_tokens=special)
        return encoded


def read(directory: Path, config: ModelConfig) -> Base:
    """Read what lies in `directory`. Raises StageError (CONFIG_INVALID) for what is no model that can be trained."""
    uri = config.source.uri
    if not directory.is_dir():
        raise _unusable(uri, "it is no directory, and a model is one")
    if not (directory / "config.json").exists():
        raise _unusable(uri, "it has no config.json" + _adapter(directory))
    found = _config(directory, config)
    tokenizer = _tokenizer(directory, config)
    return Base(_figures(found, parameters(directory, uri), tokenizer.model_max_length), tokenizer)


def figures(directory: Path, config: ModelConfig) -> ModelFigures:
    """Its figures alone. Raises StageError as `read` does."""
    return _figures(_config(directory, config), parameters(directory, config.source.uri), UNLIMITED)


def _unusable(uri: str, why: str) -> StageError:
    return StageError(Outcome.CONFIG_INVALID, f"{uri} can't be used as a base model: {why}.")


def _adapter(directory: Path) -> str:
    there = (directory / ADAPTER_CONFIG).exists()
    return "; it is an adapter, so name the model that it was trained on" if there else ""


def _options(config: ModelConfig) -> dict[str, Any]:
    return {"trust_remote_code": config.trust_remote_code, "local_files_only": True}


def _config(directory: Path, config: ModelConfig) -> Any:
    if not config.trust_remote_code and (plain := light.config(directory)):
        return plain
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(directory, **_options(config)).get_text_config()
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise _unusable(config.source.uri, _reason(config, directory, "config.json", error)) from error


def _tokenizer(directory: Path, config: ModelConfig) -> PreTrainedTokenizerFast:
    uri = config.source.uri
    if not any((directory / name).exists() for name in TOKENIZER_FILES):
        raise _unusable(uri, f"it has no tokenizer (none of {', '.join(TOKENIZER_FILES)})")
    try:
        tokenizer = None if config.trust_remote_code else light.tokenizer(directory)
        if tokenizer is None:
            from transformers import AutoTokenizer

            tokenizer = AutoTokenizer.from_pretrained(directory, **_options(config))
    except (OSError, ValueError, KeyError, TypeError, ImportError) as error:
        raise _unusable(uri, _reason(config, directory, "tokenizer", error)) from error
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise _unusable(uri, "its tokenizer can't say which characters a token stands for; one with tokenizer.json can")
    # tokenizer.json may ask for both; rows are cut by the plan.
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    return tokenizer


def _reason(config: ModelConfig, directory: Path, what: str, error: Exception) -> str:
    """Why transformers refused a part of the model, without the paragraphs that it adds."""
    if not config.trust_remote_code and any("auto_map" in path.read_text() for path in directory.glob("*config.json")):
        return "it brings its own code, which runs only with model.trustRemoteCode"
    lines = str(error).strip().splitlines()
    return f"its {what} can't be read: {lines[0].rstrip('.') if lines else type(error).__name__}"


def _figures(found: Any, count: int, longest_input: int) -> ModelFigures:
    """`longest_input`: the tokenizer's."""
    longest = getattr(found, "max_position_embeddings", None)
    if longest is None and longest_input < UNLIMITED:
        longest = longest_input
    heads = getattr(found, "num_attention_heads", None) or 1
    size = getattr(found, "head_dim", None) or found.hidden_size // heads
    return ModelFigures(
        parameters=count,
        # No limit is known of models without positions, such as Mamba.
        context_length=longest or UNLIMITED,
        hidden_size=found.hidden_size,
        layers=found.num_hidden_layers,
        vocabulary=found.vocab_size,
        intermediate_size=getattr(found, "intermediate_size", None) or 4 * found.hidden_size,
        query_size=heads * size,
        key_value_size=(getattr(found, "num_key_value_heads", None) or heads) * size,
    )


def parameters(directory: Path, uri: str) -> int:
    """How many numbers the weights hold. Raises StageError."""
    return sum(math.prod(shape) for shape in shapes(directory, uri).values())


def shapes(directory: Path, uri: str) -> dict[str, tuple[int, ...]]:
    """The weights by name, from the headers of the safetensors files. Raises StageError."""
    files = weights(directory)
    if not files:
        raise _unusable(uri, "it has no weights in safetensors, the one format that can't run code when it is loaded")
    return {name: shape for path in files for name, shape in _shapes(path, uri)}


def is_tied(directory: Path, config: ModelConfig, found: Base) -> bool:
    """Whether its embeddings are its output layer, as transformers finds: its config says so, and where both are stored
    they are the same.
    """
    from transformers import AutoConfig

    if not AutoConfig.from_pretrained(directory, **_options(config)).get_text_config().tie_word_embeddings:
        return False
    size, uri = (found.model.vocabulary, found.model.hidden_size), config.source.uri
    both = {_content(path, name) for path in weights(directory) for name, shape in _shapes(path, uri) if shape == size}
    return len(both) < 2


def _content(path: Path, name: str) -> bytes:
    """A digest of a tensor's bytes: numpy knows no bfloat16."""
    tensors = WeightsFile(path)
    with (
        path.open("rb") as file,
        mmap(file.fileno(), 0, access=ACCESS_READ) as stored,
        memoryview(stored) as whole,
        whole[tensors.begin(name) : tensors.end(name)] as content,
    ):
        return hashlib.sha256(content).digest()


def check_tokens(found: Base, highest: int, uri: str) -> None:
    """Raise StageError (CONFIG_INVALID) where rows have tokens up to `highest` and the model knows fewer."""
    if highest >= found.model.vocabulary:
        raise _unusable(
            uri,
            f"its tokenizer writes the token {found.tokenizer.convert_ids_to_tokens(highest)} ({highest}), and its "
            f"config.json has a vocab_size of {found.model.vocabulary}; give it the tokenizer that it was trained "
            "with, or weights with embeddings for the tokens that were added",
        )


def weights(directory: Path) -> list[Path]:
    """The files that transformers loads: those of the index, else the single one, never other copies beside them."""
    index = directory / "model.safetensors.index.json"
    if index.exists():
        return [directory / name for name in sorted(set(json.loads(index.read_text())["weight_map"].values()))]
    return [path for path in [directory / "model.safetensors"] if path.exists()]


def _shapes(path: Path, uri: str) -> list[tuple[str, tuple[int, ...]]]:
    try:
        with safe_open(path, framework="np") as tensors:
            names = list(tensors.keys())
            return [(name, tuple(tensors.get_slice(name).get_shape())) for name in names]
    except (OSError, SafetensorError) as error:
        pointer = path.exists() and path.read_bytes()[:40].startswith(b"version https://git-lfs")
        why = "is a Git LFS pointer: fetch it with git lfs pull" if pointer else f"can't be read: {error}"
        raise _unusable(uri, f"{path.name} {why}") from error
