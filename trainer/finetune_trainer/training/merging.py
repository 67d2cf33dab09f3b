"""An adapter becomes a part of its base model's weights, while memory holds the adapter's matrices and some rows.

Called by `inherit`, for a training that goes on from it, and by `whole`, for a model that is published. The base
model's files are copied, and where a matrix was adapted it is written over in place. In numpy, since prepare inherits
and imports no torch; a test holds the sum to PEFT's.
"""

import json
import math
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import numpy
import numpy.typing

from finetune_trainer.contract.config import ADAPTER_CONFIG, RUN_CONFIG
from finetune_trainer.data import base
from finetune_trainer.data.digests import BESIDE
from finetune_trainer.data.fetch import CODE_FILES, MODEL_FILES, matches
from finetune_trainer.data.weights_file import WeightsFile

Matrix = numpy.typing.NDArray[numpy.float32]
# What can be added to, by safetensors' names. numpy has no bfloat16, which is a float32 without its lower half.
TYPES: dict[str, Any] = {"F32": numpy.float32, "F16": numpy.float16, "BF16": numpy.uint16}
# The numbers that are summed at once.
AT_ONCE = 2**24
WEIGHTS = ".safetensors"
_WEIGHTS = f"adapter_model{WEIGHTS}"
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
class AdapterWeights:
    """What was learned: the change of each matrix, by the matrix's name in the base model."""

    path: Path
    scale_by_root: bool
    alpha: float
    transposed: bool

    @cached_property
    def _tensors(self) -> WeightsFile:
        return WeightsFile(self.path)

    def adapted(self) -> list[str]:
        """The matrices that it changes. Raises ValueError for weights that are no part of a LoRA adapter."""
        names = list(self._tensors.places)
        if odd := [name for name in names if not name.endswith((_A, _B))]:
            raise ValueError(f"has {odd[0]}, which can't be merged")
        return [f"{name.removeprefix(_BEFORE).removesuffix(_A)}.weight" for name in names if name.endswith(_A)]

    def factors(self, weight: str) -> tuple[Matrix, Matrix, float]:
        """The two whose product, times the scale, is the change of one matrix."""
        module = f"{_BEFORE}{weight.removesuffix('.weight')}"
        down, up = (_matrix(self._tensors, module + end) for end in (_A, _B))
        rank = len(down)
        scale = self.alpha / (math.sqrt(rank) if self.scale_by_root else rank)
        return (down.T, up.T, scale) if self.transposed else (up, down, scale)


def _adapter(artifact: Path) -> AdapterWeights:
    told = json.loads((artifact / ADAPTER_CONFIG).read_text())
    rooted, transposed = told.get("use_rslora") or False, told.get("fan_in_fan_out") or False
    return AdapterWeights(artifact / _WEIGHTS, rooted, told["lora_alpha"], transposed)


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


def _merged(path: Path, wanted: Iterable[str], adapter: AdapterWeights) -> Iterator[str]:
    """Write over the wanted matrices that a file has; their names."""
    tensors = WeightsFile(path)
    for name in sorted(tensors.places.keys() & set(wanted)):
        stored, shape = tensors.places[name]["dtype"], tuple(tensors.places[name]["shape"])
        if stored not in TYPES:
            raise ValueError(f"changes {name}, which its base model stores as {stored}: that can't be merged")
        left, right, scale = adapter.factors(name)
        if shape != (changed := (len(left), right.shape[1])):
            raise ValueError(f"changes {name} as a matrix of {changed}, and its base model has one of {shape}")
        rows = max(1, AT_ONCE // right.shape[1])
        with path.open("r+b") as file:
            for first in range(0, len(left), rows):
                change = (left[first : first + rows] @ right) * numpy.float32(scale)
                place = tensors.begin(name) + first * shape[1] * numpy.dtype(TYPES[stored]).itemsize
                before = _read(file, place, stored, change.size).reshape(change.shape)
                file.seek(place)
                file.write(_stored(before + change, stored).tobytes())
        yield name


def _matrix(tensors: WeightsFile, name: str) -> Matrix:
    shape = tensors.places[name]["shape"]
    with tensors.path.open("rb") as file:
        return _read(file, tensors.begin(name), tensors.places[name]["dtype"], math.prod(shape)).reshape(shape)


def _read(file: BinaryIO, place: int, stored: str, count: int) -> Matrix:
    file.seek(place)
    kind = numpy.dtype(TYPES[stored])
    found = numpy.frombuffer(file.read(count * kind.itemsize), kind)
    return (found.astype(numpy.uint32) << 16).view(numpy.float32) if stored == "BF16" else found.astype(numpy.float32)


def _stored(numbers: Matrix, stored: str) -> numpy.typing.NDArray[Any]:
    """As the file has them, rounded to the nearest, and to the even one of two."""
    if stored != "BF16":
        return numbers.astype(TYPES[stored])
    bits = numbers.view(numpy.uint32)
    rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(numpy.uint16)
    # Of a number that is none only the upper half may be left to say so.
    return numpy.where(numpy.isnan(numbers), numpy.uint16(0x7FC0), rounded)
