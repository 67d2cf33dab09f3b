"""What an adapter can be asked for beside its rank: how it is scaled, and how fast its halves learn."""

from pathlib import Path
from typing import Any

import pytest
import torch
from finetune_trainer.contract.config import AdapterConfig, AdapterType, TrainingConfig
from finetune_trainer.stages.train import train
from finetune_trainer.training import machine, model
from finetune_trainer.training.flat_trainer import FlatTrainer
from peft import PeftModel
from safetensors.torch import load_file
from trainings import Case, MakeCase, Recorder
from transformers import AutoModelForCausalLM
from vllm.lora.peft_helper import PEFTHelper

RATE = 1e-3
STEP = FlatTrainer.training_step


def halves(case: Case) -> dict[str, torch.Tensor]:
    """The weights of both halves, A and B, after training."""
    train(case.config, case.workspace, Recorder())
    found = load_file(case.workspace.artifact / "adapter_model.safetensors")
    return {
        half: torch.cat([found[name].flatten() for name in sorted(found) if f"lora_{half}." in name]) for half in "AB"
    }


@pytest.mark.parametrize(("alpha", "scale"), [(None, 2.0), (32, 4.0)], ids=["left out", "given"])
def test_a_rank_stabilised_adapter_is_scaled_by_the_root_of_its_rank_where_it_is_served_too(
    make_case: MakeCase, base_model: object, alpha: int | None, scale: float
) -> None:
    case = make_case(adapter=AdapterConfig(rank=64, alpha=alpha, use_rslora=True), total_steps=1)
    train(case.config, case.workspace, Recorder())
    adapted = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base_model), case.workspace.artifact)
    assert adapted.get_submodule("base_model.model.model.layers.0.mlp.up_proj").scaling["default"] == scale
    served = PEFTHelper.from_local_dir(str(case.workspace.artifact), max_position_embeddings=None)
    assert served.vllm_lora_scaling_factor == scale
    assert served._validate_features() == []


@pytest.mark.parametrize(
    ("precision", "frozen"), [(machine.BF16, torch.bfloat16), (machine.FP32, torch.float32)], ids=["bf16", "fp32"]
)
def test_frozen_weights_are_as_short_as_the_products_and_what_learns_is_float32(
    make_case: MakeCase, monkeypatch: pytest.MonkeyPatch, frozen: torch.dtype
) -> None:
    case, seen = make_case(adapter=AdapterConfig(rank=8, modules_to_save=("lm_head",)), total_steps=1), []

    def step(trainer: FlatTrainer, model: torch.nn.Module, *arguments: Any) -> torch.Tensor:
        seen.extend((weights.requires_grad, weights.dtype) for weights in model.parameters())
        return STEP(trainer, model, *arguments)

    monkeypatch.setattr(FlatTrainer, "training_step", step)

    train(case.config, case.workspace, Recorder())

    assert set(seen) == {(False, frozen), (True, torch.float32)}


@pytest.mark.parametrize("kind", [AdapterType.LORA, AdapterType.QLORA, AdapterType.DORA])
def test_of_an_adapter_the_half_that_was_zero_learns_so_many_times_as_fast(
    make_case: MakeCase, kind: AdapterType
) -> None:
    plain = AdapterConfig(type=kind, rank=8)
    faster = plain.model_copy(update={"loraplus_lr_ratio": 16})
    # In the first step the other half has no gradient yet.
    first = halves(make_case("first", adapter=plain, total_steps=1, learning_rate=RATE))
    later = halves(make_case("later", adapter=faster, total_steps=2, learning_rate=RATE))
    assert 0 < (later["A"] - first["A"]).abs().max() < 2 * RATE
    assert later["B"].abs().max() > 12 * RATE


@pytest.mark.parametrize("kind", [AdapterType.LORA, AdapterType.DORA])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_what_an_adapter_adds_by_one_product_is_what_peft_adds(
    base_model: Path, kind: AdapterType, dropout: float
) -> None:
    training = TrainingConfig(adapter=AdapterConfig(type=kind, rank=4, dropout=dropout))
    found = []
    for changed in (False, True):
        torch.manual_seed(0)
        learner = model.with_adapter(
            AutoModelForCausalLM.from_pretrained(base_model, dtype=torch.float32), training
        ).train()
        learning = [weights for weights in learner.parameters() if weights.requires_grad]
        for weights in learning:
            torch.nn.init.normal_(weights, std=0.1)
        if changed:
            model.use_one_product(learner)
        torch.manual_seed(1)
        logits = learner(input_ids=torch.tensor([[5, 6, 7, 8]])).logits
        logits.square().mean().backward()
        gradients = [weights.grad for weights in learning]
        learner.merge_adapter()
        merged = learner.eval()(input_ids=torch.tensor([[5, 6, 7, 8]])).logits
        found.append([logits.detach(), merged.detach(), *gradients])
    assert all(torch.allclose(one, other, rtol=1e-4, atol=1e-6) for one, other in zip(*found, strict=True))


def test_of_ordinary_adapters_alone(base_model: Path) -> None:
    """DoRA's magnitude is a matter of the whole answer."""
    kinds = {}
    for kind in (AdapterType.LORA, AdapterType.DORA):
        training = TrainingConfig(adapter=AdapterConfig(type=kind, rank=4))
        learner = model.with_adapter(AutoModelForCausalLM.from_pretrained(base_model), training)
        model.use_one_product(learner)
        layer = learner.get_submodule("base_model.model.model.layers.0.mlp.up_proj")
        kinds[kind] = isinstance(layer.lora_variant["default"], model.OneProduct)
    assert kinds == {AdapterType.LORA: True, AdapterType.DORA: False}
