"""QLoRA on CPUs: it learns what LoRA learns, beside weights of four bits that take less memory."""

import signal
from pathlib import Path

import torch
from finetune_trainer.contract.config import AdapterConfig, AdapterType, TrainingConfig
from finetune_trainer.data.tokens import IGNORED
from finetune_trainer.stages.train import train
from finetune_trainer.training import flat, merging, model
from peft import PeftModel
from test_out_of_memory import run
from trainings import CHATS, PAIRS, MakeCase, Recorder, answers
from transformers import AutoModelForCausalLM, AutoTokenizer
from vllm.lora.peft_helper import PEFTHelper

QLORA = AdapterConfig(type=AdapterType.QLORA, rank=8)
ROWS = [{"input_ids": [3, 4, 5, 6], "labels": [IGNORED, 4, 5, 6]}, {"input_ids": [7, 8], "labels": [IGNORED, 8]}]


def test_what_was_learned_beside_four_bits_is_served_beside_the_weights_as_they_are_stored(
    make_case: MakeCase, recorder: Recorder, base_model: Path, tmp_path: Path
) -> None:
    # With a validation on the way, after which the weights have to be what they were.
    case = make_case(adapter=QLORA, validation=CHATS[:4], total_steps=80, learning_rate=2e-2)

    train(case.config, case.workspace, recorder)

    tokenizer = AutoTokenizer.from_pretrained(case.workspace.artifact)
    stored = AutoModelForCausalLM.from_pretrained(base_model)
    assert answers(PeftModel.from_pretrained(stored, case.workspace.artifact), tokenizer) == [c for _, c in PAIRS]
    helper = PEFTHelper.from_local_dir(str(case.workspace.artifact), max_position_embeddings=None)
    assert helper._validate_features() == []
    # It is merged into those, too, and never into what the four bits stand for.
    whole = tmp_path / "whole"
    whole.mkdir()
    merging.copy(base_model, whole)
    merging.merge(case.workspace.artifact, whole)
    merged = AutoModelForCausalLM.from_pretrained(whole)
    assert answers(merged, tokenizer) == [c for _, c in PAIRS]
    assert torch.equal(merged.get_input_embeddings().weight, stored.get_input_embeddings().weight)
    card = (case.workspace.artifact / "README.md").read_text()
    assert "trained beside weights in NF4 (QLoRA)" in card
    assert "--enable-lora" in card


def test_a_killed_run_ends_with_the_same_weights(make_case: MakeCase) -> None:
    whole, killed = make_case("whole", adapter=QLORA), make_case("killed", adapter=QLORA)

    ended = run("interrupted.py", killed, int(signal.SIGKILL), 8)

    assert ended.returncode == -signal.SIGKILL, ended.stderr
    for case in (whole, killed):
        train(case.config, case.workspace, Recorder())
    weights = [(case.workspace.artifact / "adapter_model.safetensors").read_bytes() for case in (whole, killed)]
    assert weights[0] == weights[1]


def test_gradients_are_those_of_the_weights_that_four_bits_stand_for(base_model: Path) -> None:
    """Also after the model was asked without gradients: bitsandbytes would repack its weights on some CPUs."""
    torch.manual_seed(0)
    quantised = model.base(base_model, torch.float32, AdapterType.QLORA)
    assert flat.attends_to_each_row(quantised)
    plain = model.base(base_model, torch.float32, AdapterType.LORA)
    assert flat.attends_to_each_row(plain)
    small = quantised.model.layers[0].mlp.up_proj
    assert small.weight.numel() * 2 == plain.model.layers[0].mlp.up_proj.weight.numel()
    for name, module in plain.named_modules():
        found = quantised.get_submodule(name)
        if hasattr(getattr(found, "weight", None), "quant_state"):
            module.weight.data = dequantised(found)
    found = [gradients(each) for each in (quantised, plain)]
    assert found[0].keys() == found[1].keys()
    for name, one in found[0].items():
        assert torch.allclose(one, found[1][name], atol=1e-4), name


def dequantised(module: torch.nn.Module) -> torch.Tensor:
    import bitsandbytes

    return bitsandbytes.functional.dequantize_4bit(module.weight.data, module.weight.quant_state).float()


def gradients(base: torch.nn.Module) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    adapted = model.with_adapter(base, TrainingConfig(adapter=QLORA)).train()
    (inputs,) = flat.passes(flat.flatten(ROWS), 6)
    labels = inputs.pop("labels")[0]
    torch.nn.functional.cross_entropy(adapted(**inputs).logits[0], labels).backward()
    return {name: weights.grad for name, weights in adapted.named_parameters() if weights.requires_grad}
