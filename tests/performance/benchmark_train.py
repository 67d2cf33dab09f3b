"""How fast training is: this trainer against TRL's on the same rows, as ratios of one run.

`make benchmark-train` runs it and prints one table: the small model, LoRA of rank 16 on every linear layer, rows of
restaurant8k, 8 to a step. Each configuration is a process of its own that trains the rows of one prepared workspace.
They take turns, forth and back, and each figure is the median. Compiling, which the trainer does for what lasts longer
than these runs, is done before the first step and not counted. What the machine can do at that time is said by products
of matrices. A share counts four operations a weight and token: frozen weights need no gradient of their own.
"""

import argparse
import itertools
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from finetune_trainer.contract.config import (
    AdapterConfig,
    AdapterType,
    DatasetConfig,
    ModelConfig,
    RunConfig,
    Source,
    TrainingConfig,
    Workspace,
)
from training_runs import Run, Trl, fresh, gemm, ours, plan_of, prepared, started, trl

ROOT = Path(__file__).parents[2]
MODEL = ROOT / ".cache/models/SmolLM2-135M-Instruct"
DATA = Path(os.environ.get("FINETUNE_TEST_DATA", ROOT.parent / "shared" / "data" / "restaurant8k")) / "train.jsonl"
GEMM = 1024
OURS, COMPILED = "this trainer", "this trainer, compiled"
PADDED, PLAIN = "TRL, bfloat16, padded", "TRL as it comes, float32"


def compiled(workspace: Workspace, wanted: bool) -> Run:
    """As a training that goes on with what was decided before."""
    workspace.compiled.write_text("yes" if wanted else "no")
    return ours(workspace)


RUNS = {
    OURS: lambda workspace: compiled(workspace, False),
    COMPILED: lambda workspace: compiled(workspace, True),
    PADDED: lambda workspace: trl(workspace, Trl()),
    PLAIN: lambda workspace: trl(workspace, Trl(bf16=False)),
}


def config(model: Path, data: Path, adapter: str, rows: int, steps: int) -> RunConfig:
    """What is trained."""
    return RunConfig(
        name="bench",
        revision="00000000",
        model=ModelConfig(source=Source(uri="pvc://models/small", path=model)),
        dataset=DatasetConfig(train=Source(uri="pvc://data/train.jsonl", path=data)),
        training=TrainingConfig(
            adapter=AdapterConfig(type=AdapterType(adapter), rank=16), batch_size=rows, max_steps=steps
        ),
    )


def compare(wanted: RunConfig, repeats: int) -> None:
    """Run all in turns, and print the table."""
    found: dict[str, list[Run]] = {name: [] for name in RUNS}
    rates: dict[str, list[float]] = {"float32": [], "bfloat16": []}
    with tempfile.TemporaryDirectory(dir=ROOT / ".cache") as directory:
        workspace = prepared(Path(directory), wanted)
        for repeat in range(repeats):
            for name in list(RUNS) if repeat % 2 == 0 else list(reversed(RUNS)):
                fresh(workspace)
                found[name].append(run := Run(**started(__file__, name, workspace, cpu=True)))
                print(f"  … {name}: {run.tokens_per_second:.0f} tokens/s", file=sys.stderr, flush=True)
            for dtype, measured in rates.items():
                measured.append(gemm(dtype, "cpu", GEMM))
        parameters = plan_of(workspace).model.parameters
    table(found, {dtype: statistics.median(measured) for dtype, measured in rates.items()}, parameters)


def table(found: dict[str, list[Run]], rates: dict[str, float], parameters: int) -> None:
    """Medians, and what they are of TRL's and of the machine's."""

    def median(name: str, field: str) -> float:
        return statistics.median(getattr(run, field) for run in found[name])

    print(f"products of {GEMM}³: float32 {rates['float32']:.0f} GFLOP/s, bfloat16 {rates['bfloat16']:.0f}")
    print(f"{'':26}{'tokens/s':>9}{'float32 rate':>14}{'bfloat16 rate':>15}{'peak MB':>9}{'last loss':>11}")
    for name in found:
        speed = median(name, "tokens_per_second")
        shares = [4 * parameters * speed / 1e9 / rates[dtype] for dtype in ("float32", "bfloat16")]
        memory, loss = median(name, "megabytes"), median(name, "loss")
        print(f"{name:26}{speed:9.0f}{shares[0]:14.0%}{shares[1]:15.0%}{memory:9.0f}{loss:11.4f}")
    for name, other in itertools.product((OURS, COMPILED), (PADDED, PLAIN)):
        times, share = (median(name, field) / median(other, field) for field in ("tokens_per_second", "megabytes"))
        print(f"{name} against {other}: {times:.2f} times as fast, {share:.2f} of the memory")


def main() -> None:
    """Compare, or, in a process that `compare` starts, run one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3, help="of each configuration")
    parser.add_argument("--steps", type=int, default=16, help="of each run")
    parser.add_argument("--model", type=Path, default=MODEL, help="a directory")
    parser.add_argument("--data", type=Path, default=DATA, help="a file of rows")
    parser.add_argument("--adapter", default="lora", choices=("lora", "qlora", "dora"))
    parser.add_argument("--rows", type=int, default=8, help="of a step")
    parser.add_argument("--run", choices=RUNS, help=argparse.SUPPRESS)
    parser.add_argument("--workspace", type=Path, help=argparse.SUPPRESS)
    options: Any = parser.parse_args()
    if options.run:
        print(json.dumps(vars(RUNS[options.run](Workspace(options.workspace)))))
    else:
        wanted = config(options.model, options.data, options.adapter, options.rows, options.steps)
        compare(wanted, options.repeats)


if __name__ == "__main__":
    main()
