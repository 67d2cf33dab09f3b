"""Rows one behind the other: a pass through the model has whole rows and no padding, and attention stays within each.

Called by `build` and the trainers. What makes it right is in three places of the libraries that are open to it:
position ids that begin anew with each row; an attention function, registered as ATTENTION, that attends to each row by
itself; and labels that were shifted within their rows, of which only those that are learned reach the output layer.
"""

import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch.nn.functional import pad
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from finetune_trainer.data.tokens import IGNORED
from finetune_trainer.training import short, varlen

ATTENTION = "each_row"
Inputs = dict[str, Any]
# Tokens of the rows that are tried.
TRIED = 8

logger = logging.getLogger(__name__)


class Lengths:
    """The lengths of the rows of a pass.

    Numbers, not a tensor, which each layer would have to wait for an accelerator to tell; and not a bare tuple, whose
    size would be a part of compiled code.
    """

    def __init__(self, each: tuple[int, ...]) -> None:
        self.each = each
        self._ends: torch.Tensor | None = None
        self._padded: dict[int | None, list[tuple[list[int], short.Padding]]] = {}

    def ends(self, device: torch.device) -> torch.Tensor:
        """Where each row ends, beginning with 0, as kernels for rows of any length ask. Made once for all layers."""
        if self._ends is None or self._ends.device != device:
            self._ends = torch.tensor([0, *self.each]).cumsum(0).to(device, torch.int32)
        return self._ends

    def padded(self, window: int | None) -> list[tuple[list[int], short.Padding]]:
        """Groups of short rows, by their numbers, and how each is padded. Made once for all layers of a window."""
        if window not in self._padded:
            found = short.groups(self.each)
            self._padded[window] = [(rows, short.Padding([self.each[row] for row in rows], window)) for rows in found]
        return self._padded[window]


def flatten(rows: Sequence[dict[str, Any]]) -> Inputs:
    """The rows as one, of shape (1, tokens): what Trainer calls a data collator. `row_ends`: behind each row's last."""
    ids = [torch.tensor(row["input_ids"]) for row in rows]
    shifted = [pad(torch.tensor(row["labels"])[1:], (0, 1), value=IGNORED) for row in rows]
    labels = torch.cat(shifted)[None]
    return {
        "input_ids": torch.cat(ids)[None],
        "position_ids": torch.cat([torch.arange(len(row)) for row in ids])[None],
        "row_ends": torch.tensor([len(row) for row in ids]).cumsum(0),
        # Under the one name Trainer finds that there are labels; under the other it counts those that are learned.
        "labels": labels,
        "shift_labels": labels,
    }


def count(inputs: Inputs, tokens: int, together: int = 1) -> int:
    """How many passes there are at least."""
    return len(list(_grouped(inputs["row_ends"].tolist()[together - 1 :: together], tokens)))


def passes(inputs: Inputs, tokens: int, together: int = 1, least: int = 1) -> Iterator[Inputs]:
    """What the model takes at once: whole rows, as many as come to `tokens`, and at least one.

    `together`: rows of which so many, one behind the other, are never parted. `least`: so many passes at least, of
    which each has less; there are rows enough for that.
    """
    rows = inputs["row_ends"].tolist()
    for start, found in _parted(list(_grouped(rows[together - 1 :: together], tokens)), least):
        stop = found[-1]
        ends = [end for end in rows if start < end <= stop]
        labels = inputs["shift_labels"][:, start:stop]
        learned = (labels[0] != IGNORED).nonzero()[:, 0]
        yield {
            "input_ids": inputs["input_ids"][:, start:stop],
            "position_ids": inputs["position_ids"][:, start:stop],
            "labels": labels[:, learned],
            "logits_to_keep": learned,
            "row_lengths": Lengths(tuple(after - before for before, after in pairwise([start, *ends]))),
            "use_cache": False,
        }


def alone(inputs: Inputs) -> Iterator[Inputs]:
    """Row by row, for a model that would mix them; it is asked for nothing but its logits."""
    for start, end in pairwise([0, *inputs["row_ends"].tolist()]):
        yield {"input_ids": inputs["input_ids"][:, start:end], "labels": inputs["shift_labels"][:, start:end]}


def _grouped(ends: Sequence[int], tokens: int) -> Iterator[tuple[int, list[int]]]:
    """Where each pass begins, and the ends of what it has."""
    start, found = 0, list[int]()
    for end in ends:
        if found and end - start > tokens:
            yield start, found
            start, found = found[-1], []
        found.append(end)
    if found:
        yield start, found


