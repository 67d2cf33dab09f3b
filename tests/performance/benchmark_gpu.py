"""What training does on a GPU: how fast it is beside TRL at its best, and whether it is right there.

`make gpu` runs it wherever a CUDA device is, with nothing but this repository and its environment: models are random
weights in a real shape, rows are words by chance. It prints one table. First, for each shape, LoRA and QLoRA: tokens a
second, their share of the rate at which the card multiplies matrices in bfloat16 at that time (four operations a weight
and token), and the most memory that torch held, beside what the plan foresaw. Steps before WARM don't count: compilers
and kernels are at work there. Then what has to hold: padded rows and flattened ones come to the same in bfloat16, a
training that runs out of memory goes on at the same step with half the tokens, and one that was stopped ends with the
same weights.

`--shapes tiny` runs on CPUs too, and says that the script works; its figures mean nothing.
"""

import argparse
import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
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
from finetune_trainer.contract.outcome import StageError
from training_runs import Clock, Run, Trl, config_of, fresh, gemm, ours, plan_of, prepared, started, trl

WARM = 3
VOCABULARY = 1000
CHATML = (
    "{% for message in messages %}<|im_start|> {{ message['role'] }} {{ message['content'] }} <|im_end|> {% endfor %}"
    "{% if add_generation_prompt %}<|im_start|> assistant {% endif %}"
)
ADAPTERS = ("lora", "qlora")
# At this step memory runs out, or the training is stopped.
MIDWAY = 2
# How far what is foreseen of memory may be off, up and down.
OVER, UNDER = 0.2, 0.1
# How far bfloat16, with eight bits, may bring two ways to reckon the same apart: a loss, and gradients by their norm.
LOSS_OFF, GRADIENTS_OFF = 0.01, 0.05
# Kernels of GPUs add up gradients in another order each time.
WEIGHTS_OFF = 0.02


@dataclass(frozen=True)
class Shape:
    """A Llama of this shape. `words` of a row, at most, and `rows` of a step."""

    words: int
    rows: int
    config: dict[str, Any]


SHAPES = {
    "tiny": Shape(
        24,
        4,
        {
            "vocab_size": 1024,
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 128,
        },
    ),
    # As Llama 3.2 1B and Llama 3.1 8B.
    "1b": Shape(
        2000,
        32,
        {
            "vocab_size": 128_256,
            "hidden_size": 2048,
            "intermediate_size": 8192,
            "num_hidden_layers": 16,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "max_position_embeddings": 4096,
            "tie_word_embeddings": True,
        },
    ),
    "8b": Shape(
        2000,
        32,
        {
            "vocab_size": 128_256,
            "hidden_size": 4096,
            "intermediate_size": 14_336,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "max_position_embeddings": 4096,
        },
    ),
}


