"""tiny_model.py REAL DIR: makes a model directory with the tokenizer and chat template of REAL and almost no weights.

`make model` calls it after smollm2.py. The tests whose subject is what becomes of pods, volumes and processes use it:
its stages take seconds, and nothing that it says means anything. Ends at once when DIR is complete.
"""

import shutil
import sys
import tempfile
from pathlib import Path

# vLLM's attention on CPUs asks for heads of 32 or more; the embedding has the whole vocabulary, as the tokenizer does.
SHAPE = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 32,
}


def make(real: Path, target: Path) -> None:
    """Save random weights of the same architecture, and the tokenizer."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(0)
    config = AutoConfig.from_pretrained(real, **SHAPE)
    AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(target)
    AutoTokenizer.from_pretrained(real).save_pretrained(target)


def main(real: Path, directory: Path) -> None:
    """Make DIR, complete or not at all."""
    if (directory / "model.safetensors").exists():
        return
    with tempfile.TemporaryDirectory(dir=directory.parent) as temporary:
        make(real, Path(temporary) / "model")
        shutil.rmtree(directory, ignore_errors=True)
        (Path(temporary) / "model").rename(directory)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
