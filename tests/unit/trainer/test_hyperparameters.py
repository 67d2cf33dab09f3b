"""The plan: what is chosen when the manifest leaves it out, what the user gives stays, and why is said."""

from dataclasses import replace
from typing import Any

import pytest
from finetune_trainer.contract.config import AdapterConfig, AdapterType, Method, TrainingConfig
from finetune_trainer.contract.outcome import Outcome, StageError
from finetune_trainer.contract.results import Plan
from finetune_trainer.data.base import ModelFigures
from finetune_trainer.training import hyperparameters, schedule
from finetune_trainer.training.activations import BFLOAT16, FLOAT32
from finetune_trainer.training.hyperparameters import TrainCounts, epochs
from finetune_trainer.training.memory import GIB, PASS_TOKENS, UNKNOWN, Device
from hypothesis import given
from hypothesis import strategies as st

SMOLLM2 = ModelFigures(134_515_008, 8192, 576, 30, 49_152, intermediate_size=1536, query_size=576, key_value_size=192)
LLAMA_8B = ModelFigures(8_030_261_248, 131_072, 4096, 32, 128_256, 14_336, query_size=4096, key_value_size=1024)
RECIPES = TrainCounts(count=290, tokens=22_176, learned=8_000, longest=117)
LAPTOP = Device(16 * GIB, 0, FLOAT32)
FULL = AdapterConfig(type=AdapterType.NONE)


def training(**fields: Any) -> TrainingConfig:
    return TrainingConfig(**fields)


def choose(training: TrainingConfig, counts: TrainCounts, model: ModelFigures, device: Device = UNKNOWN) -> Plan:
    return hyperparameters.choose(training, counts, model, device)


def test_that_devices_divide_the_weights_is_told_with_its_reason() -> None:
    many = Device(80 * GIB, 8, BFLOAT16)
    found = hyperparameters.choose(training(adapter=FULL), RECIPES, LLAMA_8B, many)
    why = "8 devices divide weights, gradients and moments among them, since one can't hold them"
    assert found.reasons["sharding"] == why
    assert "sharding" not in choose(training(), RECIPES, LLAMA_8B, many).reasons


def test_the_smallest_manifest_gets_a_plan_with_reasons() -> None:
    plan = choose(training(), RECIPES, SMOLLM2, LAPTOP)
    assert (plan.batch_size, plan.tokens_per_pass, plan.max_length) == (8, 936, 128)
    assert (plan.learning_rate, plan.total_steps, plan.context_length) == (3.9e-4, 109, 2048)
    assert plan.estimated_trained_tokens == pytest.approx(3 * RECIPES.tokens, rel=0.01)
    assert plan.reasons == {
        "maxLength": "the longest row has 117 tokens",
        "batchSize": "it makes 37 steps an epoch of 290 rows",
        "totalSteps": "3 epochs are usual for 290 rows",
        "learningRate": "usual for an adapter of a model with 135 million parameters",
        "tokensPerPass": "all rows of a step pass through the model together, one behind the other, without padding",
        "contextLength": "room for twice the longest trained row, and for a conversation",
    }


def test_what_the_user_gives_is_used_and_needs_no_reason() -> None:
    given = training(epochs=2, learning_rate=1e-5, batch_size=10, max_length=64)
    plan = choose(given, RECIPES, SMOLLM2)
    assert (plan.batch_size, plan.max_length, plan.learning_rate, plan.total_steps) == (10, 64, 1e-5, 58)
    assert plan.reasons.keys() == {"tokensPerPass", "contextLength"}


@pytest.mark.parametrize(("devices", "size"), [(1, 8), (2, 8), (3, 9), (6, 12), (16, 16)])
def test_the_devices_that_will_train_can_share_the_chosen_batch(devices: int, size: int) -> None:
    plan = choose(training(), RECIPES, SMOLLM2, Device(None, devices, BFLOAT16))
    assert plan.batch_size == size
    schedule.check_shared(plan.batch_size, devices)
    assert ("devices share it evenly" in plan.reasons["batchSize"]) is (devices > 1)


