"""A training that goes on from what another one made: its base model is that artifact, merged, and nothing else."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from finetune_trainer.contract.config import AdapterConfig, AdapterType, Method, ModelConfig, Origin, Source
from finetune_trainer.contract.outcome import Outcome, StageError
from finetune_trainer.contract.results import TrainResult
from finetune_trainer.data.digests import digest
from finetune_trainer.stages.train import train
from finetune_trainer.training import inherit
from peft import PeftModel
from safetensors.torch import load_file, save_file
from test_preference import ROWS
from trainings import PAIRS, Case, MakeCase, Recorder, answers, chat
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

URI = "ftj://colours/0a1b2c3d"


def origin(case: Case, result: TrainResult, base: Path | None) -> Origin:
    """What the operator would tell of a revision that was trained."""
    source = Source(uri="hf://example/tiny", path=base)
    lineage = (URI, "hf://example/tiny")
    return Origin(digest=result.artifact.digest, files=case.workspace.root, base=source, lineage=lineage)


def taught(case: Case, recorder: Recorder) -> TrainResult:
    """Trained where its base model lies among its files, as one that was fetched does."""
    shutil.copytree(str(case.config.model.source.path), case.workspace.model, dirs_exist_ok=True)
    return train(case.config, case.workspace, recorder)


def model(path: Path) -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)


def merged(base: Path, *adapters: Path) -> PreTrainedModel:
    """The base model with adapters, one upon the other, by PEFT and in float32."""
    found: Any = model(base)
    for adapter in adapters:
        found = PeftModel.from_pretrained(found, str(adapter)).merge_and_unload()
    return found


def logits(of: PreTrainedModel, base: Path) -> torch.Tensor:
    tokens = AutoTokenizer.from_pretrained(base).apply_chat_template(chat(*PAIRS[0])["messages"], return_tensors="pt")[
        "input_ids"
    ]
    with torch.no_grad():
        return of(tokens).logits


def test_dpo_goes_on_from_what_sft_has_learned(
    make_case: MakeCase, base_model: Path, recorder: Recorder, tmp_path: Path
) -> None:
    sft = make_case("sft", total_steps=24)
    result = taught(sft, recorder)
    start = tmp_path / "start"
    inherit.model(URI, origin(sft, result, None), start)
    assert answers(model(start), AutoTokenizer.from_pretrained(start)) == [colour for _, colour in PAIRS]

    dpo = make_case("dpo", rows=ROWS * 4, base=start, method=Method.DPO)
    train(dpo.config, dpo.workspace, recorder)
    served = PeftModel.from_pretrained(model(start), str(dpo.workspace.artifact))
    both = merged(base_model, sft.workspace.artifact, dpo.workspace.artifact)
    # The first adapter's sum is stored in bfloat16, as its base model is.
    torch.testing.assert_close(logits(served, start), logits(both, start), rtol=0.02, atol=0.1)
    alone = PeftModel.from_pretrained(model(base_model), str(dpo.workspace.artifact))
    assert (logits(alone, start) - logits(both, start)).abs().max() > 1


@pytest.mark.parametrize(
    "adapter",
    [
        AdapterConfig(rank=4, alpha=12, target_modules=("q_proj", "down_proj")),
        AdapterConfig(type=AdapterType.DORA, rank=4),
        AdapterConfig(type=AdapterType.NONE),
    ],
    ids=["lora", "dora", "full"],
)
def test_the_base_model_is_to_the_bit_what_the_libraries_make_of_it(
    make_case: MakeCase, base_model: Path, recorder: Recorder, tmp_path: Path, adapter: AdapterConfig
) -> None:
    case = make_case(adapter=adapter, total_steps=2)
    result = taught(case, recorder)
    artifact = case.workspace.artifact
    whole = model(artifact) if adapter.type == AdapterType.NONE else merged(base_model, artifact)
    inherit.model(URI, origin(case, result, base_model), tmp_path / "start")
    found = AutoModelForCausalLM.from_pretrained(tmp_path / "start").state_dict()
    assert {weights.dtype for weights in found.values()} == {torch.bfloat16}
    for name, weights in whole.to(torch.bfloat16).state_dict().items():
        assert torch.equal(found[name], weights), name
    there = {path.name for path in (tmp_path / "start").iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= there
    assert not there & {"adapter_config.json", "artifact.json", "run_config.json", "README.md"}


def test_what_was_made_by_it_says_where_its_base_model_lies(
    make_case: MakeCase, base_model: Path, recorder: Recorder, tmp_path: Path
) -> None:
    case = make_case(total_steps=1)
    came_from = Origin(digest="sha256:0", files=tmp_path, base=Source(uri="hf://example/tiny"), lineage=(URI,))
    told = ModelConfig(source=Source(uri=URI, path=base_model), origin=came_from)
    train(case.config.model_copy(update={"model": told}), case.workspace, recorder)
    card = (case.workspace.artifact / "README.md").read_text()
    assert f"(from {URI}), merged" in card
    assert "vllm serve ../model --enable-lora" in card
    assert 'AutoModelForCausalLM.from_pretrained("../model")' in card
    assert str(tmp_path) not in (case.workspace.artifact / "run_config.json").read_text()


@pytest.fixture
def trained(make_case: MakeCase, base_model: Path, recorder: Recorder) -> tuple[Case, Origin]:
    case = make_case(total_steps=1)
    return case, origin(case, train(case.config, case.workspace, recorder), base_model)


def refused(told: Origin, tmp_path: Path) -> StageError:
    with pytest.raises(StageError) as found:
        inherit.model(URI, told, tmp_path / "start")
    return found.value


def test_files_that_were_changed_are_not_trained_on(trained: tuple[Case, Origin], tmp_path: Path) -> None:
    case, told = trained
    weights = case.workspace.artifact / "adapter_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    error = refused(told, tmp_path)
    assert error.outcome == Outcome.NOT_FOUND
    assert error.message.startswith(f"{URI} is not what was trained: its files have the digest sha256:")
    assert f"its record has {told.digest}" in error.message


def test_a_revision_without_files_is_told(trained: tuple[Case, Origin], tmp_path: Path) -> None:
    error = refused(trained[1].model_copy(update={"step": 7}), tmp_path)
    assert error.message == f"{URI} has no files any more: {trained[0].workspace.root}/kept/7 is not there."


def test_an_adapter_of_another_base_model_is_refused(
    trained: tuple[Case, Origin], base_model: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(base_model, other)
    weights = {
        name.replace("layers.1", "blocks.1"): each for name, each in load_file(other / "model.safetensors").items()
    }
    save_file(weights, other / "model.safetensors")
    error = refused(trained[1].model_copy(update={"base": Source(uri="pvc://other", path=other)}), tmp_path)
    assert error.outcome == Outcome.CONFIG_INVALID
    assert error.message == (
        f"{URI} can't be trained further: its adapter changes model.layers.1.mlp.down_proj.weight, which the files of "
        "its base model don't have."
    )


def test_a_reward_model_is_nothing_to_start_from(trained: tuple[Case, Origin], tmp_path: Path) -> None:
    case, told = trained
    written = case.workspace.artifact / "run_config.json"
    config = json.loads(written.read_text())
    config["training"]["method"] = "reward"
    written.write_text(json.dumps(config))
    error = refused(told.model_copy(update={"digest": digest(case.workspace.artifact)}), tmp_path)
    assert error.outcome == Outcome.CONFIG_INVALID
    assert error.message == (f"{URI} was trained by method reward and writes nothing: start from a model that answers.")
