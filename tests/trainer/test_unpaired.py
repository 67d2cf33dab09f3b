"""Answers that are good or bad by themselves: the loss is TRL's, good ones become likelier and bad ones less so."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from finetune_trainer.contract.config import KtoConfig, Method
from finetune_trainer.training import flat, rows
from finetune_trainer.training.preference_trainer import PreferenceTrainer
from finetune_trainer.training.unpaired_trainer import UnpairedTrainer
from test_preference import MIXED, arguments, gradients, model
from test_preference import ROWS as PAIRS
from test_resume import killed_ends_as
from trainings import Case, MakeCase, Recorder
from transformers import AutoTokenizer, TrainingArguments
from trl import KTOConfig, KTOTrainer

ROWS: list[dict[str, Any]] = [
    {"prompt": pair["prompt"], "completion": pair[answer], "label": answer == "chosen"}
    for pair in PAIRS
    for answer in ("chosen", "rejected")
]
KTO = KtoConfig(beta=0.3, desirable_weight=1.5, undesirable_weight=0.5)


def turned(pair: dict[str, Any]) -> dict[str, Any]:
    return pair | {"chosen": pair["rejected"], "rejected": pair["chosen"]}


def trls(base: Path, directory: Path) -> tuple[float, torch.Tensor]:
    options = arguments(directory) | {"per_device_train_batch_size": len(ROWS)}
    found = KTOTrainer(
        model(base, moved=True),
        model(base, moved=False),
        KTOConfig(**options, beta=KTO.beta, desirable_weight=1.5, undesirable_weight=0.5),
        train_dataset=Dataset.from_list(ROWS),
        processing_class=AutoTokenizer.from_pretrained(base),
    )
    batch = found.data_collator([found.train_dataset[number] for number in range(len(ROWS))])
    loss = found.compute_loss(found.model, batch)
    loss.backward()
    # Or how far the model has moved would have no part in this.
    assert found._metrics["eval"]["kl"][0] > 0
    return loss.item(), gradients(found.model)


def ours(case: Case, base: Path, directory: Path, tokens: int | None) -> tuple[float, torch.Tensor]:
    started = model(base, moved=False)
    if tokens:
        assert flat.attends_to_each_row(started)
    options = arguments(directory) | {"per_device_train_batch_size": len(ROWS)}
    found = UnpairedTrainer(
        tokens,
        KTO,
        order=range(len(ROWS)),
        kept=directory,
        model=started,
        args=TrainingArguments(**options, remove_unused_columns=False),
        train_dataset=rows.load(case.workspace).train,
        processing_class=AutoTokenizer.from_pretrained(base),
    )
    found.model.load_state_dict(model(base, moved=True).state_dict())
    batch = found.data_collator([found.train_dataset[number] for number in range(len(ROWS))])
    loss = found.training_step(found.model, batch)
    return loss.item(), gradients(found.model)


@pytest.mark.parametrize("tokens", [512, 50, None], ids=["whole", "passes", "rows"])
def test_loss_and_gradients_are_trls(make_case: MakeCase, base_model: Path, tmp_path: Path, tokens: int | None) -> None:
    expected, their_gradients = trls(base_model, tmp_path / "trl")
    found, our_gradients = ours(make_case(rows=ROWS, method=Method.KTO), base_model, tmp_path, tokens)
    assert found == pytest.approx(expected, abs=1e-5)
    assert torch.allclose(our_gradients, their_gradients, atol=1e-4)
    assert their_gradients.abs().max() > 1e-2


@pytest.mark.parametrize(
    ("found", "given", "method", "kind"),
    [
        (UnpairedTrainer, ROWS, Method.KTO, KTO),
        # Chosen answers of one word, and of three.
        (PreferenceTrainer, [*PAIRS, *map(turned, PAIRS[:1])], Method.DPO, MIXED),
    ],
    ids=["unpaired", "pairs"],
)
def test_a_validation_comes_to_the_same_in_batches_of_any_size(
    make_case: MakeCase, base_model: Path, tmp_path: Path, found: Any, given: Any, method: Method, kind: Any
) -> None:
    learned = rows.load(make_case(rows=given, method=method).workspace).train
    losses = []
    # One row at a time, with one that is left over, and all at once.
    for together in (1, 2, len(given)):
        (directory := tmp_path / str(together)).mkdir()
        options = arguments(directory) | {"per_device_eval_batch_size": together, "remove_unused_columns": False}
        trainer = found(
            None,
            kind,
            order=range(len(given)),
            kept=directory,
            model=model(base_model, moved=False),
            args=TrainingArguments(**options),
            train_dataset=learned,
            eval_dataset=learned,
            processing_class=AutoTokenizer.from_pretrained(base_model),
        )
        trainer.model.load_state_dict(model(base_model, moved=True).state_dict())
        losses.append(trainer.evaluate()["eval_loss"])
    assert losses == pytest.approx([losses[0]] * 3, abs=1e-6)


@pytest.mark.parametrize(
    ("options", "begins"),
    [
        # A preference begins at ln 2, and here what likelihood costs comes on top.
        ({"method": Method.DPO, "rows": PAIRS * 3, "validation": PAIRS, "dpo": MIXED}, (0.69, math.inf)),
        ({"method": Method.KTO, "rows": ROWS * 2, "validation": ROWS}, (0.49, 0.51)),
    ],
    ids=["pairs", "unpaired"],
)
def test_good_answers_are_told_from_bad_ones_and_a_killed_run_ends_the_same(
    make_case: MakeCase, recorder: Recorder, options: dict[str, Any], begins: tuple[float, float]
) -> None:
    killed_ends_as(make_case("whole", **options), make_case("killed", **options), recorder)
    assert begins[0] < recorder.values("loss")[0] < begins[1]
    assert recorder.values("validation_loss")[-1] < 0.4
    assert recorder.values("validation_reward_accuracy")[-1] == 1.0
