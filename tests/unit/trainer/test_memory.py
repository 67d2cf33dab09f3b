"""What a training takes of memory, what is chosen for it, and what is said where it can't be."""

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from finetune_trainer.contract.config import AdapterConfig, AdapterType, Sharding
from finetune_trainer.contract.outcome import Outcome, StageError
from finetune_trainer.data.base import ModelFigures
from finetune_trainer.training import activations, attempts, failures, host
from finetune_trainer.training.activations import BFLOAT16, FLOAT32
from finetune_trainer.training.attempts import Attempt
from finetune_trainer.training.memory import (
    GIB,
    PASS_TOKENS,
    Device,
    Pass,
    TokenLoad,
    TrainingFootprint,
    divided,
    refusal,
)
from hypothesis import given
from hypothesis import strategies as st

LLAMA_8B = ModelFigures(8_030_261_248, 131_072, 4096, 32, 128_256, 14_336, query_size=4096, key_value_size=1024)
SMOLLM2 = ModelFigures(134_515_008, 8192, 576, 30, 49_152, intermediate_size=1536, query_size=576, key_value_size=192)
LOAD = TokenLoad(longest=512, step=16 * 512, learned=0.3)


def training(
    kind: str = "lora", model: ModelFigures = LLAMA_8B, gib: float | None = 80, **load: Any
) -> TrainingFootprint:
    """One on an accelerator."""
    device = Device(None if gib is None else int(gib * GIB), 1, BFLOAT16)
    return TrainingFootprint(model, AdapterConfig(type=AdapterType(kind)), device, replace(LOAD, **load))


@pytest.mark.parametrize(
    ("kind", "least", "most"),
    # 8 billion weights in two bytes, in half a byte with two for embeddings and output, and in sixteen with moments.
    [("lora", 16, 19), ("qlora", 7, 10), ("none", 120, 150)],
)
def test_an_8b_model_takes_what_its_weights_do_and_little_more(kind: str, least: int, most: int) -> None:
    found = training(kind)
    assert least < found.memory(found.least) / GIB < most


SAVED = ("embed_tokens", "lm_head")


def saving(found: TrainingFootprint) -> TrainingFootprint:
    return replace(found, adapter=found.adapter.model_copy(update={"modules_to_save": SAVED}))


def test_modules_that_are_trained_as_a_whole_take_what_full_fine_tuning_of_them_does() -> None:
    plain, whole = training(), saving(training())
    # A copy, its gradients and two moments in float32; and the short copy of autocast.
    expected = (4 * 4 + 2) * 2 * LLAMA_8B.vocabulary * LLAMA_8B.hidden_size
    assert whole.memory(whole.least) - plain.memory(plain.least) == pytest.approx(expected, rel=0.1)


def test_where_they_are_too_much_it_says_that_without_them_it_would_fit() -> None:
    refused = refusal(saving(training(gib=32)))
    assert refused is not None
    assert "no training.adapter.modulesToSave (" in refused.message
    assert "qlora" not in refused.message
    assert "remove training.adapter.modulesToSave" in failures.remedy(saving(training(gib=32)))


def on_cpus(found: TrainingFootprint) -> TrainingFootprint:
    return replace(found, device=replace(found.device, accelerators=0))


@pytest.mark.parametrize(
    "merged",
    [training("dora"), saving(training()), training(writes=False)],
    ids=["DoRA", "modules as a whole", "a reward model"],
)
def test_a_whole_model_that_is_written_stands_beside_the_one_that_trains(merged: TrainingFootprint) -> None:
    found = on_cpus(merged)
    # Of a reward model without the output layer, which is one of fifteen.
    assert found.memory(found.least) / GIB > 2 * 14
    lora = on_cpus(training())
    assert lora.memory(lora.least) / GIB < 20


def test_four_bits_are_no_advice_to_a_reward_model() -> None:
    rates = training(gib=12, writes=False)
    refused = refusal(rates)
    assert refused is not None
    assert "qlora" not in refused.message + failures.remedy(rates)


def test_a_reward_model_makes_no_logits() -> None:
    writes, rates = (training(model=SMOLLM2, learned=1, writes=each) for each in (True, False))
    # 8,192 tokens' worth of 49,152 numbers in float32, three at once, in place of what a block's way back holds.
    assert writes.memory(Pass(8192, recompute=True)) - rates.memory(Pass(8192, recompute=True)) > 4 * GIB


