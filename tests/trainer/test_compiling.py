"""Layers are compiled where that pays, once for rows of any number and length, and come to the same."""

from pathlib import Path
from typing import Any

import pytest
import torch
from finetune_trainer.contract.config import Method
from finetune_trainer.stages.train import train
from finetune_trainer.training import compiling, flat
from test_flat import CONFIGS, ROWS, flattened, gradients, model
from test_preference import ROWS as PAIRS
from test_unpaired import ROWS as UNPAIRED
from torch._dynamo.utils import counters
from trainings import CHATS, MakeCase, Recorder

COMPILE = compiling.compile_layers


def test_compiled_layers_come_to_the_same_for_any_number_of_rows() -> None:
    usual, compiled = model(CONFIGS["llama"]), model(CONFIGS["llama"])
    for each in (usual, compiled):
        assert flat.attends_to_each_row(each)
    torch.compiler.reset()
    compiling.compile_layers(compiled, bf16=False)
    made = []
    for rows in (ROWS, ROWS[:2], ROWS[2:]):
        tokens = sum(len(row["input_ids"]) for row in rows)
        expected, found = (torch.stack(flattened(each, rows, tokens)).mean() for each in (usual, compiled))
        assert found.item() == pytest.approx(expected.item(), abs=1e-5)
        assert torch.allclose(gradients(found, compiled), gradients(expected, usual), atol=1e-4)
        made.append(counters["stats"]["unique_graphs"])
    assert made[0] == made[-1] > 0


def graphs() -> int:
    return int(counters["stats"]["unique_graphs"])


@pytest.mark.parametrize(
    ("method", "rows"),
    # kto's looks at what the base model makes of the rows, and in each step at answers of others.
    [(Method.SFT, CHATS), (Method.KTO, UNPAIRED), (Method.REWARD, PAIRS)],
    ids=["sft", "kto", "reward"],
)
def test_layers_are_compiled_before_the_first_step_and_never_again(
    make_case: MakeCase,
    recorder: Recorder,
    monkeypatch: pytest.MonkeyPatch,
    method: Method,
    rows: list[dict[str, Any]],
) -> None:
    case = make_case(rows=rows, validation=rows, method=method, total_steps=2)
    case.workspace.compiled.write_text("yes")
    made = []

    def compile_layers(*arguments: Any) -> None:
        COMPILE(*arguments)
        made.append(graphs())

    monkeypatch.setattr(compiling, "compile_layers", compile_layers)
    torch.compiler.reset()
    before = graphs()

    train(case.config, case.workspace, recorder)

    assert recorder.values("validation_loss")
    assert before < made[0] == graphs()


@pytest.mark.parametrize(
    ("operations", "accelerators", "compiler", "expected"),
    [
        (compiling.LASTING, 0, "sh", True),
        (compiling.LASTING / 2, 0, "sh", False),
        (compiling.LASTING, 1, "sh", False),
        (compiling.LASTING, 0, "no-such-compiler", False),
    ],
    ids=["lasts", "is over soon", "on an accelerator", "without a compiler"],
)
def test_what_lasts_is_compiled_where_there_is_a_compiler(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    operations: float,
    accelerators: int,
    compiler: str,
    expected: bool,
) -> None:
    monkeypatch.setenv("CXX", compiler)
    assert compiling.worthwhile(tmp_path / "checkpoints" / "compiled", operations, accelerators) == expected


def test_a_training_that_goes_on_keeps_what_was_decided_when_it_began(tmp_path: Path) -> None:
    kept = tmp_path / "compiled"
    assert not compiling.worthwhile(kept, 0, 0)
    assert not compiling.worthwhile(kept, compiling.LASTING, 0)
