"""What the libraries' errors during training mean to the user."""

import errno
from pathlib import Path

import pytest
from finetune_trainer.contract.config import (
    AdapterConfig,
    AdapterType,
    DatasetConfig,
    ModelConfig,
    RunConfig,
    Source,
    TrainingConfig,
)
from finetune_trainer.contract.outcome import Outcome
from finetune_trainer.training import failures


def config(adapter: AdapterType) -> RunConfig:
    source = Source(uri="hf://example/tiny")
    training = TrainingConfig(adapter=AdapterConfig(type=adapter))
    return RunConfig(
        name="job",
        revision="0a1b2c3d",
        model=ModelConfig(source=source),
        dataset=DatasetConfig(train=source),
        training=training,
    )


def test_out_of_memory_says_what_was_too_much_and_what_to_lower() -> None:
    found = failures.out_of_memory(config(AdapterType.LORA), 2048, 512, "NVIDIA H100", 80 * failures.GIB)

    assert found.outcome == Outcome.OUT_OF_MEMORY
    assert found.message == (
        "NVIDIA H100 ran out of its 80 GiB of memory, training up to 2048 tokens at once: lower "
        "training.batchSize, lower training.maxLength (it was 512), or ask for an accelerator with more memory."
    )


def test_out_of_memory_with_one_row_leaves_the_batch_alone_and_offers_an_adapter() -> None:
    message = failures.out_of_memory(config(AdapterType.NONE), 512, 512, "NVIDIA H100", 80 * failures.GIB).message

    assert "training.batchSize" not in message
    assert "train an adapter (training.adapter.type lora)" in message


def test_a_full_volume_is_told_with_its_size() -> None:
    found = failures.workspace_full(Path("/workspace"), 5 * failures.GIB)

    assert found.outcome == Outcome.WORKSPACE_FULL
    assert found.message == "The workspace volume at /workspace is full (5.0 GiB): raise workspace.size."


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (OSError(errno.ENOSPC, "no space"), True),
        (OSError(errno.EDQUOT, "quota"), True),
        (FileNotFoundError(errno.ENOENT, "none"), False),
        (RuntimeError("a fault of another kind"), False),
    ],
)
def test_only_a_want_of_space_is_a_full_volume(tmp_path: Path, error: Exception, full: bool) -> None:
    assert failures.is_full(error, tmp_path) == full


def test_a_full_volume_is_seen_behind_what_a_library_made_of_it(tmp_path: Path) -> None:
    behind = ValueError("I/O operation on closed file")
    behind.__context__ = OSError(errno.ENOSPC, "no space")

    assert failures.is_full(behind, tmp_path)
