"""A whole model as a GGUF file, which llama.cpp and what is built on it load, with a Modelfile for Ollama.

Called by the stages prepare, which asks before anything is trained whether one can be made, and publish. llama.cpp's
converter makes it: a program that comes in no package of its own, so hack/converter.sh puts it beside the environment's
libraries. It runs in a process with none of this one's keys, and sees none of the model's own code unless that may be
trusted, since it runs what it sees.
"""

import errno
import logging
import os
import shutil
import subprocess
import sys
from collections import deque
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp

from huggingface_hub import ModelCardData

from finetune_trainer.contract.config import RUN_CONFIG, RunConfig, Workspace
from finetune_trainer.contract.outcome import Outcome, StageError
from finetune_trainer.training.card import HUB

logger = logging.getLogger(__name__)

CONVERTER = Path(sys.prefix) / "share/llama.cpp/convert_hf_to_gguf.py"
# Every engine has kernels for it, Ollama quantizes it further, and it holds bfloat16's weights: of the sizes that they
# have, to the last bit.
TYPE = "f16"
MODELFILE = "Modelfile"
# Of what the converter says, in a sentence about its failure.
LINES = 3
_REMOVE = "remove gguf from output.formats"
_PASSED_ON = ("PATH", "HOME", "LANG", "LD_LIBRARY_PATH", "PYTHONPATH", "TMPDIR", "OMP_NUM_THREADS")


def check(config: RunConfig, base_model: Path) -> None:
    """Raise StageError (CONFIG_INVALID) for a base model of which no GGUF file could be made.

    The converter goes through all of it, tokenizer and names of the weights included, and writes nothing.
    """
    found = _converter(config, base_model, "--dry-run")
    if found.code:
        raise StageError(
            Outcome.CONFIG_INVALID,
            f"{config.model.name} can't be converted to GGUF: llama.cpp's converter ended with {found.last}. Choose "
            f"another model, or {_REMOVE}.",
        )


def make(config: RunConfig, workspace: Workspace, model: Path) -> Path:
    """A directory in the workspace with the file, the Modelfile, a card and the run config. `model`: the whole one.

    Raises StageError. The directory has another name each time, so that a converter that outlived its publish writes
    into none that another one reads.
    """
    # As transformers, which it asks, takes seconds to import.
    from finetune_trainer.training import modelfile

    shutil.rmtree(workspace.gguf, ignore_errors=True)
    workspace.gguf.mkdir()
    target = Path(mkdtemp(dir=workspace.gguf))
    file = target / f"{config.name}-{TYPE}.gguf"
    found = _converter(config, model, "--outfile", str(file))
    if found.code or not file.exists():
        raise StageError(
            Outcome.CONFIG_INVALID,
            f"The model could not be converted to GGUF: llama.cpp's converter ended with {found.last}. To publish it "
            f"without, {_REMOVE}.",
        )
    (target / MODELFILE).write_text(modelfile.of(model, file.name, trusted=config.model.trust_remote_code))
    shutil.copyfile(workspace.trained_with, target / RUN_CONFIG)
    (target / "README.md").write_text(_card(config, file.name))
    return target


class _Ended:
    """How the converter ended: its exit code, below 0 for a signal, and the end of what it said."""

    def __init__(self, code: int, lines: list[str]) -> None:
        self.code = code
        self.last = "; ".join(lines) or f"exit code {code} and no word"
        self.full = bool(code) and os.strerror(errno.ENOSPC) in self.last


def _converter(config: RunConfig, model: Path, *arguments: str) -> _Ended:
    """Run it, and log what it says. Raises StageError where it is missing or was killed, OSError for a full disk."""
    if not CONVERTER.exists():
        raise StageError(
            Outcome.CONFIG_INVALID,
            f"output.formats has gguf, and llama.cpp's converter is not installed ({CONVERTER} does not exist): take "
            f"the default trainer image, install it as docs/artifacts.md says, or {_REMOVE}.",
        )
    with TemporaryDirectory() as scratch:
        seen = Path(scratch) / config.name
        _show(model, seen, code=config.model.trust_remote_code)
        program = [
            sys.executable,
            str(CONVERTER),
            "--outtype",
            TYPE,
            "--model-name",
            config.name,
            *arguments,
            str(seen),
        ]
        passed_on = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        with subprocess.Popen(  # noqa: S603  (llama.cpp's, no shell)
            program,
            env={**passed_on, "HF_HUB_OFFLINE": "1", "PYTHONDONTWRITEBYTECODE": "1", "TQDM_MININTERVAL": "10"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as child:
            last: deque[str] = deque(maxlen=LINES)
            for line in filter(None, map(str.strip, child.stdout or ())):
                logger.info("%s", line)
                last.append(line)
    ended = _Ended(child.returncode, list(last))
    if ended.full:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if ended.code < 0:
        raise StageError(
            Outcome.OUT_OF_MEMORY,
            f"llama.cpp's converter was killed by signal {-ended.code}, most likely for want of memory: raise the "
            f"memory in training.resources, or {_REMOVE}.",
        )
    return ended


def _show(model: Path, seen: Path, *, code: bool) -> None:
    """Have a directory that looks like the model's, without its programs unless `code`."""
    seen.mkdir()
    for path in model.iterdir():
        if path.is_file() and (code or path.suffix != ".py"):
            (seen / path.name).symlink_to(path.resolve())


def _card(config: RunConfig, file: str) -> str:
    base = config.model.name
    front = ModelCardData(
        model_name=config.name,
        base_model=base if config.model.source.uri.startswith(HUB) else None,
        pipeline_tag="text-generation",
        tags=["finetune-operator", config.training.method.value, "gguf"],
    )
    return f"""---
{front.to_yaml()}
---

# {config.name}

`{file}` is {base} as {config.name}, revision {config.revision}, was trained: one file in the form of llama.cpp, its \
matrices in {TYPE}, with tokenizer and chat template. `{RUN_CONFIG}` says what was trained.

Serve it:

```
llama-server --jinja --model {file} --alias {config.name}
ollama create {config.name} --file {MODELFILE}
```

Smaller, at some cost in what it answers: `ollama create {config.name} --file {MODELFILE} --quantize q4_K_M`, or \
`llama-quantize {file} {config.name}-Q4_K_M.gguf Q4_K_M`.
"""
