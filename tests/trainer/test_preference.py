"""Pairs of answers: their losses are TRL's, they train flattened and resumed as any rows, and the chosen ones win."""

import math
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from datasets import Dataset
from finetune_trainer.contract.config import AdapterConfig, AdapterType, DpoConfig, DpoLoss, Method
from finetune_trainer.stages.train import train
from finetune_trainer.training import flat, rows
from finetune_trainer.training.preference_trainer import PreferenceTrainer
from peft import PeftModel
from test_resume import EVERYTHING, metrics
from trainings import LORA, PAIRS, STEPS, Case, MakeCase, Recorder, chat
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, TrainingArguments
from trl import DPOConfig, DPOTrainer

COLOURS = [colour for _, colour in PAIRS]


def pair(thing: str, colour: str, wrong: str) -> dict[str, Any]:
    """A row of preference for the task; its rejected answer is longer."""
    *prompt, chosen = chat(thing, colour)["messages"]
    return {"prompt": prompt, "chosen": [chosen], "rejected": [chosen | {"content": wrong}]}


ROWS = [pair(thing, colour, f"a {COLOURS[number - 1]} thing") for number, (thing, colour) in enumerate(PAIRS)]


def model(base: Path, moved: bool) -> PreTrainedModel:
    """The base model, or one a little away from it."""
    found = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    torch.manual_seed(9)
    for each in found.parameters() if moved else ():
        each.data += 0.02 * torch.randn_like(each)
    return found


def arguments(directory: Path) -> dict[str, Any]:
    return {
        "output_dir": str(directory),
        "per_device_train_batch_size": len(ROWS),
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "report_to": "none",
    }


def trls(base: Path, directory: Path, dpo: DpoConfig) -> tuple[float, torch.Tensor]:
    """The loss and the gradients of TRL's trainer, which tokenizes by itself."""
    options = DPOConfig(
        **arguments(directory),
        beta=dpo.beta,
        loss_type=list(map(str, dpo.loss_type)),
        loss_weights=dpo.loss_weights and list(dpo.loss_weights),
        label_smoothing=dpo.label_smoothing,
    )
    found = DPOTrainer(
        model(base, moved=True),
        model(base, moved=False),
        options,
        train_dataset=Dataset.from_list(ROWS),
        processing_class=AutoTokenizer.from_pretrained(base),
    )
    batch = found.data_collator([found.train_dataset[number] for number in range(len(ROWS))])
    loss = found.compute_loss(found.model, batch)
    loss.backward()
    return loss.item(), gradients(found.model)


def ours(case: Case, base: Path, directory: Path, dpo: DpoConfig, tokens: int | None) -> tuple[float, torch.Tensor]:
    started = model(base, moved=False)
    if tokens:
        assert flat.attends_to_each_row(started)
    found = PreferenceTrainer(
        tokens,
        dpo,
        order=range(len(ROWS)),
        kept=directory,
        model=started,
        args=TrainingArguments(**arguments(directory), remove_unused_columns=False),
        train_dataset=rows.load(case.workspace).train,
        processing_class=AutoTokenizer.from_pretrained(base),
    )
    found.model.load_state_dict(model(base, moved=True).state_dict())
    batch = found.data_collator([found.train_dataset[number] for number in range(len(ROWS))])
    loss = found.training_step(found.model, batch)
    return loss.item(), gradients(found.model)


def gradients(of: PreTrainedModel) -> torch.Tensor:
    return torch.cat([weights.grad.flatten() for _, weights in sorted(of.named_parameters())])


MIXED = DpoConfig(loss_type=(DpoLoss.SIGMOID, DpoLoss.SFT), loss_weights=(1.0, 0.2))
LOSSES = {
    **{type.value: DpoConfig(beta=0.3, loss_type=(type,)) for type in DpoLoss},
    "robust": DpoConfig(loss_type=(DpoLoss.ROBUST,), label_smoothing=0.1),
    "two, unweighted": DpoConfig(loss_type=(DpoLoss.APO_ZERO, DpoLoss.SFT)),
}
# All at once, two pairs or one at a time, and row by row.
PASSES = {"whole": 512, "two pairs": 70, "pairs": 1, "rows": None}


