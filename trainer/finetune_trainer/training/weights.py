"""Weights as the artifact has them: an adapter, or a whole model in the type that its base was stored in.

Called by `train`: at each validation for those that may become the artifact, at its end for the artifact itself. The
model that trains is left as it is, configuration included: the next checkpoint has to be what it would have been.
"""

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch
from peft import PeftModel, load_peft_weights, set_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel

from finetune_trainer.training.sharding import is_sharded

Write = Callable[[Path], None]
# PEFT's names within a model: of what an adapter is beside, of its matrices, of a module that was learned as a whole,
# and of the one that it replaces.
_FROZEN, _BESIDE = ".base_layer.", ".lora_"
_LEARNED, _REPLACED = ".modules_to_save.default.", ".original_module."


def writer(model: PreTrainedModel | PeftModel, base: str, commit: str | None, dtype: torch.dtype) -> Write:
    """What writes the weights as they are now, before the next step, in one of the processes.

    Where they are divided among devices, all take part in making it. `base` and `commit`: what an adapter says that it
    is for; `dtype`: a whole model's.
    """
    if isinstance(model, PeftModel):
        return partial(_save_adapter, model, base, commit)
    return partial(
        _save_whole, model, dtype, _in(dtype, model.state_dict(keep_vars=True)) if is_sharded(model) else None
    )


def _save_adapter(model: PeftModel, base: str, commit: str | None, directory: Path) -> None:
    with _named(model, base, commit):
        model.save_pretrained(directory, save_embedding_layers=False)


def _save_whole(
    model: PreTrainedModel, dtype: torch.dtype, gathered: dict[str, torch.Tensor] | None, directory: Path
) -> None:
    found = _in(dtype, model.state_dict(keep_vars=True)) if gathered is None else gathered
    model.save_pretrained(directory, state_dict=found)
    config = copy.deepcopy(model.config)
    config.dtype = dtype
    config.save_pretrained(directory)


def save_merged(model: PeftModel, adapter: Path, directory: Path, dtype: torch.dtype) -> None:
    """Write the whole model that an adapter, as `save` left it, makes of its base.

    The base model stays as it was, for the next one. The libraries would merge in place, and take back what they added,
    which leaves rounding behind.
    """
    set_peft_model_state_dict(model, load_peft_weights(str(adapter), device="cpu"))
    base = model.get_base_model()
    _save_whole(base, dtype, _merged(base, dtype), directory)


def _merged(base: PreTrainedModel, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """The weights of a model with an adapter in it, under the names that they have without.

    All are held at once, which the plan counts (`memory`).
    """
    layers = {f"{name}.weight": layer for name, layer in base.named_modules() if isinstance(layer, LoraLayer)}
    kept = {
        name.replace(_FROZEN, ".").replace(_LEARNED, "."): tensor
        for name, tensor in base.state_dict(keep_vars=True).items()
        if _BESIDE not in name and _REPLACED not in name
    }
    rest = {name: tensor for name, tensor in kept.items() if name not in layers}
    return {name: _sum(layer).to("cpu", dtype) for name, layer in layers.items()} | _in(dtype, rest)


def _sum(layer: LoraLayer) -> torch.Tensor:
    """In float32, whatever the base model is held in."""
    weight = layer.get_base_layer().weight
    before = weight.data
    weight.data = before.to(torch.float32, copy=True)
    layer.merge()
    found, weight.data = weight.data, before
    layer.merged_adapters.clear()
    return found


@contextmanager
def _named(model: PeftModel, base: str, commit: str | None) -> Iterator[None]:
    """Have the adapter's configuration name its base model as the hub does, while it is written."""
    before = model.peft_config["default"]
    named = copy.copy(before)
    named.base_model_name_or_path = base
    named.revision = commit
    # A set: its order, and with it the digest, would change from run to run.
    named.target_modules = sorted(before.target_modules)
    model.peft_config["default"] = named
    try:
        yield
    finally:
        model.peft_config["default"] = before


def _in(dtype: torch.dtype, weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights in another type, in the machine's own memory; what is shared stays shared, and is written once.

    Buffers of whole numbers are left. Of shares the first process gets the whole, the others nothing.
    """
    made: dict[int, torch.Tensor] = {}
    found = {}
    for name, tensor in weights.items():
        if id(tensor) not in made:
            made[id(tensor)] = _whole(tensor.detach().to(dtype if tensor.is_floating_point() else tensor.dtype))
        found[name] = made[id(tensor)]
    return found


def _whole(tensor: torch.Tensor) -> torch.Tensor:
    if not isinstance(tensor, DTensor):
        return tensor.to("cpu")
    whole = tensor.full_tensor()
    return whole.to("cpu") if tensor.device_mesh.get_rank() == 0 else torch.empty(0)