def test_pairs_are_learned_at_a_twentieth_of_the_rate_and_pass_through_the_model_together() -> None:
    plan = choose(training(method=Method.DPO), RECIPES, SMOLLM2)
    assert plan.learning_rate == pytest.approx(choose(training(), RECIPES, SMOLLM2).learning_rate / 20, rel=0.05)
    assert plan.tokens_per_pass == 8 * 2 * RECIPES.longest
    given = training(method=Method.DPO, max_length=PASS_TOKENS)
    long = choose(given, replace(RECIPES, longest=PASS_TOKENS), LLAMA_8B)
    assert long.tokens_per_pass == 2 * long.max_length


def test_max_steps_are_the_steps() -> None:
    plan = choose(training(max_steps=7), RECIPES, SMOLLM2)
    assert plan.total_steps == 7
    assert "totalSteps" not in plan.reasons


@pytest.mark.parametrize(
    ("rows", "expected"), [(1, 25), (4, 25), (10, 10), (33, 3), (34, 3), (8333, 3), (10_000, 2), (50_000, 1)]
)
def test_few_rows_are_seen_more_often_and_many_less(rows: int, expected: float) -> None:
    assert epochs(rows) == expected


def test_smaller_models_and_adapters_learn_faster() -> None:
    rates = [
        choose(training(adapter=adapter), RECIPES, model).learning_rate
        for model, adapter in (
            (LLAMA_8B, FULL),
            (SMOLLM2, FULL),
            (LLAMA_8B, AdapterConfig()),
            (SMOLLM2, AdapterConfig()),
        )
    ]
    assert rates == [1e-5, 3.9e-5, 1e-4, 3.9e-4]


def test_a_row_longer_than_is_chosen_is_said_to_be_cut() -> None:
    plan = choose(training(), TrainCounts(count=10, tokens=100_000, learned=50_000, longest=90_000), LLAMA_8B)
    assert plan.max_length == 4096
    assert plan.reasons["maxLength"] == "the longest row has 90000 tokens; more than 4096 is not chosen for this model"


def test_a_length_beyond_the_models_context_is_refused() -> None:
    with pytest.raises(StageError) as error:
        choose(training(max_length=8193), RECIPES, SMOLLM2)
    assert error.value.outcome == Outcome.CONFIG_INVALID
    assert error.value.message == (
        "training.maxLength 8193 is longer than the model's context of 8192 tokens: choose 8192 or less, or leave it "
        "out."
    )


def test_memory_grows_with_what_is_trained() -> None:
    memory = [
        choose(training(adapter=adapter, batch_size=1, max_length=128), RECIPES, SMOLLM2).estimated_memory_bytes
        for adapter in (AdapterConfig(rank=8), AdapterConfig(rank=64), FULL)
    ]
    assert memory == sorted(memory)
    # Weights, gradients and two moments in float32, at least.
    assert memory[-1] > 16 * SMOLLM2.parameters


@given(
    count=st.integers(1, 10**7),
    mean=st.integers(1, 10**4),
    longest=st.integers(1, 10**6),
    model=st.sampled_from([SMOLLM2, LLAMA_8B, ModelFigures(10**3, 64, 8, 1, 100, 32, 8, 8)]),
    fields=st.fixed_dictionaries(
        {},
        optional={
            "batch_size": st.integers(1, 5000),
            "max_length": st.integers(1, 64),
            "epochs": st.floats(0.001, 100),
            "adapter": st.sampled_from([AdapterConfig(), FULL]),
        },
    ),
)
def test_every_plan_can_be_carried_out(
    count: int, mean: int, longest: int, model: ModelFigures, fields: dict[str, Any]
) -> None:
    plan = choose(training(**fields), TrainCounts(count, count * min(mean, longest), count, longest), model)
    assert 1 <= plan.max_length <= plan.context_length <= model.context_length
    assert min(plan.max_length, longest) <= plan.tokens_per_pass <= max(PASS_TOKENS, plan.max_length)
    assert plan.total_steps >= 1
    assert 0 < plan.learning_rate < 0.1
    assert plan.estimated_memory_bytes > 4 * model.parameters