def test_activations_are_recomputed_only_where_memory_is_short() -> None:
    chosen = {gib: training(gib=gib).chosen for gib in (16, 24, 40, 141)}
    assert chosen[16] is None
    assert chosen[24] is not None
    assert chosen[24].recompute
    assert chosen[141] == Pass(LOAD.step, recompute=False)


@given(
    kind=st.sampled_from(list(AdapterType)),
    model=st.sampled_from([LLAMA_8B, SMOLLM2]),
    gib=st.floats(0.5, 300),
    longest=st.integers(1, 8192),
    rows=st.integers(1, 64),
    learned=st.floats(0.01, 1),
)
def test_what_is_chosen_fits_and_takes_the_longest_row(
    kind: AdapterType, model: ModelFigures, gib: float, longest: int, rows: int, learned: float
) -> None:
    found = training(kind, model, gib, longest=longest, step=longest * rows, learned=learned)
    chosen = found.chosen
    if chosen is None:
        assert found.memory(found.least) > found.device.usable
        assert refusal(found) is not None
        return
    assert refusal(found) is None
    assert found.memory(chosen) <= found.device.usable
    assert longest <= chosen.tokens <= max(PASS_TOKENS, longest)
    smaller = found.smaller(chosen)
    assert smaller is None or found.memory(smaller) < found.memory(chosen)


QWEN2_7B = ModelFigures(7_615_616_512, 32_768, 3584, 28, 152_064, 18_944, query_size=3584, key_value_size=512)
# Its embeddings are its output layer.
GEMMA_2B = ModelFigures(2_506_172_416, 8192, 2048, 18, 256_000, 16_384, query_size=2048, key_value_size=256)
SHAPES = pytest.mark.parametrize("model", [LLAMA_8B, QWEN2_7B, GEMMA_2B], ids=["llama", "qwen2", "gemma"])
KINDS = pytest.mark.parametrize("kind", ["qlora", "lora", "none"])
DEVICES = pytest.mark.parametrize("accelerators", [0, 1], ids=["on CPUs", "on an accelerator"])
# So many that activations outweigh the gradients of the largest embeddings, which fewer would hide behind.
TOKENS = (2048, 4096, 8192, 16_384)


def grid(kind: str, model: ModelFigures, accelerators: int, rank: int = 16) -> TrainingFootprint:
    found = training(kind, model, learned=1, step=64 * 2048)
    adapter = found.adapter.model_copy(update={"rank": rank})
    return replace(found, adapter=adapter, device=replace(found.device, accelerators=accelerators))


@SHAPES
@KINDS
@DEVICES
@pytest.mark.parametrize("recompute", [False, True], ids=["kept", "recomputed"])
def test_more_tokens_at_once_take_more(kind: str, model: ModelFigures, accelerators: int, recompute: bool) -> None:
    """Each the same: at the least its logits, their logarithms and gradients."""
    found = grid(kind, model, accelerators)
    taken = [found.memory(Pass(tokens, recompute)) for tokens in TOKENS]
    added = [more - less for less, more in itertools.pairwise(taken)]
    assert [each / added[0] for each in added] == pytest.approx([1, 2, 4], rel=0.01)
    assert added[0] > 2048 * 3 * 4 * model.vocabulary


@SHAPES
@KINDS
@DEVICES
@pytest.mark.parametrize("tokens", TOKENS)
def test_recomputed_activations_take_less(kind: str, model: ModelFigures, accelerators: int, tokens: int) -> None:
    found = grid(kind, model, accelerators)
    assert found.memory(Pass(tokens, recompute=True)) < found.memory(Pass(tokens, recompute=False))


@SHAPES
@DEVICES
@pytest.mark.parametrize("recompute", [False, True], ids=["kept", "recomputed"])
@pytest.mark.parametrize("tokens", TOKENS)
def test_four_bits_take_less_than_an_adapter_and_that_less_than_everything(
    model: ModelFigures, accelerators: int, recompute: bool, tokens: int
) -> None:
    qlora, lora, none = (
        grid(kind, model, accelerators).memory(Pass(tokens, recompute)) for kind in ("qlora", "lora", "none")
    )
    assert qlora < lora < none
    # In bfloat16 a weight has two bytes, of QLoRA half a one; embeddings and output layer stay as they were.
    linear = model.layers * activations.linear_parameters(model)
    assert lora - qlora == pytest.approx(1.484 * linear, rel=0.01)


