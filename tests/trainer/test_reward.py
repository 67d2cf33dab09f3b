"""Reward models: the loss is TRL's, chosen answers get the higher number, and what is published tells it."""

from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from finetune_trainer.contract.config import Method, RewardConfig
from finetune_trainer.contract.results import TrainResult
from finetune_trainer.stages.train import train
from finetune_trainer.training import flat, rows
from finetune_trainer.training.build import Beside
from finetune_trainer.training.model import judging
from finetune_trainer.training.reward_trainer import RewardTrainer
from test_preference import ROWS, arguments, gradients
from test_resume import EVERYTHING, killed_ends_as, metrics
from trainings import STEPS, Case, MakeCase, Recorder
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel, TrainingArguments
from trl import RewardConfig as TrlConfig
from trl import RewardTrainer as TrlTrainer


def model(base: Path) -> PreTrainedModel:
    torch.manual_seed(9)
    found = judging(base, torch.float32)
    # Far from zero, or every loss would be the same.
    found.score.weight.data.normal_(std=0.5)
    return found


def trls(base: Path, directory: Path, reward: RewardConfig) -> tuple[float, torch.Tensor]:
    coefficient = reward.center_rewards_coefficient
    found = TrlTrainer(
        model(base),
        TrlConfig(**arguments(directory), center_rewards_coefficient=coefficient),
        train_dataset=Dataset.from_list(ROWS),
        processing_class=AutoTokenizer.from_pretrained(base),
    )
    batch = found.data_collator([found.train_dataset[number] for number in range(len(ROWS))])
    loss = found.compute_loss(found.model, batch)
    loss.backward()
    return loss.item(), gradients(found.model)


def ours(case: Case, base: Path, directory: Path, reward: RewardConfig, tokens: int | None) -> Any:
    started = model(base)
    if tokens:
        assert flat.attends_to_each_row(started)
    found = RewardTrainer(
        tokens,
        reward,
        model=started,
        args=TrainingArguments(**arguments(directory), remove_unused_columns=False),
        train_dataset=rows.load(case.workspace).train,
        processing_class=AutoTokenizer.from_pretrained(base),
    )
    batch = found.data_collator([found.train_dataset[number] for number in range(len(ROWS))])
    loss = found.training_step(found.model, batch)
    return loss.item(), gradients(found.model)


CENTRED = RewardConfig(center_rewards_coefficient=0.1)


# All at once, two pairs or one at a time, and row by row.
@pytest.mark.parametrize(
    ("reward", "tokens"),
    [(RewardConfig(), 512), (CENTRED, 512), (CENTRED, 70), (CENTRED, 1), (CENTRED, None)],
    ids=["plain", "whole", "two pairs", "pairs", "rows"],
)
def test_loss_and_gradients_are_trls(
    make_case: MakeCase, base_model: Path, tmp_path: Path, reward: RewardConfig, tokens: int | None
) -> None:
    expected, their_gradients = trls(base_model, tmp_path / "trl", reward)
    found, our_gradients = ours(make_case(rows=ROWS, method=Method.REWARD), base_model, tmp_path, reward, tokens)
    assert found == pytest.approx(expected, abs=1e-5)
    assert torch.allclose(our_gradients, their_gradients, atol=1e-4)
    assert their_gradients.abs().max() > 1e-2


def rewards(whole: Path) -> list[list[float]]:
    """What the published model says of each pair, padded in one batch, as its users ask it."""
    judge = AutoModelForSequenceClassification.from_pretrained(whole, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(whole)
    chats = [row["prompt"] + row[answer] for row in ROWS for answer in ("chosen", "rejected")]
    texts = [tokenizer.apply_chat_template(chat, tokenize=False) for chat in chats]
    with torch.no_grad():
        found = judge(**tokenizer(texts, return_tensors="pt", padding=True, padding_side="right")).logits
    pairs: list[list[float]] = found.view(-1, 2).tolist()
    return pairs


def test_from_what_is_published_chosen_answers_get_the_higher_number(make_case: MakeCase) -> None:
    case = make_case(rows=ROWS * 3, method=Method.REWARD, adapter=EVERYTHING, total_steps=STEPS)
    train(case.config, case.workspace, Recorder())
    assert all(chosen > rejected for chosen, rejected in rewards(case.workspace.artifact))


def test_so_they_do_from_an_adapter_merged_with_its_base_and_a_killed_run_ends_the_same(
    make_case: MakeCase, recorder: Recorder
) -> None:
    options = {"rows": ROWS * 3, "validation": ROWS, "method": Method.REWARD, "total_steps": STEPS}
    whole = make_case("whole", **options)
    killed_ends_as(whole, make_case("killed", **options), recorder)

    result = TrainResult.model_validate_json(whole.workspace.trained.read_bytes())
    assert recorder.values("validation_loss")[-1] < 0.1 < recorder.values("loss")[0]
    assert metrics(whole)[-1]["validationRewardAccuracy"] == result.validation_reward_accuracy == 1.0
    assert all(chosen > rejected for chosen, rejected in rewards(whole.workspace.artifact / "merged"))
    card = (whole.workspace.artifact / "README.md").read_text()
    assert "pipeline_tag: text-classification" in card
    assert 'AutoModelForSequenceClassification.from_pretrained("merged")' in card
    assert "vllm serve merged --served-model-name colours --runner pooling" in card


def test_each_of_those_that_are_kept_has_the_model_that_it_is_served_as(make_case: MakeCase) -> None:
    case = make_case(rows=ROWS * 3, validation=ROWS, method=Method.REWARD, total_steps=STEPS, learning_rate=1e-3)

    result = train(case.config, case.workspace, Recorder(), Beside(keep=2))

    best, second = (checkpoint.step for checkpoint in result.checkpoints)
    margins = {row["step"]: row["validationRewardMargin"] for row in metrics(case) if "validationLoss" in row}
    assert margins[best] > 1.1 * margins[second]
    for step, place in ((best, case.workspace.artifact), (second, case.workspace.checkpoint(second))):
        gaps = [chosen - rejected for chosen, rejected in rewards(place / "merged")]
        assert sum(gaps) / len(gaps) == pytest.approx(margins[step], rel=0.05)
