"""Modules that are trained as a whole beside an adapter: the model that is served has them as they were learned."""

from pathlib import Path
from typing import Any

import pytest
import torch
from finetune_trainer.contract.config import AdapterConfig, AdapterType
from finetune_trainer.contract.outcome import Outcome, StageError
from finetune_trainer.stages.train import train
from finetune_trainer.training.build import Beside
from peft import PeftModel
from test_best import EVERY_WEIGHT, loss_of, overfitting, validations
from test_resume import killed_ends_as
from test_train import ENOUGH
from trainings import CHATS, PAIRS, MakeCase, Recorder, answers
from transformers import AutoModelForCausalLM, AutoTokenizer

BOTH = AdapterConfig(rank=8, modules_to_save=("embed_tokens", "lm_head"))
EMBEDDINGS = AdapterConfig(rank=8, modules_to_save=("embed_tokens",))


@pytest.fixture
def tied(base_model: Path, tmp_path: Path) -> Path:
    """The same model, its embeddings its output layer."""
    path = tmp_path / "tied"
    model: Any = AutoModelForCausalLM.from_pretrained(base_model)
    model.config.tie_word_embeddings = True
    model.tie_weights()
    model.save_pretrained(path)
    AutoTokenizer.from_pretrained(base_model).save_pretrained(path)
    return path


def loaded(path: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)


@pytest.mark.parametrize("kind", [AdapterType.LORA, AdapterType.DORA])
def test_the_whole_model_has_what_was_learned_of_them(
    make_case: MakeCase, recorder: Recorder, base_model: Path, kind: AdapterType
) -> None:
    case = make_case(adapter=BOTH.model_copy(update={"type": kind}), total_steps=ENOUGH, learning_rate=2e-3)

    train(case.config, case.workspace, recorder)

    whole, before = loaded(case.workspace.artifact / "merged"), loaded(base_model)
    for name in ("model.embed_tokens", "lm_head"):
        moved = (whole.get_submodule(name).weight - before.get_submodule(name).weight).abs().max()
        assert moved > 1e-3
    tokenizer = AutoTokenizer.from_pretrained(case.workspace.artifact / "merged")
    assert answers(whole, tokenizer) == [colour for _, colour in PAIRS]
    beside = PeftModel.from_pretrained(before, case.workspace.artifact)
    ids = torch.tensor([[1, 2, 3, 9]])
    with torch.no_grad():
        assert torch.allclose(whole(ids).logits, beside(ids).logits, atol=0.1, rtol=0.02)
    card = (case.workspace.artifact / "README.md").read_text()
    assert "adapter of rank 8 and embed_tokens, lm_head trained as a whole for" in card
    assert "vllm serve merged --served-model-name colours" in card


def test_embeddings_that_are_the_output_layer_stay_that(make_case: MakeCase, recorder: Recorder, tied: Path) -> None:
    case = make_case(adapter=EMBEDDINGS, base=tied, total_steps=ENOUGH, learning_rate=2e-3)

    train(case.config, case.workspace, recorder)

    whole = loaded(case.workspace.artifact / "merged")
    assert whole.lm_head.weight is whole.model.embed_tokens.weight
    assert (whole.lm_head.weight - loaded(tied).lm_head.weight).abs().max() > 1e-3
    tokenizer = AutoTokenizer.from_pretrained(case.workspace.artifact / "merged")
    assert answers(whole, tokenizer) == [colour for _, colour in PAIRS]


def test_an_output_layer_that_is_the_embeddings_is_not_trained_by_itself(
    make_case: MakeCase, recorder: Recorder, tied: Path
) -> None:
    case = make_case(adapter=BOTH, base=tied)
    with pytest.raises(StageError) as error:
        train(case.config, case.workspace, recorder)
    assert error.value.outcome == Outcome.CONFIG_INVALID
    assert error.value.message == (
        "training.adapter.modulesToSave has lm_head, and this model's embeddings are its output layer: name "
        "embed_tokens alone, which is both, where the model has it; or set training.adapter.type to none."
    )


def test_a_killed_run_ends_the_same(make_case: MakeCase, recorder: Recorder) -> None:
    options: dict[str, Any] = {"adapter": BOTH, "rows": CHATS, "validation": CHATS[:4]}
    killed_ends_as(make_case("whole", **options), make_case("killed", **options), recorder)


def test_those_that_are_kept_are_whole_models_as_they_validated(make_case: MakeCase, recorder: Recorder) -> None:
    case = overfitting(make_case, adapter=BOTH)

    result = train(case.config, case.workspace, recorder, Beside(keep=2))

    (best, second), found = (checkpoint.step for checkpoint in result.checkpoints), validations(case)
    for step, place in ((best, case.workspace.artifact), (second, case.workspace.checkpoint(second))):
        assert loss_of(place / "merged", place / "merged", EVERY_WEIGHT) == pytest.approx(found[step], rel=0.05)
