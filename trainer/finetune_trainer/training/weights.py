"""Weights as the artifact has them: an adapter, or a whole model in the type that its base was stored in.

Called by `train`: at each validation for those that may become the artifact, at its end for the artifact itself. The
model that trains is left as it is, configuration included: the next checkpoint has to be what it would have been.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from peft import PeftModel, load_peft_weights, set_peft_model_state_dict
from transformers import PreTrainedModel


def save(
    model: PreTrainedModel | PeftModel, directory: Path, base: str, commit: str | None, dtype: torch.dtype
) -> None:
    """Write what was trained. `base` and `commit`: what an adapter says that it is for; `dtype`: a whole model's."""
    if isinstance(model, PeftModel):
        with _named(model, base, commit):
            model.save_pretrained(directory, save_embedding_layers=False)
        return
    model.save_pretrained(directory, state_dict=_in(dtype, model.state_dict()))
    config = copy.deepcopy(model.config)
    config.dtype = dtype
    config.save_pretrained(directory)


def save_merged(model: PeftModel, adapter: Path, directory: Path, dtype: torch.dtype) -> None:
    """Write the whole model that an adapter, as `save` left it, makes of its base. Nothing is left to train."""
    set_peft_model_state_dict(model, load_peft_weights(str(adapter), device="cpu"))
    model.merge_and_unload().to(dtype).save_pretrained(directory)


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


def _in(dtype: torch.dtype, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same weights in another type, in the machine's own memory; what is shared stays shared, and is written once.

    Buffers of whole numbers are left.
    """
    made: dict[int, torch.Tensor] = {}
    found = {}
    for name, tensor in state.items():
        wanted = dtype if tensor.is_floating_point() else tensor.dtype
        place = tensor.data_ptr()
        if place not in made or made[place].shape != tensor.shape:
            made[place] = tensor.detach().to("cpu", wanted)
        found[name] = made[place]
    return found
