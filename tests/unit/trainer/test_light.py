"""Config and tokenizer without transformers' auto classes are those that the auto classes would make."""

import json
from pathlib import Path

import numpy
import pytest
from finetune_trainer.contract.config import ModelConfig, Source
from finetune_trainer.data import base, light
from safetensors.numpy import save_file
from shapes import CHATML, tokenizer
from transformers import AutoConfig, AutoTokenizer

TEXT = "  the quick\n\n brown 狐 fox <|im_end|>12345 isn't"
CLASSES = [(architecture, name) for architecture, names in light.TOKENIZERS.items() for name in names]


def model(path: Path, architecture: str, name: str) -> Path:
    """A model's directory whose tokenizer names its class."""
    template = CHATML.translate({ord("«"): "", ord("»"): ""})
    tokenizer(template).save_pretrained(path)
    stored = json.loads((path / "tokenizer_config.json").read_text())
    (path / "tokenizer_config.json").write_text(json.dumps(stored | {"tokenizer_class": name}))
    figures = dict.fromkeys(light.FIGURES, 1024)
    (path / "config.json").write_text(json.dumps({"model_type": architecture, **figures}))
    return path


@pytest.mark.parametrize(("architecture", "name"), CLASSES)
def test_the_tokenizer_is_the_one_that_the_engine_has(tmp_path: Path, architecture: str, name: str) -> None:
    path = model(tmp_path / "model", architecture, name)
    found, expected = light.tokenizer(path), AutoTokenizer.from_pretrained(path)
    assert found is not None
    assert type(found) is type(expected)
    for special in (True, False):
        assert found(TEXT, add_special_tokens=special).data == expected(TEXT, add_special_tokens=special).data
    chat = [{"role": "user", "content": TEXT}]
    assert found.apply_chat_template(chat, tokenize=False) == expected.apply_chat_template(chat, tokenize=False)


@pytest.mark.parametrize("architecture", light.TOKENIZERS)
def test_the_figures_are_those_that_transformers_reads(tmp_path: Path, architecture: str) -> None:
    path = model(tmp_path / "model", architecture, "TokenizersBackend")
    expected = AutoConfig.from_pretrained(path).get_text_config()
    assert vars(light.config(path)) == {key: getattr(expected, key) for key in light.FIGURES}


@pytest.mark.parametrize("left_out", light.FOLLOWING.items())
def test_figures_that_follow_from_others_may_be_left_out(tmp_path: Path, left_out: tuple[str, set[str]]) -> None:
    architecture, names = left_out
    path = model(tmp_path / "model", architecture, light.TOKENIZERS[architecture][-1])
    config = ModelConfig(source=Source(uri="file://model"))
    stored = json.loads((path / "config.json").read_text()) | {"num_attention_heads": 8}
    (path / "config.json").write_text(json.dumps({key: stored[key] for key in stored if key not in names}))
    save_file({"weight": numpy.zeros(1)}, path / "model.safetensors")
    assert light.config(path) is not None
    found = base.figures(path, config)
    (path / "config.json").write_text(json.dumps({**json.loads((path / "config.json").read_text()), "auto_map": {}}))
    assert light.config(path) is None
    assert base.figures(path, config) == found


@pytest.mark.parametrize("given", [{"model_type": "phi3"}, {"auto_map": {}}, {"vocab_size": None}])
def test_what_is_not_known_for_sure_is_left_to_transformers(tmp_path: Path, given: dict[str, object]) -> None:
    path = model(tmp_path / "model", "llama", "TokenizersBackend")
    stored = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(stored | given))
    assert light.config(path) is None


def test_a_tokenizer_of_another_class_is_left_to_transformers(tmp_path: Path) -> None:
    assert light.tokenizer(model(tmp_path / "model", "qwen2", "TokenizersBackend")) is None
