"""Flattened rows train as padded ones do, and no row knows of another."""

from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from finetune_trainer.data.tokens import IGNORED
from finetune_trainer.training import flat, varlen
from finetune_trainer.training.flat_trainer import FlatTrainer
from finetune_trainer.training.short import SHORT
from torch.nn.functional import cross_entropy
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    GemmaConfig,
    GptOssConfig,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
    PretrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    TrainingArguments,
)

SIZES: dict[str, Any] = {
    "vocab_size": 32,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.3,
    "pad_token_id": 0,
}
CONFIGS = {
    "llama": LlamaConfig(**SIZES),
    "qwen2": Qwen2Config(**SIZES),
    "gemma": GemmaConfig(**SIZES, head_dim=4),
    # Shorter than the longest row, so that it matters.
    "sliding window": MistralConfig(**SIZES, sliding_window=4),
    # So low and so many, that they matter.
    "soft capping": Gemma2Config(**SIZES, head_dim=4, attn_logit_softcapping=0.5, sliding_window=4),
    "attention sinks": GptOssConfig(**SIZES, head_dim=4, sliding_window=4, num_local_experts=2, num_experts_per_tok=1),
}
# Those whose attention is what kernels compute.
KERNELS = ["llama", "qwen2", "gemma", "sliding window"]
# Rows of several lengths, with prompts that aren't learned.
ROWS = [
    {"input_ids": [3, 4, 5, 6, 7, 8, 9], "labels": [IGNORED] * 4 + [7, 8, 9]},
    {"input_ids": [10, 11], "labels": [10, 11]},
    {"input_ids": [12, 13, 14, 15], "labels": [IGNORED] * 3 + [15]},
]
ALL = sum(len(row["input_ids"]) for row in ROWS)


def model(config: PretrainedConfig, attention: str = "eager", **changed: Any) -> PreTrainedModel:
    torch.manual_seed(0)
    copied = type(config).from_dict(config.to_dict() | changed)
    return AutoModelForCausalLM.from_config(copied, attn_implementation=attention)


def padded(found: PreTrainedModel) -> torch.Tensor:
    """The loss as the libraries reckon it, of rows that were made equally long."""
    longest = max(len(row["input_ids"]) for row in ROWS)

    def column(name: str, filling: int) -> torch.Tensor:
        return torch.tensor([row[name] + [filling] * (longest - len(row[name])) for row in ROWS])

    mask = torch.tensor([[1] * len(row["input_ids"]) + [0] * (longest - len(row["input_ids"])) for row in ROWS])
    return found(column("input_ids", 0), attention_mask=mask, labels=column("labels", IGNORED)).loss


def flattened(found: PreTrainedModel, rows: list[dict[str, list[int]]], tokens: int) -> list[torch.Tensor]:
    """The loss of each label, in passes of so many tokens."""
    losses = []
    for each in flat.passes(flat.flatten(rows), tokens):
        labels = each.pop("labels")[0]
        losses += list(cross_entropy(found(**each).logits[0], labels, reduction="none"))
    return losses


def gradients(loss: torch.Tensor, of: PreTrainedModel) -> torch.Tensor:
    of.zero_grad()
    loss.backward()
    return torch.cat([weights.grad.flatten() for weights in of.parameters() if weights.grad is not None])


@pytest.mark.parametrize("tokens", [ALL, 7, 1])
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_loss_and_gradients_are_those_of_padded_rows(config: PretrainedConfig, tokens: int) -> None:
    usual, ours = model(config), model(config)
    assert flat.attends_to_each_row(ours)
    expected, found = padded(usual), torch.stack(flattened(ours, ROWS, tokens)).mean()
    assert found.item() == pytest.approx(expected.item(), abs=1e-5)
    assert torch.allclose(gradients(found, ours), gradients(expected, usual), atol=1e-4)


