"""One kernel for all rows of a pass, where the accelerator has one: torch's own, or FlashAttention's where installed.

Asked by `flat.attend`, which else attends to one row after the other. Neither runs on CPUs. Their signatures differ
from version to version, and what a card can do is known to the card alone: so each is tried on a few rows, forth and
back, against attention by plain products, before any training takes it.
"""

import inspect
import logging
import math
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise

import torch
from torch.nn.functional import scaled_dot_product_attention

# query, key and value of shape (tokens, heads, size), where each row ends, beginning with 0, the longest row, the scale
# of the scores, and how many tokens before its own one sees (-1: all).
Kernel = Callable[
    [torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, int, float | None, int],
    torch.Tensor,
]
# What they take.
HALF = (torch.bfloat16, torch.float16)
# Rows of the trial, and tokens that each sees before its own; heads of queries and of keys.
TRIED, SEEN, HEADS, KEYS = (5, 1, 9), 3, 4, 2
# How far a kernel may be off: half precision has eight bits or more.
NEAR = 0.02

logger = logging.getLogger(__name__)


def torchs() -> Kernel | None:
    """Torch's own; None where it has none, or one of the first, which knew neither windows nor groups of heads."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    if not {"scale", "window_size", "enable_gqa"} <= set(inspect.signature(varlen_attn).parameters):
        return None
    return lambda query, key, value, ends, longest, scale, seen: varlen_attn(
        query, key, value, ends, ends, longest, longest, scale=scale, window_size=(seen, 0), enable_gqa=True
    )


def flash_attentions() -> Kernel | None:
    """FlashAttention's; None where it is not installed."""
    try:
        from flash_attn import flash_attn_varlen_func
    except ImportError:
        return None
    return lambda query, key, value, ends, longest, scale, seen: flash_attn_varlen_func(
        query, key, value, ends, ends, longest, longest, softmax_scale=scale, causal=True, window_size=(seen, 0)
    )


SOURCES = {"torch's": torchs, "FlashAttention's": flash_attentions}


@cache
def kernel(device: torch.device, dtype: torch.dtype, size: int) -> Kernel | None:
    """The first that this device computes right with heads of this size; None where rows are attended to one by one."""
    if device.type != "cuda" or dtype not in HALF:
        return None
    found = [(name, each) for name, source in SOURCES.items() if (each := source())]
    # In a thread of its own: a layer that computes its activations anew would take the trial's for its own.
    with ThreadPoolExecutor(1) as apart:
        return apart.submit(choose, found, device, dtype, size).result()


def choose(kernels: Iterable[tuple[str, Kernel]], device: torch.device, dtype: torch.dtype, size: int) -> Kernel | None:
    """The first that is right."""
    for name, each in kernels:
        try:
            right = _is_right(each, device, dtype, size)
        except (RuntimeError, TypeError, ValueError, AssertionError) as error:
            why = str(error).partition("\n")[0]
            logger.info("%s attention over rows of any length does not run here: %s", name, why)
            continue
        if right:
            logger.info("Rows are attended to by %s kernel for rows of any length.", name)
            return each
        logger.warning("%s attention over rows of any length is wrong on this device, and not used.", name)
    return None


def _is_right(found: Kernel, device: torch.device, dtype: torch.dtype, size: int) -> bool:
    """Whether it comes to what plain products do, gradients included, with a window and without."""
    made = torch.Generator().manual_seed(0)
    # As models hand them on: of shape (heads, tokens, size), seen from the side.
    shapes = [(heads, sum(TRIED), size) for heads in (HEADS, KEYS, KEYS)]
    given = [torch.randn(shape, generator=made).to(device, dtype).transpose(0, 1) for shape in shapes]
    weights = torch.randn((sum(TRIED), HEADS, size), generator=made).to(device, dtype)
    ends = torch.tensor([0, *TRIED]).cumsum(0).to(device, torch.int32)
    for seen in (-1, SEEN):
        both = []
        with torch.enable_grad(), torch.autocast(device.type, enabled=False):
            for each, exact in ((found, False), (plain, True)):
                inputs = [(one.float() if exact else one).detach().requires_grad_() for one in given]
                query, key, value = inputs
                answer = each(query, key, value, ends, max(TRIED), 1 / math.sqrt(size), seen)
                both.append([answer, *torch.autograd.grad(answer, inputs, weights.to(answer.dtype))])
        if not all(_near(one, other) for one, other in zip(*both, strict=True)):
            return False
    return True


def _near(one: torch.Tensor, other: torch.Tensor) -> bool:
    return float(((one.float() - other).norm() / other.norm()).detach()) < NEAR


def plain(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    ends: torch.Tensor,
    longest: int,
    scale: float | None,
    seen: int,
) -> torch.Tensor:
    """The same by torch's attention and a mask for each row: what a kernel is held to."""
    found = []
    for start, end in pairwise(ends.tolist()):
        at = torch.arange(end - start, device=query.device)
        distance = at[:, None] - at[None, :]
        mask = (distance >= 0) & ((distance <= seen) if seen >= 0 else (distance >= 0))
        one, two, three = (each[start:end].transpose(0, 1)[None] for each in (query, key, value))
        answer = scaled_dot_product_attention(one, two, three, attn_mask=mask, scale=scale, enable_gqa=True)
        found.append(answer[0].transpose(0, 1))
    return torch.cat(found)
