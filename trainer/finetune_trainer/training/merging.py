"""An adapter becomes a part of its base model's weights, while memory holds one of its matrices at a time.

Called by `inherit`, for a training that goes on from it, and by `whole`, for a model that is published. The base
model's files are copied, and where a matrix was adapted it is written over in place.
"""

import json
import math
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from finetune_trainer.contract.config import RUN_CONFIG
from finetune_trainer.data import base
from finetune_trainer.data.digests import BESIDE
from finetune_trainer.data.fetch import CODE_FILES, MODEL_FILES, matches

WEIGHTS = ".safetensors"
CONFIG, _WEIGHTS = "adapter_config.json", f"adapter_model{WEIGHTS}"
# PEFT's names: the module's own between the two.
_BEFORE, _A, _B = "base_model.model.", ".lora_A.weight", ".lora_B.weight"


def copy(source: Path, target: Path) -> None:
    """Copy what a model needs, and of its weights those that are loaded."""
    described = (*MODEL_FILES, *CODE_FILES)
    files = [path for path in source.iterdir() if path.is_file() and path.suffix != WEIGHTS]
    wanted = [path for path in files if matches(path.name, described) and path.name not in (*BESIDE, RUN_CONFIG)]
    for path in sorted((*wanted, *base.weights(source))):
        shutil.copyfile(path, target / path.name)


@dataclass(frozen=True)
class Adapter:
    """What was learned: the change of each matrix, by the matrix's name in the base model."""

    path: Path
    scale_by_root: bool
    alpha: float
    transposed: bool

    def adapted(self) -> list[str]:
        """The matrices that it changes. Raises ValueError for weights that are no part of a LoRA adapter."""
        with safe_open(self.path, framework="pt") as tensors:
            names = list(tensors.keys())
        if odd := [name for name in names if not name.endswith((_A, _B))]:
            raise ValueError(f"has {odd[0]}, which can't be merged")
        return [f"{name.removeprefix(_BEFORE).removesuffix(_A)}.weight" for name in names if name.endswith(_A)]

    def change(self, weight: str) -> torch.Tensor:
        """Of one matrix, in float32."""
        module = f"{_BEFORE}{weight.removesuffix('.weight')}"
        with safe_open(self.path, framework="pt") as tensors:
            down, up = (tensors.get_tensor(module + end).float() for end in (_A, _B))
        rank = down.shape[0]
        change = (up @ down) * (self.alpha / (math.sqrt(rank) if self.scale_by_root else rank))
        return change.T if self.transposed else change


def _adapter(artifact: Path) -> Adapter:
    told = json.loads((artifact / CONFIG).read_text())
    rooted, transposed = told.get("use_rslora") or False, told.get("fan_in_fan_out") or False
    return Adapter(artifact / _WEIGHTS, rooted, told["lora_alpha"], transposed)


def merge(artifact: Path, target: Path) -> None:
    """Add what an artifact's adapter has learned to the weights in `target`: summed in float32, stored as they were.

    Raises ValueError, which says what of the adapter can't be merged.
    """
    adapter = _adapter(artifact)
    missing = set(adapter.adapted())
    for path in base.weights(target):
        missing -= set(_merged(path, missing, adapter))
    if missing:
        raise ValueError(f"changes {min(missing)}, which the files of its base model don't have")


def _merged(path: Path, wanted: Iterable[str], adapter: Adapter) -> Iterator[str]:
    """Write over the wanted matrices that a file has; their names."""
    places, begin = _places(path)
    for name in sorted(places.keys() & set(wanted)):
        with safe_open(path, framework="pt") as tensors:
            before = tensors.get_tensor(name)
        if before.dtype not in (torch.float32, torch.bfloat16, torch.float16):
            raise ValueError(f"changes {name}, which its base model stores as {before.dtype}: that can't be merged")
        after = (before.float() + adapter.change(name)).to(before.dtype).contiguous()
        with path.open("r+b") as file:
            file.seek(begin + places[name]["data_offsets"][0])
            file.write(after.view(torch.uint8).numpy().data)
        yield name


def _places(path: Path) -> tuple[dict[str, Any], int]:
    """Where a safetensors file has each tensor, and where the first byte of them is.

    The format: eight bytes with the length of the header, the header in JSON, the tensors.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        return json.loads(file.read(length)), 8 + length