def write_model(shape: Shape, path: Path) -> None:
    """Random weights, and a tokenizer of words."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

    special = ["<unk>", "<|im_start|>", "<|im_end|>", "user", "assistant"]
    words = [*special, *(f"w{number}" for number in range(VOCABULARY))]
    tokenizer = Tokenizer(models.WordLevel({word: id for id, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        eos_token="<|im_end|>",
        pad_token="<unk>",
        chat_template=CHATML,
    )
    fast.save_pretrained(path)
    torch.manual_seed(0)
    config = LlamaConfig(**shape.config, eos_token_id=fast.eos_token_id, pad_token_id=fast.pad_token_id)
    with torch.device(device()):
        AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(path)


def write_rows(shape: Shape, path: Path, count: int) -> None:
    """Chats of words by chance. Most are short and some are long, as people's are; half of each is learned."""
    chance = random.Random(0)

    def said(words: int) -> str:
        return " ".join(f"w{chance.randrange(VOCABULARY)}" for _ in range(words))

    with path.open("w") as out:
        for _ in range(count):
            words = max(4, min(shape.words, round(chance.lognormvariate(0, 0.8) * shape.words / 8)))
            turns = [{"role": role, "content": said(words // 2)} for role in ("user", "assistant")]
            out.write(json.dumps({"messages": turns}) + "\n")


def device() -> str:
    """Where this trains."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def begun(shape: Shape, model: Path, adapter: str, steps: int, root: Path) -> Workspace:
    """What is trained, prepared."""
    write_rows(shape, root / "rows.jsonl", shape.rows * steps)
    return prepared(
        root,
        RunConfig(
            name="bench",
            revision="00000000",
            model=ModelConfig(source=Source(uri="pvc://models/random", path=model)),
            dataset=DatasetConfig(train=Source(uri="pvc://data/rows.jsonl", path=root / "rows.jsonl")),
            training=TrainingConfig(
                adapter=AdapterConfig(type=AdapterType(adapter), rank=16), batch_size=shape.rows, max_steps=steps
            ),
        ),
    )


# What a process of its own does, and prints.


def measured(train: Callable[[Workspace, int], Run]) -> Callable[[Workspace], dict[str, Any]]:
    """How fast a training is."""

    def run(workspace: Workspace) -> dict[str, Any]:
        return dataclasses.asdict(train(workspace, min(WARM, plan_of(workspace).plan.total_steps - 1)))

    return run


def own(workspace: Workspace) -> dict[str, Any]:
    """This trainer, with the megabytes that the plan foresees."""
    from finetune_trainer.training import fitting, machine, rows
    from finetune_trainer.training.memory import CONTEXT, Pass

    found, splits = machine.look(workspace.precision), rows.load(workspace)
    planned = fitting.training(config_of(workspace), workspace, plan_of(workspace).plan, splits, found)
    run = measured(ours)(workspace)
    passes = json.loads((workspace.root / "passes.json").read_text())
    # An accelerator's context is no part of what torch's allocator holds.
    beside = CONTEXT if found.accelerators else 0
    return run | {"planned": (planned.memory(Pass(passes["tokens"], passes["recompute"])) - beside) / 1e6}


def by_trl(**how: bool) -> Callable[[Workspace], dict[str, Any]]:
    """With activations recomputed where this trainer, which ran before, did so."""

    def run(workspace: Workspace, warm: int) -> Run:
        recompute = json.loads((workspace.root / "passes.json").read_text())["recompute"]
        return trl(workspace, Trl(recompute=recompute, **how), warm)

    return measured(run)


class Meddling(Clock):
    """Has something happen once it hears of a step, and keeps of which steps it heard."""

    def __init__(self, workspace: Workspace, happens: Callable[[], object] | None) -> None:
        super().__init__(workspace)
        self.happens, self.steps = happens, list[int]()

    def update(self, **fields: Any) -> None:
        """Take the news."""
        super().update(**fields)
        if "eta" not in fields:
            return
        self.steps.append(fields["step"])
        if self.happens and fields["step"] == MIDWAY:
            self.happens()


def meddled(happens: Callable[[], object] | None) -> Callable[[Workspace], dict[str, Any]]:
    """Train, saving after each step; what became of it."""

    def run(workspace: Workspace) -> dict[str, Any]:
        from finetune_trainer.stages.train import train
        from finetune_trainer.training import follow

        follow.SAVE_SECONDS, follow.SAVE_SHARE = 0, float("inf")
        reporter, outcome = Meddling(workspace, happens), "DONE"
        try:
            train(config_of(workspace), workspace, reporter)
        except StageError as error:
            outcome = error.outcome.name
        return {"outcome": outcome, "steps": reporter.steps, "tokens": reporter.passes["tokens"]}

    return run


def parity(workspace: Workspace) -> dict[str, Any]:
    """How far padded rows and flattened ones are apart, in bfloat16, and whether one kernel attends to all rows."""
    from finetune_trainer.data.tokens import IGNORED
    from finetune_trainer.training import flat, model, rows, varlen
    from torch.nn.functional import cross_entropy
    from torch.nn.utils.rnn import pad_sequence

    config, taken = config_of(workspace), [dict(row) for row in rows.load(workspace).train.select(range(4))]
    base, _ = model.load(workspace.base_model(config), config.model, torch.bfloat16)
    apart = flat.attends_to_each_row(base)
    learner = model.with_adapter(base, config.training).to(device())
    ids, labels = (
        pad_sequence([torch.tensor(row[name]) for row in taken], batch_first=True, padding_value=filling).to(device())
        for name, filling in (("input_ids", 0), ("labels", IGNORED))
    )
    mask = pad_sequence([torch.ones(len(row["input_ids"])) for row in taken], batch_first=True).to(device())

    def gradients(loss: torch.Tensor) -> torch.Tensor:
        learner.zero_grad()
        loss.backward()
        found = [each.grad.flatten() for each in learner.parameters() if each.grad is not None]
        return torch.cat(found).float()

    with torch.autocast(device(), torch.bfloat16):
        base.set_attn_implementation("sdpa")
        padded = learner(ids, attention_mask=mask, labels=labels).loss
        expected = gradients(padded)
        flat.attends_to_each_row(base)
        (inputs,) = flat.passes(flat.flatten(taken), ids.numel())
        inputs = {name: each.to(device()) if isinstance(each, torch.Tensor) else each for name, each in inputs.items()}
        learned = inputs.pop("labels")[0]
        flattened = cross_entropy(learner(**inputs).logits[0].float(), learned)
        found = gradients(flattened)
    size = base.config.head_dim
    return {
        "apart": apart,
        "loss": abs(float(flattened.detach() / padded.detach()) - 1),
        "gradients": float((found - expected).norm() / expected.norm()),
        "one kernel": varlen.kernel(torch.device(device(), 0 if device() == "cuda" else None), torch.bfloat16, size)
        is not None,
    }


OURS = "this trainer"
RIVALS = {
    "TRL, padded": by_trl(),
    "TRL, padded, compiled": by_trl(compiled=True),
    "TRL, packed": by_trl(packed=True),
    "TRL, packed, compiled": by_trl(packed=True, compiled=True),
}
RUNS: dict[str, Callable[[Workspace], dict[str, Any]]] = {
    OURS: own,
    **RIVALS,
    "parity": parity,
    # More than any machine has.
    "greedy": meddled(lambda: torch.empty(2**50, dtype=torch.uint8, device=device())),
    "stopped": meddled(lambda: os.kill(os.getpid(), signal.SIGTERM)),
    "on": meddled(None),
}


# The table.


@dataclass(frozen=True)
class Check:
    """Something that has to hold."""

    name: str
    holds: bool
    found: str


def rivals() -> list[str]:
    """TRL at its best here: packed rows where FlashAttention keeps them apart, and compiled, which wants a GPU."""
    rows = "packed" if find_spec("flash_attn") else "padded"
    return [name for name in RIVALS if rows in name and (device() == "cuda" or "compiled" not in name)]


def speed(workspace: Workspace, rate: float) -> Iterator[tuple[str, bool]]:
    """A row for each trainer; whether all is as it should be."""
    parameters = plan_of(workspace).model.parameters
    for name in (OURS, *rivals()):
        fresh(workspace)
        try:
            found = started(__file__, name, workspace, cpu=False)
        except subprocess.CalledProcessError as error:
            yield f"{name:24}  failed: {error.stderr.decode().strip().splitlines()[-1]}", name != OURS
            if name == OURS:
                return
            continue
        planned = found.pop("planned", None)
        run = Run(**found)
        share = 4 * parameters * run.tokens_per_second / 1e9 / rate
        foreseen = f"{planned:12.0f}" if planned else f"{'':12}"
        row = f"{name:24}{run.tokens_per_second:10.0f}{share:8.0%}{run.megabytes:11.0f}{foreseen}{run.loss:11.4f}"
        yield row, device() == "cpu" or not planned or -UNDER <= planned / run.megabytes - 1 <= OVER


def checks(workspace: Workspace) -> Iterator[Check]:
    """What has to hold."""

    def run(name: str) -> dict[str, Any]:
        return started(__file__, name, workspace, cpu=False)

    found = run("parity")
    attention = "one kernel for all rows" if found["one kernel"] else "row by row"
    apart = found["apart"] and found["loss"] <= LOSS_OFF and found["gradients"] <= GRADIENTS_OFF
    off = f"loss {found['loss']:.2%} apart, gradients {found['gradients']:.2%}; attention: {attention}"
    yield Check("flattened as padded, bfloat16", apart, off)

    fresh(workspace)
    before, after = run("greedy"), run("on")
    same = before["outcome"] == "SMALLER_PASSES" and after["outcome"] == "DONE" and after["steps"][0] == MIDWAY
    half = after["tokens"] == before["tokens"] // 2
    told = f"{before['tokens']} tokens, then {after['tokens']}, from step {after['steps'][0]}"
    yield Check("out of memory", same and half, told)

    fresh(workspace)
    run("on")
    whole = weights(workspace)
    fresh(workspace)
    before, after = run("stopped"), run("on")
    off = float((weights(workspace) - whole).norm() / whole.norm())
    went_on = before["outcome"] == "INTERRUPTED" and after["steps"][0] == MIDWAY + 1
    bound = WEIGHTS_OFF if device() == "cuda" else 0
    yield Check("stopped and resumed", went_on and off <= bound, f"weights {off:.2%} apart")


def weights(workspace: Workspace) -> torch.Tensor:
    """What was trained."""
    from safetensors.torch import load_file

    found = load_file(workspace.artifact / "adapter_model.safetensors")
    return torch.cat([found[name].flatten().float() for name in sorted(found)])


def table(shapes: list[str], steps: int) -> bool:
    """Print it; whether everything holds."""
    where = torch.cuda.get_device_name() if device() == "cuda" else "CPU"
    rate, held = gemm("bfloat16", device(), 8192 if device() == "cuda" else 1024), list[bool]()
    print(f"{where}, torch {torch.__version__}; products in bfloat16: {rate:.0f} GFLOP/s")
    print(f"{'shape':6}{'adapter':9}{'':24}{'tokens/s':>10}{'share':>8}{'peak MB':>11}{'planned':>12}{'last loss':>11}")
    for name in shapes:
        with tempfile.TemporaryDirectory() as directory:
            shape, model = SHAPES[name], Path(directory) / "model"
            write_model(shape, model)
            for adapter in ADAPTERS:
                root = Path(directory) / adapter
                root.mkdir()
                workspace = begun(shape, model, adapter, steps, root)
                for row, good in speed(workspace, rate):
                    held.append(good)
                    print(f"{name:6}{adapter:9}{row}{'' if good else '  FAILS'}", flush=True)
            for check in checks(Workspace(Path(directory) / ADAPTERS[0] / "workspace")):
                held.append(check.holds)
                print(f"{name:6}{check.name:33}{'holds' if check.holds else 'FAILS':7}{check.found}", flush=True)
    return all(held)


def main() -> None:
    """Print the table, or, in a process that it starts, run a part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=["1b", "8b"])
    parser.add_argument("--steps", type=int, default=12, help="of each run")
    parser.add_argument("--run", choices=RUNS, help=argparse.SUPPRESS)
    parser.add_argument("--workspace", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        print(json.dumps(RUNS[options.run](Workspace(options.workspace))))
        return
    large = [name for name in options.shapes if name != "tiny"]
    if large and device() == "cpu":
        sys.exit(
            f"Shape {' and '.join(large)} trains on a GPU alone, and this machine shows no CUDA device: run it where "
            "one is, or with --shapes tiny, which says only that the script works."
        )
    if options.steps <= MIDWAY:
        sys.exit(f"--steps {options.steps} is too few: training is interrupted at step {MIDWAY}, so take one more.")
    if not table(options.shapes, options.steps):
        sys.exit("Something does not hold; see the table.")


if __name__ == "__main__":
    main()
