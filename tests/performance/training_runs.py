"""One training of a benchmark: this trainer's or TRL's, on the rows of one prepared workspace, with one clock.

Used by benchmark_train, on CPUs, and benchmark_gpu. What differs between them is the run config: model, rows, adapter.
Each training is a process of its own; it runs on the accelerator where the process sees one.
"""

import json
import os
import resource
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune_trainer.contract.config import RunConfig, Workspace
from finetune_trainer.contract.results import PrepareResult
from finetune_trainer.server import Reporter


@dataclass(frozen=True)
class Run:
    """One run of one configuration."""

    tokens_per_second: float
    megabytes: float
    loss: float


@dataclass(frozen=True)
class Trl:
    """How TRL trains. `bf16`: weights and products. `packed`: rows in bins, which FlashAttention keeps apart."""

    bf16: bool = True
    packed: bool = False
    compiled: bool = False
    recompute: bool = False


class Clock(Reporter):
    """Hears of each step as `Follow` tells it, and when: the first mark is when the first step began.

    `passes`: what a pass was by then, which a training that is done forgets.
    """

    def __init__(self, workspace: Workspace) -> None:
        super().__init__("train")
        self.workspace = workspace
        self.marks: list[float] = []
        self.passes: dict[str, Any] = {}

    def update(self, **fields: Any) -> None:
        """Take the news."""
        super().update(**fields)
        if fields.get("activity") == "training" or "eta" in fields:
            self.marks.append(time.monotonic())
            self.passes = json.loads(self.workspace.attempt.read_text())


def prepared(root: Path, config: RunConfig) -> Workspace:
    """The rows, and what is to be trained of them."""
    from finetune_trainer.stages.prepare import prepare

    workspace = Workspace(root / "workspace")
    workspace.root.mkdir()
    prepare(config, workspace, Reporter("prepare"))
    (workspace.root / "run.json").write_text(config.model_dump_json(by_alias=True))
    return workspace


def config_of(workspace: Workspace) -> RunConfig:
    """What was prepared."""
    return RunConfig.model_validate_json((workspace.root / "run.json").read_bytes())


def plan_of(workspace: Workspace) -> PrepareResult:
    """What prepare found and planned."""
    return PrepareResult.model_validate_json(workspace.prepared.read_bytes())


def fresh(workspace: Workspace) -> None:
    """Forget what was trained."""
    for left in (workspace.artifact, workspace.checkpoints):
        shutil.rmtree(left, ignore_errors=True)
    workspace.checkpoints.mkdir()


def ours(workspace: Workspace, warm: int = 0) -> Run:
    """Train as a pod does. The first `warm` steps don't count. What a pass was is left for TRL to do the same."""
    from finetune_trainer.stages.train import train
    from finetune_trainer.training import rows, schedule

    config, plan, clock = config_of(workspace), plan_of(workspace).plan, Clock(workspace)
    train(config, workspace, clock)
    (workspace.root / "passes.json").write_text(json.dumps(clock.passes))
    lengths = rows.lengths(rows.load(workspace).train)
    taken = schedule.order(len(lengths), plan.batch_size * plan.total_steps, config.training.seed)
    tokens = sum(lengths[row] for row in taken[warm * plan.batch_size :])
    last = json.loads((workspace.artifact / "metrics.jsonl").read_text().splitlines()[-1])
    return Run(tokens / (clock.marks[-1] - clock.marks[warm]), held(), last["loss"])


def trl(workspace: Workspace, how: Trl, warm: int = 0) -> Run:
    """The same rows, adapter and steps by TRL's trainer."""
    import torch
    from finetune_trainer.training import model, rows, schedule
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer
    from trl.data_utils import pack_dataset

    marks: list[tuple[float, int]] = []

    class Steps(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            marks.append((time.monotonic(), 0))

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            marks.append((time.monotonic(), int(state.num_input_tokens_seen)))

    config, plan = config_of(workspace), plan_of(workspace).plan
    train = rows.load(workspace).train
    lengths = rows.lengths(train)
    order = schedule.order(len(lengths), plan.batch_size * plan.total_steps, config.training.seed)
    taken, each = train.select(order), plan.batch_size
    if how.packed:
        # Bins of the longest row, and as many to a step as have its tokens.
        taken = pack_dataset(taken, max(lengths), "bfd")
        each = max(1, len(taken) // plan.total_steps)
    dtype = torch.bfloat16 if how.bf16 else torch.float32
    base, tokenizer = model.load(workspace.base_model(config), config.model, dtype, config.training.adapter.type)
    if how.packed:
        base.set_attn_implementation("flash_attention_2")
    settings = SFTConfig(
        output_dir=str(workspace.root / "trl"),
        max_steps=plan.total_steps,
        per_device_train_batch_size=each,
        dataset_kwargs={"skip_prepare_dataset": True},
        padding_free=how.packed,
        learning_rate=plan.learning_rate,
        train_sampling_strategy="sequential",
        bf16=how.bf16,
        use_cpu=not torch.cuda.is_available(),
        torch_compile=how.compiled,
        gradient_checkpointing=how.recompute,
        gradient_checkpointing_kwargs={"use_reentrant": False},
        dataloader_pin_memory=torch.cuda.is_available(),
        include_num_input_tokens_seen="non_padding",
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    trainer = SFTTrainer(
        model=model.with_adapter(base, config.training),
        args=settings,
        train_dataset=taken,
        processing_class=tokenizer,
        callbacks=[Steps()],
    )
    trainer.train()
    (began, before), (ended, after) = marks[warm], marks[-1]
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return Run((after - before) / (ended - began), held(), losses[-1])


def held() -> float:
    """The most megabytes that this process held: torch's allocator of an accelerator's, or all that was resident."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_reserved() / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


def gemm(dtype: str, device: str, size: int) -> float:
    """Operations a second of a product of square matrices, in G."""
    import torch

    one = torch.randn(size, size, device=device).to(getattr(torch, dtype))
    seconds = []
    for _ in range(10):
        began = time.monotonic()
        # A number of it is asked for, which an accelerator is waited for.
        (one @ one)[0, 0].item()
        seconds.append(time.monotonic() - began)
    return 2 * size**3 / min(seconds) / 1e9


def started(script: str, name: str, workspace: Workspace, cpu: bool) -> dict[str, Any]:
    """What `script` prints for `--run NAME`, in a process of its own. Raises CalledProcessError.

    `cpu`: it sees no accelerator.
    """
    command = [sys.executable, script, "--run", name, "--workspace", str(workspace.root)]
    env = os.environ | ({"CUDA_VISIBLE_DEVICES": ""} if cpu else {})
    out = subprocess.run(command, check=True, capture_output=True, env=env).stdout
    found: dict[str, Any] = json.loads(out.decode().splitlines()[-1])
    return found