@pytest.mark.parametrize("config", [CONFIGS[name] for name in KERNELS], ids=KERNELS)
def test_a_kernel_for_rows_of_any_length_is_given_what_it_takes(
    config: PretrainedConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of accelerators run on none of the machines that test this; what they are held to runs everywhere."""
    seen = []

    def kernel(*given: Any) -> torch.Tensor:
        seen.append(given[-1])
        return varlen.plain(*given)

    usual, ours = model(config), model(config)
    assert flat.attends_to_each_row(ours)
    monkeypatch.setattr(varlen, "kernel", lambda *_: kernel)
    expected, found = padded(usual), torch.stack(flattened(ours, ROWS, ALL)).mean()
    assert set(seen) == {-1 if getattr(config, "sliding_window", None) is None else 3}
    assert found.item() == pytest.approx(expected.item(), abs=1e-5)
    assert torch.allclose(gradients(found, ours), gradients(expected, usual), atol=1e-4)


def test_such_a_kernel_computes_as_autocast_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights in float32, as in full fine-tuning: rotary positions leave queries in it."""
    asked = []

    def kernel(device: torch.device, dtype: torch.dtype, size: int) -> varlen.Kernel:
        asked.append(dtype)
        return varlen.plain

    monkeypatch.setattr(varlen, "kernel", kernel)
    found = model(CONFIGS["llama"])
    assert flat.attends_to_each_row(found)
    asked.clear()
    with torch.autocast("cpu", torch.bfloat16):
        flattened(found, ROWS, ALL)
    assert set(asked) == {torch.bfloat16}


def test_such_a_kernel_is_not_asked_for_dropout_which_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(varlen, "kernel", lambda *_: pytest.fail("it was asked"))
    flattened(model(CONFIGS["llama"], attention_dropout=0.2).train(), ROWS, ALL)


@pytest.mark.parametrize("dropout", [0.0, 0.2])
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_a_row_comes_to_the_same_whatever_the_rows_beside_it(config: PretrainedConfig, dropout: float) -> None:
    found = model(config, attention_dropout=dropout).train()
    assert flat.attends_to_each_row(found)
    others = [ROWS[0] | {"input_ids": [20] * 7}, *ROWS[1:]]
    torch.manual_seed(1)
    before = flattened(found, ROWS, ALL)
    torch.manual_seed(1)
    after = flattened(found, others, ALL)
    assert before[:3] != after[:3]
    assert before[3:] == after[3:]


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_so_it_does_in_bfloat16_where_short_rows_are_one_product(config: PretrainedConfig) -> None:
    found = model(config).train()
    assert flat.attends_to_each_row(found)
    others = [ROWS[0] | {"input_ids": [20] * 7}, *ROWS[1:]]
    with torch.autocast("cpu", torch.bfloat16):
        before, after = flattened(found, ROWS, ALL), flattened(found, others, ALL)
    assert before[:3] != after[:3]
    assert before[3:] == after[3:]


@pytest.mark.parametrize("rows", [(9, 12), (SHORT, 2, SHORT + 1, 90, 3), (SHORT + 1, SHORT + 1)], ids=str)
@pytest.mark.parametrize("window", [None, 5])
def test_short_rows_and_long_ones_attend_alike_in_bfloat16(rows: tuple[int, ...], window: int | None) -> None:
    """Short ones of like lengths are attended to together, long ones one by one. Two heads share a key."""
    torch.manual_seed(0)
    query, key, value, weights = (torch.randn(1, n, sum(rows), 8, dtype=torch.bfloat16) for n in (4, 2, 2, 4))
    lengths = flat.Lengths(rows)
    layer = torch.nn.Module()
    layer.num_key_value_groups = 2
    found, exact = [], []
    for dtype, into in ((torch.bfloat16, found), (torch.float32, exact)):
        inputs = [each.to(dtype, copy=True).requires_grad_() for each in (query, key, value)]
        answer, _ = flat.attend(layer, *inputs, None, lengths, window, scaling=1.0, is_causal=True)
        into += [answer, *torch.autograd.grad(answer, inputs, weights.to(dtype).transpose(1, 2))]
    for one, other in zip(found, exact, strict=True):
        assert one.dtype == torch.bfloat16
        # bfloat16 has eight bits, the largest of these values are about ten.
        assert torch.allclose(one.float(), other, atol=0.1, rtol=0.02)


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_the_loss_of_a_validation_is_a_mean_over_all_labels_however_many_rows_a_batch_has(
    tmp_path: Path, rows: int
) -> None:
    found = model(CONFIGS["llama"])
    assert flat.attends_to_each_row(found)
    settings = TrainingArguments(
        str(tmp_path), per_device_eval_batch_size=rows, remove_unused_columns=False, use_cpu=True, report_to="none"
    )
    trainer = FlatTrainer(ALL, model=found, args=settings, eval_dataset=Dataset.from_list(ROWS))
    with torch.no_grad():
        expected = torch.stack(flattened(found, ROWS, ALL)).mean().item()
    assert trainer.evaluate()["eval_loss"] == pytest.approx(expected, abs=1e-6)


def test_a_model_whose_rows_would_meet_takes_them_one_by_one() -> None:
    sizes = {"vocab_size": 32, "hidden_size": 16, "state_size": 4, "num_hidden_layers": 2, "initializer_range": 0.3}
    found = AutoModelForCausalLM.from_config(MambaConfig(**sizes))
    assert not flat.attends_to_each_row(found)
    losses = []
    for each, row in zip(flat.alone(flat.flatten(ROWS)), ROWS, strict=True):
        assert each["input_ids"].tolist() == [row["input_ids"]]
        labels = each.pop("labels")[0]
        losses.append(cross_entropy(found(**each).logits[0], labels, ignore_index=IGNORED))
    for loss, row in zip(losses, ROWS, strict=True):
        alone = found(torch.tensor([row["input_ids"]]), labels=torch.tensor([row["labels"]])).loss
        assert loss.item() == pytest.approx(alone.item(), abs=1e-5)


def test_a_pass_has_whole_rows_up_to_its_tokens_and_one_that_has_more_alone() -> None:
    found = [each["position_ids"].tolist()[0] for each in flat.passes(flat.flatten(ROWS), 6)]
    assert found == [[0, 1, 2, 3, 4, 5, 6], [0, 1, 0, 1, 2, 3]]
