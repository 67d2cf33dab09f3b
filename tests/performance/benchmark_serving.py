"""What serving an adapter costs on CPUs, loaded and merged (hosting.adapter), against bare vLLM on the base model.

`make benchmark-serving` runs it and prints one table: the small model, a LoRA adapter of rank 16 on every linear layer,
rows of the recipe assistant, 16 clients, and as many tokens for each answer. The engines are started as `finetune run`
starts them, and take turns, forth and back, so that what else the machine does slows them all; each figure is the
median. The adapter is made of random numbers, which cost what learned ones do.
"""

import argparse
import contextlib
import itertools
import json
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import torch
from finetune_cli.engine import VllmProcess
from finetune_cli.job import LocalJob
from finetune_cli.processes import free_port
from finetune_operator.api.v1alpha1 import FineTuneJobSpec
from finetune_trainer.contract.config import Workspace
from finetune_trainer.training import merging
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

ROOT = Path(__file__).parents[2]
MODEL = ROOT / ".cache/models/SmolLM2-135M-Instruct"
ROWS = ROOT / "examples/recipe-assistant/test.jsonl"
NAME, REVISION = "recipes", "aaaa0001"
CONTEXT, CLIENTS, TOKENS = 1024, 16, 24
BASE, LOADED, MERGED = "base model", "adapter, loaded", "adapter, merged"
ENGINES = {BASE: {"base": True}, LOADED: {}, MERGED: {"merged": True}}


def write_adapters(*places: Path) -> None:
    """Adapters of random numbers, which cost what learned ones do."""
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32),
        LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"),
    )
    for place in places:
        with torch.no_grad():
            for name, weight in model.named_parameters():
                # B is zero at first, and is made so small that answers stay words.
                if "lora_B" in name:
                    weight.normal_(std=1e-4)
        model.save_pretrained(place)


def workspace(root: Path) -> Workspace:
    """An adapter, and the model that it makes of its base."""
    found = Workspace(root)
    write_adapters(found.artifact)
    found.merged.mkdir()
    merging.copy(MODEL, found.merged)
    merging.merge(found.artifact, found.merged)
    return found


def job() -> LocalJob:
    """Whose engines they are."""
    spec = {"model": {"source": f"file://{MODEL}"}, "dataset": {"train": {"source": f"file://{ROWS}"}}}
    return LocalJob(NAME, REVISION, FineTuneJobSpec.model_validate(spec), ())


def turn(url: str, models: list[str], asked: list[list[dict[str, str]]], salt: str) -> float:
    """Requests a second, when all rows are asked, of the models in turn; nothing of an earlier turn is in the prefix
    cache.
    """
    client = httpx.Client(base_url=url, timeout=600, trust_env=False)

    def answer(model: str, messages: list[dict[str, str]]) -> None:
        told = {"model": model, "messages": messages, "max_tokens": TOKENS, "temperature": 0, "ignore_eos": True}
        client.post("/chat/completions", json=told | {"cache_salt": salt}).raise_for_status()

    began = time.monotonic()
    with client, ThreadPoolExecutor(CLIENTS) as clients:
        list(clients.map(answer, itertools.cycle(models), asked))
    return len(asked) / (time.monotonic() - began)


def compare(root: Path, repeats: int, rows: int) -> dict[str, list[float]]:
    """Each engine's turns."""
    lines = ROWS.read_text().splitlines()[:rows]
    asked = [json.loads(line)["messages"][:-1] for line in lines]
    made = workspace(root)
    engines = {name: VllmProcess(job(), made, CONTEXT, free_port(), cpu=True, **kind) for name, kind in ENGINES.items()}
    found: dict[str, list[float]] = {name: [] for name in engines}
    with contextlib.ExitStack() as running:
        for number, engine in enumerate(engines.values()):
            child = running.enter_context(engine.start(root / f"{number}.log"))
            while not engine.answers():
                if child.wait(1) is not None:
                    raise SystemExit(child.tail(2000))
        for number in range(repeats + 1):
            for name in list(engines)[:: 1 if number % 2 else -1]:
                model = f"{NAME}-base" if name == BASE else NAME
                # The first turn warms up.
                took = turn(engines[name].url, [model], asked, f"{name} {number}")
                found[name] += [took] if number else []
    return found


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--rows", type=int, default=48)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        found = compare(Path(directory), options.repeats, options.rows)
    rates = {name: statistics.median(turns) for name, turns in found.items()}
    print(f"{'':<18}{'requests/s':>12}{'of the base model':>20}")
    for name, rate in rates.items():
        print(f"{name:<18}{rate:>12.2f}{rate / rates[BASE]:>20.2f}")


if __name__ == "__main__":
    main()
