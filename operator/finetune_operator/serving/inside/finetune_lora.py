"""What vLLM's workers on CPUs need to answer as the base model while an adapter computes beside it.

Given to vLLM as its --worker-extension-cls. Its operations for CPUs take the index -1, "no adapter", for the last
adapter there is (vllm-project/vllm#48421), so that whoever asked the base model at the same time as an adapter was
answered by a mixture of both. They are linear: a row of zeros adds nothing. With a vLLM that does better, that changes
nothing; with one that has them no more it says so, and the engine starts without.
"""

import functools
import importlib
import logging
from collections.abc import Callable
from typing import Any

_OPERATIONS = ("bgmv_shrink", "bgmv_expand", "bgmv_expand_slice")
# Each of them has its own names for the operations.
_MODULES = ("vllm.lora.ops.torch_ops.lora_ops", "vllm.lora.ops.torch_ops", "vllm.lora.punica_wrapper.punica_cpu")


class BaseModelApart:
    """Adds nothing to vLLM's worker: that it is asked for brings the module into each worker's process."""


def without_strangers(operation: Callable[..., None]) -> Callable[..., None]:
    """The operation, with zeros in the rows of `inputs` (tokens, size) whose index says that no adapter is theirs."""

    @functools.wraps(operation)
    def masked(inputs: Any, weights: Any, output: Any, indices: Any, *more: Any, **options: Any) -> None:
        operation(inputs.masked_fill((indices < 0).unsqueeze(-1), 0), weights, output, indices, *more, **options)

    return masked


def mend() -> None:
    """Once in a process."""
    try:
        found = [importlib.import_module(name) for name in _MODULES]
        operations = {name: getattr(found[0], name) for name in _OPERATIONS}
    except (ImportError, AttributeError) as error:
        logging.getLogger("vllm").warning(
            "This vLLM is another one than the operator knows (%s): see whether it answers as the base model beside "
            "adapters as it does alone (vllm-project/vllm#48421).",
            error,
        )
        return
    for name, operation in operations.items():
        masked = without_strangers(operation)
        for module in found:
            setattr(module, name, masked)


mend()
