"""Layers are compiled where that pays, once for rows of any number and length, and come to the same."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from finetune_operator.pods.template import ENVIRONMENT
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


def test_without_the_headers_that_compiled_layers_include_none_is_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with Debian's python3-torch, whose headers are in a package of their own."""
    assert all(header.exists() for header in compiling.HEADERS)
    monkeypatch.setenv("CXX", "sh")
    monkeypatch.setattr(compiling, "HEADERS", (*compiling.HEADERS, tmp_path / "Half.h"))
    assert not compiling.worthwhile(tmp_path / "checkpoints" / "compiled", compiling.LASTING, 0)


# A pod's user is in no list of users, and compiled code is kept in a place with its name.
UNKNOWN = """
import os, pwd, sys
import torch
from torch._inductor.runtime.cache_dir_utils import cache_dir

def unknown(number):
    raise KeyError(number)

pwd.getpwuid = unknown
found = torch.compile(lambda x: (x * 2 + 1).relu())(torch.arange(64.0))
assert found[3] == 7
print(cache_dir())
"""


def test_layers_are_compiled_by_a_user_whom_nobody_knows_and_kept_where_a_pod_can_write(tmp_path: Path) -> None:
    """Beside what a pod is told of, its root is read-only."""
    (tmp_path / "tmp").mkdir()
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "PYTHONPATH", "CXX")}
    told = {**ENVIRONMENT, "HOME": "/proc/nowhere", "TMPDIR": str(tmp_path / "tmp")}
    done = subprocess.run(
        [sys.executable, "-c", UNKNOWN], env={**kept, **told}, cwd="/proc", capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).is_relative_to(tmp_path / "tmp")
    assert list((tmp_path / "tmp").rglob("*.so"))


def test_a_training_that_goes_on_keeps_what_was_decided_when_it_began(tmp_path: Path) -> None:
    kept = tmp_path / "compiled"
    assert not compiling.worthwhile(kept, 0, 0)
    assert not compiling.worthwhile(kept, compiling.LASTING, 0)
