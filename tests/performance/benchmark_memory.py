"""How right the plan is about memory: what it foresees against what processes took, in one table.

`make benchmark-memory` runs it: random weights in three shapes, LoRA, QLoRA, DoRA and full fine-tuning, modules that
are trained as a whole, reward models, several tokens a pass, with activations recomputed and without. Each is a process
of its own that takes two steps as train does, and tells the most memory that it held (RSS) beside its libraries.
"""

import argparse
import multiprocessing
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from finetune_trainer.contract.config import AdapterConfig, Method, ModelConfig, RewardConfig, Source, TrainingConfig
from finetune_trainer.data import base
from finetune_trainer.data.tokens import IGNORED
from finetune_trainer.training import flat, host, model
from finetune_trainer.training.activations import BFLOAT16, FLOAT32
from finetune_trainer.training.flat_trainer import FlatTrainer
from finetune_trainer.training.memory import LIBRARIES, Device, Pass, TokenLoad, TrainingFootprint
from finetune_trainer.training.methods import RECIPES
from finetune_trainer.training.preference import SIDES
from finetune_trainer.training.reward_trainer import RewardTrainer
from transformers import AutoConfig, AutoModelForCausalLM, TrainingArguments

SHAPES: dict[str, dict[str, int]] = {
    # Many layers and a small vocabulary, as SmolLM2.
    "llama": {"hidden_size": 512, "intermediate_size": 1408, "num_hidden_layers": 16, "vocab_size": 16_384},
    # Biases, and an output layer of its own.
    "qwen2": {"hidden_size": 448, "intermediate_size": 2432, "num_hidden_layers": 12, "vocab_size": 32_768},
    # A vocabulary that outweighs the rest.
    "gemma": {"hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 8, "vocab_size": 65_536},
}
# So small that what it takes is the code that any training runs, which is read when it is first run.
TINY = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1, "vocab_size": 256}
HEADS = {"num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 64}
KINDS = ("lora", "qlora", "none")
BUDGETS = (512, 2048)
SAVED = ("embed_tokens", "lm_head")
# Learned tokens of a row of ROW tokens.
ROW, LEARNED = 128, 32
MIB = 2**20


@dataclass(frozen=True)
class Case:
    """One training. `learned`: tokens of each row that are."""

    shape: str
    kind: str
    tokens: int
    recompute: bool = False
    bf16: bool = False
    passes: int = 2
    learned: int = LEARNED
    saved: tuple[str, ...] = ()
    method: Method = Method.SFT

    @property
    def training(self) -> TrainingConfig:
        """As a manifest has it."""
        return TrainingConfig(method=self.method, adapter=AdapterConfig(type=self.kind, modules_to_save=self.saved))

    @property
    def sequences(self) -> int:
        """Of a row."""
        return RECIPES[self.method].sequences


@dataclass(frozen=True)
class Found:
    """What it was foreseen to take, and took, in bytes, beside libraries."""

    case: Case
    foreseen: int
    measured: int

    @property
    def off(self) -> float:
        """How far the plan is off, as a share of what was measured."""
        return self.foreseen / self.measured - 1


def write_model(shape: str, dimensions: dict[str, int], root: Path) -> Path:
    """Random weights, as a directory that can be loaded."""
    path = root / f"{shape}-{dimensions['hidden_size']}"
    if not path.exists():
        torch.manual_seed(0)
        tied = {"tie_word_embeddings": shape != "qwen2"}
        config = AutoConfig.for_model(shape, **dimensions, **HEADS, **tied, max_position_embeddings=4096)
        AutoModelForCausalLM.from_config(config).to(torch.bfloat16).save_pretrained(path)
    return path


def foreseen(case: Case, path: Path) -> int:
    """What the plan says, without what the libraries take."""
    figures = base.figures(path, ModelConfig(source=Source(uri=f"file://{path}")))
    device = Device(None, 0, BFLOAT16 if case.bf16 else FLOAT32)
    share, writes = case.learned / ROW, case.method.writes
    load = TokenLoad(case.sequences * ROW, case.passes * case.tokens, share, case.sequences, writes)
    training = TrainingFootprint(figures, case.training.adapter, device, load)
    return training.memory(Pass(case.tokens, case.recompute)) - LIBRARIES


def measure(case: Case, path: Path, tiny: Path) -> int:
    """Train a tiny model and then this one, in this process; the most bytes that it held beside its libraries."""
    host.give_back_freed_memory()
    train(case, tiny)
    before = held("VmRSS")
    train(case, path)
    return held("VmHWM") - before


def train(case: Case, path: Path) -> None:
    """Two steps, as train takes them."""
    training, writes = case.training, case.method.writes
    dtype, options = model.weights_dtype(training, case.bf16), {"local_files_only": True}
    loaded = (
        model.base(path, dtype, training.adapter.type, **options) if writes else model.judging(path, dtype, **options)
    )
    assert flat.attends_to_each_row(loaded)
    sequence = {"input_ids": [1] * ROW, "labels": [IGNORED] * (ROW - case.learned) + [1] * case.learned}
    row = sequence if writes else {side + name: value for side in SIDES for name, value in sequence.items()}
    rows = case.passes * case.tokens // (ROW * case.sequences)
    with tempfile.TemporaryDirectory() as directory:
        settings = TrainingArguments(
            output_dir=directory,
            max_steps=2,
            per_device_train_batch_size=rows,
            remove_unused_columns=False,
            bf16=case.bf16,
            use_cpu=True,
            gradient_checkpointing=case.recompute,
            gradient_checkpointing_kwargs={"use_reentrant": False},
            dataloader_pin_memory=False,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        wrapped = model.with_adapter(loaded, training)
        more: dict[str, Any] = {"model": wrapped, "args": settings, "train_dataset": [row] * rows * 2}
        trainer = FlatTrainer(case.tokens, **more) if writes else RewardTrainer(case.tokens, RewardConfig(), **more)
        trainer.train()


def held(name: str) -> int:
    """A figure of this process, in bytes."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024


def found(case: Case, root: Path) -> Found:
    """Measure in a process of its own, which has this one's libraries."""
    with multiprocessing.get_context("fork").Pool(1, maxtasksperchild=1) as pool:
        path, tiny = (pool.apply(write_model, (case.shape, each, root)) for each in (SHAPES[case.shape], TINY))
        return Found(case, foreseen(case, path), pool.apply(measure, (case, path, tiny)))


def cases() -> Iterator[Case]:
    """What the table has."""
    for shape in SHAPES:
        for kind in KINDS:
            for tokens in BUDGETS:
                yield Case(shape, kind, tokens)
            yield Case(shape, kind, BUDGETS[-1], recompute=True)
    for kind in KINDS:
        yield Case("llama", kind, BUDGETS[-1], bf16=True)
        yield Case("llama", kind, BUDGETS[-1], passes=1)
        yield Case("llama", kind, BUDGETS[-1], learned=ROW)
    for kind in ("lora", "none"):
        yield Case("qwen2", kind, BUDGETS[-1], bf16=True, recompute=True)
        yield Case("qwen2", kind, BUDGETS[-1], method=Method.REWARD)
    yield Case("llama", "lora", BUDGETS[-1], recompute=True, method=Method.REWARD)
    yield Case("gemma", "none", BUDGETS[0], recompute=True, bf16=True, method=Method.REWARD)
    yield Case("qwen2", "none", BUDGETS[0], recompute=True, bf16=True, method=Method.REWARD)
    for recompute in (False, True):
        yield Case("llama", "dora", BUDGETS[0], recompute=recompute)
    yield Case("qwen2", "dora", BUDGETS[0], bf16=True)
    # Embeddings that are the output layer, and those that are not.
    for bf16 in (False, True):
        yield Case("gemma", "lora", BUDGETS[0], bf16=bf16, saved=SAVED[:1])
        yield Case("qwen2", "lora", BUDGETS[0], bf16=bf16, saved=SAVED)


def line(found: Found) -> str:
    """A row of the table."""
    case = found.case
    figures = f"{found.foreseen / MIB:9.0f} {found.measured / MIB:9.0f} {found.off:+7.0%}"
    return f"{case.shape:6} {case.kind:6} {case.tokens:7} {figures}  {how(case)}"


def how(case: Case) -> str:
    """What else there is to say of it."""
    return ", ".join(
        name
        for name, holds in (
            ("recomputed", case.recompute),
            ("bfloat16", case.bf16),
            ("one pass a step", case.passes == 1),
            ("all learned", case.learned == ROW),
            (case.method.value, case.method != Method.SFT),
            (", ".join(case.saved), case.saved),
        )
        if holds
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="a part of a line, such as qlora")
    options = parser.parse_args()
    print(f"{'shape':6} {'kind':6} {'tokens':>7} {'foreseen':>9} {'measured':>9} {'off':>7}  (MiB)")
    with tempfile.TemporaryDirectory() as directory:
        for case in cases():
            if options.only in f"{case.shape} {case.kind} {case.tokens} {how(case)}":
                print(line(found(case, Path(directory))), flush=True)


if __name__ == "__main__":
    main()
