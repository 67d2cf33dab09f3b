"""No torch for what trains nothing, and no transformers but to show rows: one process takes verb after verb.

What it imported meanwhile is told of each.
What the page, `finetune serve` and the Python interface import, their own tests say.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from manifests import SMALLEST
from played_kubectl import Kubectl
from tiny import write_model

HEAVY = ("torch", "transformers", "trl", "peft", "datasets", "vllm", "accelerate")
# Each line is run in the process in which the others were: what one imports is told of it alone.
SCRIPT = f"""
import json, sys
from finetune_cli.main import app
from typer.testing import CliRunner

told = {{}}
for line in json.load(sys.stdin):
    seen = set(sys.modules)
    result = CliRunner().invoke(app, line)
    told[" ".join(line)] = [result.exit_code, sorted(set({HEAVY}) & (set(sys.modules) - seen))]
print(json.dumps(told))
"""
# What prepares rows has the base model's own tokenizer.
PREPARE = [["plan", "job.yaml"], ["check", "job.yaml"]]
LINES = [
    ["import", "sft.yaml", "--model", "hf://small/model", "--train", "hf://datasets/small/rows/train.jsonl"],
    ["apply", "-f", "smallest.yaml", "--no-wait"],
    ["list"],
    ["describe", "recipes"],
    ["status", "recipes"],
    ["wait", "recipes"],
    ["plan", "recipes"],
    ["compare", "recipes", "recipes"],
    ["promote", "recipes"],
    ["cancel", "recipes"],
    ["render", "smallest.yaml"],
    *PREPARE,
]


def test_no_verb_but_run_imports_what_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Kubectl(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    write_model(tmp_path / "model")
    rows = [{"prompt": f"list eggs {number}", "completion": "egg"} for number in range(20)]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    spec = {
        "model": {"source": "file://model"},
        "dataset": {"train": {"source": "file://train.jsonl"}},
        "evaluation": {"enabled": False},
    }
    (tmp_path / "job.yaml").write_text(yaml.safe_dump({**SMALLEST, "metadata": {"name": "cakes"}, "spec": spec}))
    (tmp_path / "smallest.yaml").write_text(yaml.safe_dump(SMALLEST))
    (tmp_path / "sft.yaml").write_text(
        "model_name_or_path: small/model\ndataset_name: small/rows\nnum_train_epochs: 2\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        input=json.dumps(LINES),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    told = json.loads(done.stdout.splitlines()[-1])
    first, then = (" ".join(line) for line in PREPARE)
    assert told.pop(first) == [0, ["transformers"]]
    assert told.pop(then) == [0, []]
    assert told == {" ".join(line): [0, []] for line in LINES if line not in PREPARE}