@pytest.mark.parametrize(
    ("dpo", "tokens"),
    [*((dpo, PASSES["whole"]) for dpo in LOSSES.values()), *((MIXED, tokens) for tokens in PASSES.values())],
    ids=[*LOSSES, *PASSES],
)
def test_loss_and_gradients_are_trls(
    make_case: MakeCase, base_model: Path, tmp_path: Path, dpo: DpoConfig, tokens: int | None
) -> None:
    expected, their_gradients = trls(base_model, tmp_path / "trl", dpo)
    found, our_gradients = ours(make_case(rows=ROWS, method=Method.DPO), base_model, tmp_path, dpo, tokens)
    assert found == pytest.approx(expected, abs=1e-5)
    assert torch.allclose(our_gradients, their_gradients, atol=1e-4)
    assert their_gradients.abs().max() > 1e-2


def preferred(found: Any, tokenizer: Any) -> list[float]:
    """By how much a model finds each chosen answer likelier than the rejected one, in nats."""
    gaps = []
    for row in ROWS:
        likely = []
        for answer in ("chosen", "rejected"):
            asked = tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True, tokenize=False)
            whole = tokenizer.apply_chat_template(row["prompt"] + row[answer], tokenize=False)
            ids, start = tokenizer(whole)["input_ids"], len(tokenizer(asked)["input_ids"])
            with torch.no_grad():
                told = found(torch.tensor([ids])).logits[0].log_softmax(-1)
            likely.append(sum(float(told[at - 1, ids[at]]) for at in range(start, len(ids))))
        gaps.append(likely[0] - likely[1])
    return gaps


def trained(case: Case, base: Path) -> Any:
    artifact = case.workspace.artifact
    if case.config.training.adapter.type == AdapterType.LORA:
        return PeftModel.from_pretrained(model(base, moved=False), artifact)
    whole = artifact / "merged" if case.config.training.adapter.type == AdapterType.DORA else artifact
    return AutoModelForCausalLM.from_pretrained(whole, dtype=torch.float32)


@pytest.mark.parametrize(
    "adapter", [LORA, AdapterConfig(type=AdapterType.DORA, rank=8), EVERYTHING], ids=["lora", "dora", "full"]
)
def test_chosen_answers_become_likelier_than_they_were_and_progress_says_so(
    make_case: MakeCase, recorder: Recorder, base_model: Path, adapter: AdapterConfig
) -> None:
    case = make_case(rows=ROWS * 3, validation=ROWS, method=Method.DPO, adapter=adapter, total_steps=STEPS)

    result = train(case.config, case.workspace, recorder)

    # Before the first step nothing is preferred to anything: the loss is that of guessing, but for rounding.
    assert recorder.values("loss")[0] == pytest.approx(math.log(2), abs=0.01)
    assert recorder.values("validation_loss")[-1] < 0.5
    assert recorder.values("validation_reward_accuracy")[-1] == 1.0
    last = metrics(case)[-1]
    assert (last["rewardAccuracy"], last["validationRewardAccuracy"]) == (1.0, 1.0)
    assert last["validationRewardMargin"] > 0
    learned = rows.load(case.workspace).train
    tokens = sum(len(row["input_ids"]) + len(row["other_input_ids"]) for row in learned)
    assert result.usage.trained_tokens == tokens * STEPS * 4 // len(learned)
    tokenizer = AutoTokenizer.from_pretrained(base_model)
    before = preferred(model(base_model, moved=False), tokenizer)
    after = preferred(trained(case, base_model), tokenizer)
    assert all(late > early for early, late in zip(before, after, strict=True))


def test_what_the_base_model_makes_of_the_pairs_is_kept_for_the_run_that_goes_on(make_case: MakeCase) -> None:
    case = make_case(rows=ROWS, method=Method.DPO, total_steps=1)
    kept = case.workspace.checkpoints / "reference-train.npy"
    # As of a base model that finds the chosen answers far likelier: they would have to become likelier still.
    numpy.save(kept, numpy.array([[0.0, -99.0]] * len(ROWS), numpy.float32))
    recorder = Recorder()
    train(case.config, case.workspace, recorder)
    assert recorder.values("loss")[0] > 1
    assert not kept.exists()
