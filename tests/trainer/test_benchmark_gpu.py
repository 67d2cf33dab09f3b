"""`make gpu` works: its script runs on CPUs, too, at a shape whose figures mean nothing."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from finetune_trainer.contract.config import Workspace
from finetune_trainer.training import follow

PLACE = Path(__file__).parents[1] / "performance"
RIVAL = r" +\d+ +\d+% +\d+ +\d+\.\d{4}"
OURS = r" +\d+ +\d+% +\d+ +\d+ +\d+\.\d{4}"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """The script, which starts its parts in this process: each of its own would load the libraries anew."""
    monkeypatch.syspath_prepend(str(PLACE))
    monkeypatch.setattr("finetune_trainer.training.machine._bf16_is_fast", lambda: False)
    for name in ("SAVE_SECONDS", "SAVE_SHARE"):
        # Put back whatever a part made of it.
        monkeypatch.setattr(follow, name, getattr(follow, name))
    import benchmark_gpu

    def started(path: str, name: str, workspace: Workspace, cpu: bool) -> Any:
        assert Path(path).name == "benchmark_gpu.py"
        with pytest.MonkeyPatch.context() as patch:
            before = capsys.readouterr().out
            patch.setattr(sys, "argv", [path, "--run", name, "--workspace", str(workspace.root)])
            benchmark_gpu.main()
            found = json.loads(capsys.readouterr().out.splitlines()[-1])
            print(before, end="")
        return found

    monkeypatch.setattr(benchmark_gpu, "started", started)
    return benchmark_gpu


def test_it_prints_a_row_for_each_trainer_and_each_check(
    script: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script.torch.cuda, "is_available", lambda: False)

    assert script.table(["tiny"], 3)

    first, head, *rows = capsys.readouterr().out.splitlines()
    assert first.startswith("CPU, torch ")
    assert head.split() == ["shape", "adapter", "tokens/s", "share", "peak", "MB", "planned", "last", "loss"]
    wanted = [
        "tiny  lora     this trainer" + OURS,
        "tiny  lora     TRL, padded" + RIVAL,
        r"tiny  flattened as padded, bfloat16 +holds +loss \d\.\d\d% apart, gradients \d\.\d\d%; attention: row by row",
        r"tiny  out of memory +holds +\d+ tokens, then \d+, from step 2",
        r"tiny  stopped and resumed +holds +weights 0\.00% apart",
        "tiny  qlora    this trainer" + OURS,
        "tiny  qlora    TRL, padded" + RIVAL,
    ]
    assert len(rows) == len(wanted)
    for pattern in wanted:
        assert [row for row in rows if re.fullmatch(pattern, row)], (pattern, rows)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "Shape 1b and 8b trains on a GPU alone, and this machine shows no CUDA device: run it where one is, or"),
        (["--shapes", "tiny", "--steps", "2"], "--steps 2 is too few: training is interrupted at step 2"),
    ],
)
def test_what_it_cannot_do_is_refused(
    arguments: list[str], sentence: str, script: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script.torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["benchmark_gpu.py", *arguments])
    with pytest.raises(SystemExit, match=sentence):
        script.main()
