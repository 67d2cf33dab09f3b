"""The trials of a sweep: which there are, and what each of them is told."""

from finetune_trainer.contract.config import (
    AdapterConfig,
    DatasetConfig,
    ModelConfig,
    RunConfig,
    Source,
    SweepConfig,
    TrainingConfig,
)
from finetune_trainer.contract.sweep import count, largest_rank, of_trial, told, trials

RATES, RANKS = (1e-4, 3e-4), (8, 32)


def training(seed: int = 42, max_trials: int = 16, **parameters: tuple[float, ...]) -> TrainingConfig:
    swept = {name.replace("_", "."): values for name, values in parameters.items()}
    return TrainingConfig(sweep=SweepConfig(parameters=swept, max_trials=max_trials), seed=seed)


GRID = training(learningRate=RATES, adapter_rank=RANKS)


def test_every_combination_is_tried_in_the_order_of_names() -> None:
    assert trials(GRID) == (
        {"adapter.rank": 8, "learningRate": 1e-4},
        {"adapter.rank": 8, "learningRate": 3e-4},
        {"adapter.rank": 32, "learningRate": 1e-4},
        {"adapter.rank": 32, "learningRate": 3e-4},
    )


def test_the_order_of_the_manifest_says_nothing() -> None:
    """An API server hands the names back in another one."""
    assert trials(training(adapter_rank=RANKS, learningRate=RATES)) == trials(GRID)


def test_of_more_combinations_a_sample_is_tried_in_their_order() -> None:
    swept = {"learningRate": tuple(each / 1000 for each in range(1, 17)), "batchSize": tuple(range(1, 17))}
    some, whole = trials(training(max_trials=5, **swept)), trials(training(max_trials=256, **swept))
    assert len(some) == len({str(each) for each in some}) == 5
    assert [each for each in whole if each in some] == list(some)
    assert some == trials(training(max_trials=5, **swept))
    assert some != trials(training(max_trials=5, seed=43, **swept))
    assert count(SweepConfig(parameters=swept, max_trials=5)) == 5


def test_a_sample_of_very_many_combinations_is_as_quick() -> None:
    swept = {name: tuple(range(1, 17)) for name in "abcdefg"}
    assert len(trials(training(max_trials=32, **swept))) == 32


def test_a_trial_is_told_what_the_manifest_could_have_said() -> None:
    place = Source(uri="s3://b/train.jsonl")
    adapter = AdapterConfig(target_modules=("q_proj",))
    config = RunConfig(
        name="recipes",
        revision="0a1b2c3d",
        model=ModelConfig(source=Source(uri="hf://org/model")),
        dataset=DatasetConfig(train=place),
        training=GRID.model_copy(update={"adapter": adapter, "epochs": 2.0}),
    )
    alone = TrainingConfig(
        adapter=AdapterConfig(rank=32, target_modules=("q_proj",)), learning_rate=1e-4, epochs=2, seed=42
    )
    assert of_trial(config, 3) == config.model_copy(update={"training": alone})


def test_an_engine_is_ready_for_the_largest_rank() -> None:
    assert largest_rank(GRID) == 32
    assert largest_rank(training(learningRate=RATES)) == largest_rank(TrainingConfig()) == 16


def test_people_read_numbers_as_they_write_them() -> None:
    assert told({"adapter.rank": 32, "learningRate": 3e-4}) == "adapter.rank 32, learningRate 0.0003"
