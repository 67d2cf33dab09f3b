"""Whether the model's layers are compiled, and how: many small operations, an adapter's most of all, become few.

Called by `build`. On one core with AVX512-BF16 a step then takes 0.85 of its time, with two threads nothing was gained,
and compiling takes as long as ten to twenty steps: so it is for trainings that last, on CPUs with a C++ compiler and
what that needs: on accelerators nobody has measured it here.
"""

import logging
import os
import shutil
import sysconfig
from contextlib import AbstractContextManager
from pathlib import Path

import torch
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from finetune_trainer.data.disk import write_whole
from finetune_trainer.training import flat

# Operations of a training that takes some minutes on two cores. What compiling costs comes back in two of them.
LASTING = 1e14
# Four operations a weight and token: two forth and two back. Weights that are trained need two more.
FROZEN, TRAINED = 4, 6
# The lengths of the rows that it is compiled with: always the same, or a training that goes on could get other kernels
# than it began with, and end with other weights. Their sum is no size of a model, which would be taken for the same.
ROWS = (59, 42)

# What compiled layers include, of Python and of torch. Distributions keep them apart, and without them no layer would
# be compiled, after a try for each.
HEADERS = (
    Path(sysconfig.get_path("include"), "Python.h"),
    Path(torch.__file__).parent / "include" / "c10" / "util" / "Half.h",
)

logger = logging.getLogger(__name__)


def worthwhile(kept: Path, operations: float, accelerators: int) -> bool:
    """Whether to compile a training of so many operations, as it was decided when it began (`kept`)."""
    if accelerators:
        return False
    if not kept.exists():
        write_whole(kept, "yes" if operations >= LASTING and _can_compile() else "no")
    return kept.read_text() == "yes"


def _can_compile() -> bool:
    return shutil.which(os.environ.get("CXX", "g++")) is not None and all(each.exists() for each in HEADERS)


def uncompiled() -> AbstractContextManager[None]:
    """While it lasts, layers run as they are: without gradients each would be compiled once more, which a validation,
    a small part of the training, does not bring back.
    """
    found: AbstractContextManager[None] = torch.compiler.set_stance("force_eager")
    return found


def compile_layers(model: PreTrainedModel, bf16: bool) -> None:
    """Compile each layer, for rows of any length; what can't be compiled runs as it is.

    `model` takes flattened rows. All layers have the same code, so it is compiled once. The first one is left out:
    nothing before it is trained, so it would be compiled once more.
    """
    torch._dynamo.config.suppress_errors = True
    layers = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    for layer in layers[1:]:
        layer.compile(dynamic=True)
    training = model.training
    model.train()
    rows = [{"input_ids": [1] * length, "labels": [1] * length} for length in ROWS]
    (inputs,) = flat.passes(flat.flatten(rows), sum(ROWS))
    with torch.random.fork_rng(devices=[]), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        # As trainers call it: with another argument it would be compiled once more.
        del inputs["labels"]
        model(**inputs).logits.float().sum().backward()
    model.zero_grad()
    model.train(training)
    logger.info("The model's %d layers are compiled.", len(layers))
