"""Full fine-tuning whose weights, gradients and moments are divided among devices comes to the model of one device.

Processes on CPUs with gloo stand in for GPUs with NCCL; launcher, trainer and libraries are the real ones.
"""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from finetune_trainer.contract.config import AdapterConfig, AdapterType, Method
from finetune_trainer.contract.outcome import Outcome, StageError
from finetune_trainer.stages.train import train
from finetune_trainer.training import sharding
from finetune_trainer.training.attempts import Attempt
from finetune_trainer.training.launch import Node, launch
from finetune_trainer.training.sharding import SHARES
from safetensors.torch import load_file
from several import workers_until
from torch.testing import assert_close
from trainings import CHATS, Case, MakeCase, Recorder, chat
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

WHOLE = AdapterConfig(type=AdapterType.NONE)
STOPPED = [Outcome.PEER_LOST.exit.code, Outcome.INTERRUPTED.exit.code]
THIRD, TWO_THIRDS = 4, 8
# Rows of unlike length, which come to more passes on one device than on the other.
ROWS = [*CHATS, *(chat("coal " * length, "black") for length in range(1, 13))]
# A row alone, or a few short ones.
PASS = 48


class Stopping(Recorder):
    """A reporter by whom this process is asked to stop, once."""

    def update(self, **fields: Any) -> None:
        super().update(**fields)
        if fields.get("step") == TWO_THIRDS and "eta" in fields:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture
def tied(base_model: Path, tmp_path: Path) -> Path:
    """The base model in float32, whose output layer is its embeddings."""
    path = tmp_path / "tied"
    AutoTokenizer.from_pretrained(base_model).save_pretrained(path)
    config = LlamaConfig.from_pretrained(base_model, tie_word_embeddings=True, dtype="float32")
    LlamaForCausalLM(config).save_pretrained(path)
    return path


def begun(case: Case, tokens: int) -> None:
    """Have a training take passes of so many tokens, as if it had begun so, with activations recomputed."""
    attempt = Attempt(memory=1, tokens=tokens, recompute=True)
    case.workspace.attempt.write_text(attempt.model_dump_json(by_alias=True))


def in_two(case: Case) -> None:
    """Train in two processes that divide the weights."""
    log = case.root / "termination-log"
    places = ["--config", str(case.config_file), "--workspace", str(case.workspace.root), "--status-port", "0"]
    assert launch(2, ["train", *places, "--sharding", "full"], log, Node()) == 0, log.read_text()


def steps(case: Case) -> list[dict[str, float]]:
    rows = (json.loads(line) for line in (case.workspace.artifact / "metrics.jsonl").read_text().splitlines())
    compared = ("step", "loss", "validationLoss", "gradNorm")
    return [{name: row[name] for name in compared if name in row} for row in rows]


def assert_same(found: Case, wanted: Case) -> None:
    """The same course, to rounding, and the same artifact."""
    for ours, theirs in zip(steps(found), steps(wanted), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4)
    ours, theirs = (case.workspace.artifact for case in (found, wanted))
    assert {path.name for path in ours.iterdir()} == {path.name for path in theirs.iterdir()}
    assert (ours / "config.json").read_bytes() == (theirs / "config.json").read_bytes()
    # Sums are of another order, and Adam makes steps of the same length of gradients that are next to nothing.
    assert_close(load_file(ours / "model.safetensors"), load_file(theirs / "model.safetensors"), rtol=1e-4, atol=1e-4)


def test_it_goes_on_with_other_numbers_of_devices_and_ends_with_the_weights_of_one(
    make_case: MakeCase, tied: Path
) -> None:
    plan = {"learning_rate": 1e-3}
    whole, case = (make_case(name, ROWS, CHATS[:8], adapter=WHOLE, base=tied, **plan) for name in ("whole", "divided"))
    for each in (whole, case):
        begun(each, PASS)
    train(whole.config, whole.workspace, Recorder())

    assert workers_until(case, signal.SIGTERM, THIRD, "sharded") == STOPPED
    assert (case.workspace.checkpoints / f"checkpoint-{THIRD}" / SHARES).exists()
    with pytest.raises(StageError) as stopped:
        train(case.config, case.workspace, Stopping())
    assert stopped.value.outcome == Outcome.INTERRUPTED
    assert [path.name for path in case.workspace.checkpoints.glob("checkpoint-*")] == [f"checkpoint-{TWO_THIRDS}"]
    in_two(case)

    assert_same(case, whole)


def test_preferences_are_learned_likewise(make_case: MakeCase) -> None:
    pairs = [
        {
            "prompt": row["messages"][:-1],
            "chosen": row["messages"][-1:],
            "rejected": [{"role": "assistant", "content": "blue"}],
        }
        for row in ROWS
        if row["messages"][-1]["content"] != "blue"
    ]
    plan = {"learning_rate": 1e-4, "total_steps": 3}
    whole, case = (
        make_case(name, pairs[:-1], adapter=WHOLE, method=Method.DPO, **plan) for name in ("whole", "divided")
    )
    for each in (whole, case):
        begun(each, 2 * PASS)
    train(whole.config, whole.workspace, Recorder())

    in_two(case)

    assert_same(case, whole)


def test_weights_that_the_model_calls_otherwise_are_refused_by_name(tied: Path) -> None:
    model, whole = LlamaForCausalLM.from_pretrained(tied), {"model.experts.0.weight": torch.zeros(2)}
    with pytest.raises(StageError) as refused:
        sharding._divide(model, whole, Path("checkpoints/checkpoint-3"))
    assert refused.value.outcome == Outcome.CONFIG_INVALID
    assert refused.value.message == (
        "The weights of checkpoint-3 can't be divided among devices: it calls 1 of them otherwise than the model does "
        "(model.experts.0.weight). Set training.sharding to none to go on from it."
    )