@SHAPES
@DEVICES
@pytest.mark.parametrize("kind", ["qlora", "lora"])
def test_a_higher_rank_takes_its_weights_gradients_and_moments(
    model: ModelFigures, accelerators: int, kind: str
) -> None:
    taken = {rank: grid(kind, model, accelerators, rank).memory(Pass(512, recompute=True)) for rank in (8, 16, 64, 256)}
    assert list(taken.values()) == sorted(set(taken.values()))
    more = activations.adapter_parameters(model, AdapterConfig(rank=256 - 64))
    assert 16 * more < taken[256] - taken[64] < 18 * more


@pytest.mark.parametrize("kind", ["lora", "none"])
@DEVICES
def test_a_reward_model_is_counted_without_its_output_layer(kind: str, accelerators: int) -> None:
    """Where the embeddings are that, nothing is left out."""
    differences = []
    for model in (QWEN2_7B, GEMMA_2B):
        rates = grid(kind, model, accelerators)
        whole, rating = (replace(rates, load=replace(rates.load, writes=each))._weights for each in (True, False))
        differences.append(whole - rating)
    bytes_each = {"lora": 2, "none": 4}[kind]
    assert differences == [bytes_each * QWEN2_7B.vocabulary * QWEN2_7B.hidden_size, 0]


def test_what_can_not_fit_is_refused_with_what_would_in_numbers() -> None:
    found = refusal(training("lora", gib=16))
    assert found is not None
    assert found.outcome == Outcome.OUT_OF_MEMORY
    assert "an accelerator has 16.0 GiB, of which 14.4 GiB are planned with" in found.message
    assert "What would fit: training.adapter.type qlora (" in found.message
    assert "or an accelerator with 20 GiB or more." in found.message


def test_what_full_fine_tuning_has_no_room_for_an_adapter_may_have() -> None:
    found = refusal(training("none"))
    assert found is not None
    assert "training.adapter.type lora (" in found.message
    assert "training.adapter.type qlora (" in found.message


def test_a_row_that_is_too_long_may_be_cut() -> None:
    found = refusal(training("qlora", gib=12, longest=65_536, step=65_536))
    assert found is not None
    assert "What would fit: training.maxLength 2048 (" in found.message


def test_on_cpus_it_is_the_memory_limit_that_can_be_raised() -> None:
    found = refusal(TrainingFootprint(LLAMA_8B, AdapterConfig(), Device(8 * GIB, 0, FLOAT32), LOAD))
    assert found is not None
    assert "training.resources.limits.memory of " in found.message


def on(count: int, gib: float, kind: str = "none") -> TrainingFootprint:
    device = Device(int(gib * GIB), count, BFLOAT16)
    return TrainingFootprint(LLAMA_8B, AdapterConfig(type=AdapterType(kind)), device, LOAD)


@pytest.mark.parametrize(
    ("wanted", "found", "sharded"),
    [
        # 16 bytes a weight are 120 GiB, and several devices have 30 more to join gradients in.
        (Sharding.AUTO, on(8, 80), True),
        (Sharding.AUTO, on(8, 200), False),
        (Sharding.FULL, on(8, 200), True),
        (Sharding.NONE, on(8, 80), False),
        (Sharding.AUTO, on(1, 80), False),
        (Sharding.AUTO, on(8, 12, "lora"), False),
    ],
)
def test_devices_divide_the_weights_where_one_can_not_hold_them(
    wanted: Sharding, found: TrainingFootprint, sharded: bool
) -> None:
    assert divided(found, wanted).sharded is sharded


def test_each_device_takes_its_share_of_weights_gradients_and_moments() -> None:
    taken = {count: (found := divided(on(count, 80), Sharding.FULL)).memory(found.least) / GIB for count in (8, 16)}
    assert 15 < taken[8] < 28
    # Half of sixteen bytes a weight, among eight; of gradients there is a little more.
    assert taken[8] - taken[16] == pytest.approx(LLAMA_8B.parameters / GIB, rel=0.03)


def test_what_one_device_can_not_hold_several_may_and_how_many_is_told() -> None:
    one, two = refusal(divided(on(1, 80), Sharding.AUTO)), refusal(divided(on(2, 48), Sharding.AUTO))
    assert one is not None
    assert two is not None
    assert "training.sharding full with 2 accelerators (" in one.message
    assert "training.sharding full with 4 accelerators (" in two.message
    on_cpus = refusal(
        TrainingFootprint(LLAMA_8B, AdapterConfig(type=AdapterType.NONE), Device(100 * GIB, 0, FLOAT32), LOAD)
    )
    assert on_cpus is not None
    assert "training.sharding full with 2 pods (training.nodes) (" in on_cpus.message


