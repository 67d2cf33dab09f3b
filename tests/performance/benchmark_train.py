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
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune_trainer.contract.config import (
    AdapterConfig,
    DatasetConfig,
    ModelConfig,
    RunConfig,
    Source,
    TrainingConfig,
    Workspace,
)
from finetune_trainer.contract.results import PrepareResult, TrainResult
from finetune_trainer.server import Reporter

ROOT = Path(__file__).parents[2]
MODEL = ROOT / ".cache/models/SmolLM2-135M-Instruct"
DATA = Path(os.environ.get("FINETUNE_TEST_DATA", ROOT.parent / "shared" / "data" / "restaurant8k"))
ROWS, GEMM = 8, 1024
OURS, COMPILED = "this trainer", "this trainer, compiled"
PADDED, PLAIN = "TRL, bfloat16, padded", "TRL as it comes, float32"


@dataclass(frozen=True)
class Run:
    """One run of one configuration."""

    tokens_per_second: float
    megabytes: float
    loss: float


def prepared(root: Path, steps: int) -> Workspace:
    """The rows, and what is to be trained of them."""
    from finetune_trainer.stages.prepare import prepare

    config = RunConfig(
        name="bench",
        revision="00000000",
        model=ModelConfig(source=Source(uri="pvc://models/small", path=MODEL)),
        dataset=DatasetConfig(train=Source(uri="pvc://data/train.jsonl", path=DATA / "train.jsonl")),
        training=TrainingConfig(adapter=AdapterConfig(rank=16), batch_size=ROWS, max_steps=steps),
    )
    workspace = Workspace(root / "workspace")
    workspace.root.mkdir()
    prepare(config, workspace, Reporter("prepare"))
    (workspace.root / "run.json").write_text(config.model_dump_json(by_alias=True))
    return workspace


def ours(workspace: Workspace, compiled: bool) -> Run:
    """Train as a pod does, one that goes on with what was decided before."""
    from finetune_trainer.stages.train import train

    config = RunConfig.model_validate_json((workspace.root / "run.json").read_bytes())
    workspace.checkpoints.mkdir(exist_ok=True)
    workspace.compiled.write_text("yes" if compiled else "no")
    result: TrainResult = train(config, workspace, Reporter("train"))
    last = json.loads((workspace.artifact / "metrics.jsonl").read_text().splitlines()[-1])
    return Run(result.usage.trained_tokens / result.usage.seconds, held(), last["loss"])


def trl(workspace: Workspace, bf16: bool) -> Run:
    """The same rows by TRL's trainer. `bf16`: weights and products; the best that it has here."""
    import torch
    from finetune_trainer.training import model, rows, schedule
    from trl import SFTConfig, SFTTrainer

    config = RunConfig.model_validate_json((workspace.root / "run.json").read_bytes())
    plan = PrepareResult.model_validate_json(workspace.prepared.read_bytes()).plan
    train = rows.load(workspace).train
    lengths = rows.lengths(train)
    order = schedule.order(len(lengths), plan.batch_size * plan.total_steps, config.training.seed)
    base, tokenizer = model.load(MODEL, config.model, torch.bfloat16 if bf16 else torch.float32)
    settings = SFTConfig(
        output_dir=str(workspace.root / "trl"),
        max_steps=plan.total_steps,
        per_device_train_batch_size=plan.batch_size,
        dataset_kwargs={"skip_prepare_dataset": True},
        learning_rate=plan.learning_rate,
        train_sampling_strategy="sequential",
        bf16=bf16,
        use_cpu=True,
        gradient_checkpointing=False,
        dataloader_pin_memory=False,
        include_num_input_tokens_seen="non_padding",
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    trainer = SFTTrainer(
        model=model.with_adapter(base, config.training),
        args=settings,
        train_dataset=train.select(order),
        processing_class=tokenizer,
    )
    began = time.monotonic()
    trainer.train()
    seconds = time.monotonic() - began
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return Run(trainer.state.num_input_tokens_seen / seconds, held(), losses[-1])


def held() -> float:
    """The most megabytes that this process held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


def gemm(dtype: str) -> float:
    """Operations a second of a product of square matrices, in G."""
    import torch

    one = torch.randn(GEMM, GEMM, dtype=getattr(torch, dtype))
    seconds = []
    for _ in range(10):
        began = time.monotonic()
        one @ one
        seconds.append(time.monotonic() - began)
    return 2 * GEMM**3 / min(seconds) / 1e9


RUNS = {
    OURS: lambda workspace: ours(workspace, False),
    COMPILED: lambda workspace: ours(workspace, True),
    PADDED: lambda workspace: trl(workspace, True),
    PLAIN: lambda workspace: trl(workspace, False),
}


def started(name: str, workspace: Workspace) -> Run:
    """Run a configuration in a process of its own."""
    for left in (workspace.artifact, workspace.checkpoints):
        subprocess.run(["rm", "-rf", str(left)], check=True)
    command = [sys.executable, __file__, "--run", name, "--workspace", str(workspace.root)]
    out = subprocess.run(command, check=True, capture_output=True).stdout
    return Run(**json.loads(out.decode().splitlines()[-1]))


def compare(repeats: int, steps: int) -> None:
    """Run all in turns, and print the table."""
    found: dict[str, list[Run]] = {name: [] for name in RUNS}
    rates: dict[str, list[float]] = {"float32": [], "bfloat16": []}
    with tempfile.TemporaryDirectory(dir=ROOT / ".cache") as directory:
        workspace = prepared(Path(directory), steps)
        for repeat in range(repeats):
            for name in list(RUNS) if repeat % 2 == 0 else list(reversed(RUNS)):
                found[name].append(run := started(name, workspace))
                print(f"  … {name}: {run.tokens_per_second:.0f} tokens/s", file=sys.stderr, flush=True)
            for dtype, measured in rates.items():
                measured.append(gemm(dtype))
        parameters = PrepareResult.model_validate_json(workspace.prepared.read_bytes()).model.parameters
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
    parser.add_argument("--run", choices=RUNS, help=argparse.SUPPRESS)
    parser.add_argument("--workspace", type=Path, help=argparse.SUPPRESS)
    options: Any = parser.parse_args()
    if options.run:
        print(json.dumps(vars(RUNS[options.run](Workspace(options.workspace)))))
    else:
        compare(options.repeats, options.steps)


if __name__ == "__main__":
    main()
