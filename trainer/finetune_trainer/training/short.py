"""Short rows attend beside each other: padded for attention alone, in a few products for all of them.

Called by `flat`, on CPUs and in bfloat16. One kernel for each row took a fifth of a step for rows of 85 tokens, most of
it on the way from one small operation to the next.
"""

from collections.abc import Sequence
from typing import Any

import torch

# Up to so many tokens, plain products in bfloat16 are faster on CPUs: torch's fused kernel takes 1.7 times as long for
# rows of 85 tokens, forth and back, and as long for rows of 192 (two cores with AVX512-BF16).
SHORT = 160
# How much longer than the shortest the longest of a group may be: what scores take grows with its square.
UNLIKE = 2


def groups(lengths: Sequence[int]) -> list[list[int]]:
    """The numbers of the rows that are short, in groups of like lengths."""
    found: list[list[int]] = []
    for row in sorted((row for row, length in enumerate(lengths) if length <= SHORT), key=lengths.__getitem__):
        if not found or lengths[row] > UNLIKE * lengths[found[-1][0]]:
            found.append([])
        found[-1].append(row)
    return [sorted(rows) for rows in found]


class Padding:
    """Where rows lie once they are padded to their longest, and what each of their tokens sees.

    Made once for all layers. `window`: how many tokens are seen, with the token itself; None: all before it.
    """

    def __init__(self, lengths: Sequence[int], window: int | None) -> None:
        self.rows, self.longest = len(lengths), max(lengths)
        self.at = torch.cat([torch.arange(length) + row * self.longest for row, length in enumerate(lengths)])
        distance = torch.arange(self.longest)[:, None] - torch.arange(self.longest)[None, :]
        unseen = (distance < 0) | (distance >= (window or self.longest))
        self.bias = torch.zeros(unseen.shape, dtype=torch.bfloat16).masked_fill(unseen, float("-inf"))

    def put(self, flat: torch.Tensor) -> torch.Tensor:
        """(1, heads, tokens, size) → (rows, heads, longest, size), zeros behind the shorter ones."""
        heads, _, size = flat.shape[1:]
        room = flat.new_zeros(heads, self.rows * self.longest, size)
        return room.index_copy(1, self.at, flat[0]).view(heads, self.rows, self.longest, size).transpose(0, 1)

    def take(self, padded: torch.Tensor) -> torch.Tensor:
        """(rows, heads, longest, size) → (1, tokens, heads, size)."""
        tokens: torch.Tensor = _Take.apply(padded.transpose(1, 2).flatten(0, 1), self.at)
        return tokens[None]


def attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float | None, padding: Padding
) -> torch.Tensor:
    """Causal attention within each row, of shapes (1, heads, tokens, size) to (1, tokens, heads, size), in bfloat16.

    Heads that share a key are one product with it. Scores are rounded to bfloat16, as in transformers' own attention.
    """
    one, two, three = (padding.put(each.to(torch.bfloat16)) for each in (query, key, value))
    rows, heads, longest, size = one.shape
    shared = heads // two.shape[1]
    bias = padding.bias.repeat(shared, 1)
    # Autocast would keep what is attended to in float32 as well.
    with torch.autocast("cpu", enabled=False):
        queries = one.reshape(-1, shared * longest, size)
        keys, values = two.reshape(-1, longest, size), three.reshape(-1, longest, three.shape[-1])
        scores = torch.baddbmm(bias, queries, keys.transpose(1, 2), alpha=size**-0.5 if scale is None else scale)
        attended = torch.bmm(torch.softmax(scores, -1), values)
    return padding.take(attended.view(rows, heads, longest, three.shape[-1]))


class _Take(torch.autograd.Function):  # type: ignore[misc]
    """Some of the first dimension, each once: torch's own adds gradients up one by one, as if it were more often."""

    @staticmethod
    def forward(ctx: Any, padded: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(at)
        ctx.shape = padded.shape
        return padded.index_select(0, at)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        (at,) = ctx.saved_tensors
        return gradient.new_zeros(ctx.shape).index_copy_(0, at, gradient), None