def test_what_was_left_whole_may_be_divided() -> None:
    found = refusal(divided(on(8, 80), Sharding.NONE))
    assert found is not None
    assert "training.sharding full with 8 accelerators (" in found.message
    assert "divide the weights among the devices (training.sharding full)" in failures.remedy(on(8, 80))


def test_one_device_has_nothing_to_divide() -> None:
    with pytest.raises(StageError) as failure:
        divided(on(1, 80), Sharding.FULL)
    assert failure.value.outcome == Outcome.CONFIG_INVALID
    assert "this training has one: ask for more in training.resources or training.nodes" in failure.value.message


def test_nothing_is_refused_where_the_memory_is_not_known() -> None:
    assert refusal(training("none", gib=None)) is None


BEGUN = Attempt(memory=80 * GIB, tokens=4096, recompute=False)


def out_of_memory(before: Attempt, found: TrainingFootprint) -> attempts.Ended:
    what = failures.out_of_memory("NVIDIA H100", 80 * GIB)
    return attempts.ran_out(found, before, what, failures.remedy(found))


def test_a_training_takes_the_passes_that_it_began_with_whatever_it_finds() -> None:
    assert attempts.begin(training(gib=141), BEGUN) == BEGUN


def test_out_of_memory_it_tries_half_the_tokens_once() -> None:
    first = out_of_memory(BEGUN, training())
    assert first.error.outcome == Outcome.SMALLER_PASSES
    assert first.error.message == (
        "NVIDIA H100 ran out of its 80 GiB of memory, with up to 4096 tokens at once; the next run goes on from the "
        "last checkpoint with up to 2048 tokens at once."
    )
    assert first.attempt.passes == Pass(2048, recompute=False)
    assert first.attempt.notice == first.error.message
    assert attempts.begin(training(), first.attempt) == first.attempt

    second = out_of_memory(first.attempt, training())
    assert second.error.outcome == Outcome.OUT_OF_MEMORY
    assert second.error.message == (
        f"{first.error.message} NVIDIA H100 ran out of its 80 GiB of memory, with up to 2048 tokens at once: lower "
        "training.maxLength (the longest row has 512 tokens), hold the base model in four bits (training.adapter.type "
        "qlora), or ask for an accelerator with more memory."
    )


def test_passes_of_one_row_recompute_activations_before_that_is_all() -> None:
    smallest = BEGUN.model_copy(update={"tokens": 512})
    assert out_of_memory(smallest, training()).attempt.passes == Pass(512, recompute=True)
    recomputing = smallest.model_copy(update={"recompute": True})
    assert out_of_memory(recomputing, training()).error.outcome == Outcome.OUT_OF_MEMORY


def test_whoever_starts_it_again_gets_another_try_with_less_or_with_more_memory() -> None:
    given_up = out_of_memory(out_of_memory(BEGUN, training()).attempt, training()).attempt
    assert attempts.begin(training(), given_up).passes == Pass(1024, recompute=False)
    assert attempts.begin(training(gib=141), given_up).passes == training(gib=141).chosen


def test_the_containers_limit_goes_before_what_the_machine_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(host, "LIMITS", (limit, tmp_path / "none"))
    machine = host.memory()
    limit.write_text("max\n")
    assert host.memory() == machine > GIB
    limit.write_text(f"{GIB}\n")
    assert host.memory() == GIB


def test_a_mark_stands_from_the_first_moment_while_hardly_any_memory_is_left(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    with host.watched(host.memory(), mark):
        assert not mark.exists()
    with host.watched(1, mark):
        assert int(mark.read_text()) > 1
    assert not mark.exists()


def test_whoever_is_killed_while_the_mark_is_written_again_leaves_a_whole_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "LOOK_SECONDS", 0)
    mark = tmp_path / "mark"
    with host.watched(1, mark):
        assert all(mark.read_text().isdecimal() for _ in range(5000))


def test_prepare_plans_for_what_will_train() -> None:
    assert host.device(2, 80 * GIB, 1) == Device(80 * GIB, 2, BFLOAT16)
    assert host.device(0, None, 1) == Device(host.memory(), 0, FLOAT32)
    assert host.device(None, None, 1).memory is None
