"""A base model as small as one can be: a tokenizer of words and headers of weights, made here."""

import itertools
import json
from pathlib import Path

import numpy
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

SPECIAL = ["<unk>", "<|im_start|>", "<|im_end|>", "system", "user", "assistant", "tool"]
WORDS = ["list", "eggs", "egg", "flour", "cups", "of", "two", "three", "and"]
CHATML = (
    "{% for message in messages %}<|im_start|> {{ message['role'] }} {{ message['content'] }} <|im_end|> {% endfor %}"
    "{% if add_generation_prompt %}<|im_start|> assistant {% endif %}"
)
# Weights of 128 * 16 + 8 * 8 numbers, in two files.
WEIGHTS = {
    "model-00001-of-00002.safetensors": {"model.embed_tokens.weight": numpy.zeros((128, 16), numpy.float16)},
    "model-00002-of-00002.safetensors": {"lm_head.weight": numpy.zeros((8, 8), numpy.float32)},
}
PARAMETERS = 128 * 16 + 8 * 8
CONTEXT = 256
CONFIG = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "vocab_size": 128,
    "max_position_embeddings": CONTEXT,
}


def write_model(path: Path, template: str | None = CHATML) -> Path:
    """A model's directory, in the hub's layout."""
    path.mkdir()
    _tokenizer(template).save_pretrained(path)
    (path / "config.json").write_text(json.dumps(CONFIG))
    for file, tensors in WEIGHTS.items():
        save_file(tensors, path / file)
    where = {tensor: file for file, tensors in WEIGHTS.items() for tensor in tensors}
    (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    return path


def _tokenizer(template: str | None) -> PreTrainedTokenizerFast:
    vocabulary = {word: index for index, word in enumerate(itertools.chain(SPECIAL, WORDS))}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=words, unk_token="<unk>", eos_token="<|im_end|>", pad_token="<unk>", chat_template=template
    )