def _parted(groups: list[tuple[int, list[int]]], least: int) -> list[tuple[int, list[int]]]:
    """The same in so many groups: the largest are halved."""
    while len(groups) < least:
        start, ends = max(groups, key=lambda group: len(group[1]))
        at, half = groups.index((start, ends)), len(ends) // 2
        groups[at : at + 1] = [(start, ends[:half]), (ends[half - 1], ends[half:])]
    return groups


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    row_lengths: Lengths | None = None,
    sliding_window: int | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention within each row, of shapes (1, heads, tokens, size) to (1, tokens, heads, size)."""
    own = _own(module, options)
    if row_lengths is None and own is None:
        whole, _ = sdpa_attention_forward(module, query, key, value, attention_mask, **options)
        return whole, None
    row_lengths = row_lengths or Lengths((query.shape[2],))
    if own is None and (kernel := _kernel_of_all(module, query, value, options)):
        one, two, three = (each[0].transpose(0, 1).to(_computed_in(query)) for each in (query, key, value))
        ends, seen = row_lengths.ends(query.device), -1 if sliding_window is None else sliding_window - 1
        return kernel(one, two, three, ends, max(row_lengths.each), options.get("scaling"), seen)[None], None
    together = own is None and query.device.type == "cpu" and _computed_in(query) == torch.bfloat16
    padded = row_lengths.padded(sliding_window) if together and _is_plain(module, options) else []
    if padded and len(padded[0][0]) == len(row_lengths.each):
        return short.attend(query, key, value, options.get("scaling"), padded[0][1]), None
    # Not sliced: the gradient of a slice is as large as all rows.
    rows = list(zip(*(each.split(row_lengths.each, dim=2) for each in (query, key, value)), strict=True))
    attended: dict[int, torch.Tensor] = {}
    for some, padding in padded:
        one, two, three = (torch.cat(each, dim=2) for each in zip(*(rows[at] for at in some), strict=True))
        answers = short.attend(one, two, three, options.get("scaling"), padding)
        attended |= zip(some, answers.split([row_lengths.each[at] for at in some], dim=1), strict=True)
    for at in set(range(len(rows))) - set(attended):
        attended[at] = _to_itself(module, rows[at], sliding_window, own, options)
    return torch.cat([attended[at] for at in range(len(rows))], dim=1), None


def _to_itself(
    module: torch.nn.Module,
    row: tuple[torch.Tensor, ...],
    window: int | None,
    own: Callable[..., tuple[torch.Tensor, Any]] | None,
    options: Inputs,
) -> torch.Tensor:
    """One row's query, key and value, by the model's `own` function where it has one."""
    query, length = row[0], row[0].shape[2]
    if own is None:
        attended, _ = sdpa_attention_forward(module, *row, _window(length, window, query.device), **options)
        return attended
    unseen = ~_seen(length, window, query.device)
    mask = torch.zeros_like(unseen, dtype=query.dtype).masked_fill(unseen, torch.finfo(query.dtype).min)
    return own(module, *row, mask, **options)[0]


def _own(module: torch.nn.Module, options: Inputs) -> Callable[..., tuple[torch.Tensor, Any]] | None:
    """The model's own attention, in plain products, where it has what no kernel does: scores that are capped (Gemma 2)
    or attention sinks (gpt-oss). Kernels leave that out without a word.
    """
    if options.get("softcap") is None and options.get("s_aux") is None:
        return None
    found: Callable[..., tuple[torch.Tensor, Any]] = sys.modules[type(module).__module__].eager_attention_forward
    return found


def _is_plain(module: torch.nn.Module, options: Inputs) -> bool:
    """Whether a layer asks for causal attention and no more: neither dropout nor a bias."""
    causal = options.get("is_causal")
    causal = getattr(module, "is_causal", True) if causal is None else causal
    return causal and not options.get("dropout") and options.get("position_bias") is None


def _kernel_of_all(
    module: torch.nn.Module, query: torch.Tensor, value: torch.Tensor, options: Inputs
) -> varlen.Kernel | None:
    """One that takes all rows at once, where it does what this layer asks: it knows neither dropout nor a bias."""
    if not _is_plain(module, options):
        return None
    size = query.shape[-1]
    return varlen.kernel(query.device, _computed_in(query), size) if size == value.shape[-1] else None


def _computed_in(query: torch.Tensor) -> torch.dtype:
    """As torch's attention would compute it: rotary positions leave queries in float32 where weights are."""
    device = query.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else query.dtype


def _window(length: int, window: int | None, device: torch.device) -> torch.Tensor | None:
    """What each token sees, where that is less than all before it."""
    return None if window is None or length <= window else _seen(length, window, device)


def _seen(length: int, window: int | None, device: torch.device) -> torch.Tensor:
    """What each token sees of its row, of shape (1, 1, length, length)."""
    at = torch.arange(length, device=device)
    distance = at[:, None] - at[None, :]
    return ((distance >= 0) & (distance < (window or length)))[None, None]


def _no_mask(**_: Any) -> None:
    """Nothing has to be masked between rows that never meet."""


# A compiler would make new code for each number of rows.
AttentionInterface.register(ATTENTION, torch.compiler.disable(attend))
AttentionMaskInterface.register(ATTENTION, _no_mask)


def attends_to_each_row(model: PreTrainedModel) -> bool:
    """Have a model use `attend`; False, and no change, where rows would meet all the same or it takes no such input.

    Not all layers ask the attention function (those of Mamba do not), so it is tried.
    """
    before = model.config._attn_implementation
    try:
        model.set_attn_implementation(ATTENTION)
        if _keeps_apart(model):
            return True
    except (TypeError, ValueError) as error:
        logger.info("%s takes no flattened rows: %s", type(model).__name__, error)
    model.set_attn_implementation(before)
    return False


def _keeps_apart(model: PreTrainedModel) -> bool:
    """Whether a row comes to the same whatever the row before it."""
    training = model.training
    model.eval()
    # A reward model looks for the last token that is no padding.
    token, another, *_ = (each for each in (1, 2, 3) if each != model.config.get_text_config().pad_token_id)
    row, before = ({"input_ids": [each] * TRIED, "labels": [each] * TRIED} for each in (token, another))
    with torch.no_grad():
        (one,), (other,) = (passes(flatten([first, row]), 2 * TRIED) for first in (row, before))
        logits = [model(**_on(model.device, each) | {"labels": None}).logits[0, -1] for each in (one, other)]
    model.train(training)
    return bool(torch.equal(*logits))


def _on(device: torch.device, inputs: Inputs) -> Inputs:
    return {name: value.to(device) if isinstance(value, torch.Tensor) else value for name, value in inputs.items()}
