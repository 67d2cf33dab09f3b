"""What it costs to prepare data: a million rows of 1 KB, and sixty, with the small model's tokenizer.

`make benchmark-data` runs it and prints one table. The stage runs as a process of its own, as a pod runs it. Its memory
is what it and the processes that it starts hold together, each shared page counted once, several times a second. Its
speed is held against what the tokenizers library alone makes of the same text on the same cores, in the same run: by
the clock, which wants a machine with nothing else to do, and by the processor's time.
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
from finetune_trainer.contract.config import DatasetConfig, ModelConfig, RunConfig, Source, SplitConfig, Workspace
from finetune_trainer.contract.results import PrepareResult
from finetune_trainer.data import base

ROOT = Path(__file__).parents[2]
MODEL = ROOT / ".cache/models/SmolLM2-135M-Instruct"
WORDS = (ROOT / "examples/recipe-assistant/ingredients.txt").read_text().split()
SMALL, SAMPLE = 60, 20_000
SHARE, MEGABYTES, SECONDS = 0.5, 1500, 3


@dataclass(frozen=True)
class Measured:
    """One run of the stage. `megabytes`: the most that its processes held together; `processor`: seconds, of all."""

    seconds: float
    processor: float
    megabytes: float
    result: PrepareResult


def rows(count: int) -> Iterator[dict[str, object]]:
    """Chats of about 1 KB, none like another."""
    chance = random.Random(1)

    def text(words: int) -> str:
        return " ".join(chance.choices(WORDS, k=words))

    for _ in range(count):
        asked = {"role": "user", "content": text(chance.randint(30, 90))}
        answered = {"role": "assistant", "content": text(chance.randint(30, 90))}
        yield {"messages": [{"role": "system", "content": "You answer briefly."}, asked, answered]}


def prepare(count: int, root: Path) -> Measured:
    """Run the stage on so many rows, a hundredth of them for the test."""
    root.mkdir()
    data = root / "train.jsonl"
    with data.open("w") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows(count))
    say(f"{count:,} rows, {data.stat().st_size / 1e6:,.1f} MB")
    config = RunConfig(
        name="bench",
        revision="00000000",
        model=ModelConfig(source=Source(uri="pvc://models/small", path=MODEL)),
        dataset=DatasetConfig(train=Source(uri="pvc://data/train.jsonl", path=data), test=SplitConfig(fraction=0.01)),
    )
    (root / "run.json").write_text(config.model_dump_json(by_alias=True))
    workspace = Workspace(root / "workspace")
    workspace.root.mkdir()
    places = ["--config", root / "run.json", "--workspace", workspace.root, "--termination-log", root / "termination"]
    command = [sys.executable, "-m", "finetune_trainer", "prepare", *map(str, places), "--status-port", "0"]
    began, used = time.monotonic(), of_children()
    process = psutil.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    most = 0.0
    while process.poll() is None:
        most = max(most, held(process))
        threading.Event().wait(0.2)
    seconds = time.monotonic() - began
    assert process.returncode == 0, (root / "termination").read_text()
    return Measured(
        seconds, of_children() - used, most, PrepareResult.model_validate_json(workspace.prepared.read_bytes())
    )


def of_children() -> float:
    """Seconds that processes which have ended took of a processor."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def held(process: psutil.Process) -> float:
    """Megabytes that a process and its children hold now."""
    found = 0.0
    for each in [process, *process.children(recursive=True)]:
        try:
            found += each.memory_full_info().pss / 1e6
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def alone() -> tuple[float, float]:
    """Rows that the tokenizers library encodes by itself, on all cores, in a second by the clock and of a processor."""
    model = base.read(MODEL, ModelConfig(source=Source(uri="pvc://models/small", path=MODEL)))
    texts = [model.render(row["messages"], None, False) for row in rows(SAMPLE)]  # type: ignore[arg-type]
    tokenizer = model.tokenizer.backend_tokenizer
    began, used = time.monotonic(), time.process_time()
    for start in range(0, SAMPLE, 1000):
        tokenizer.encode_batch(texts[start : start + 1000])
    return SAMPLE / (time.monotonic() - began), SAMPLE / (time.process_time() - used)


def say(what: str) -> None:
    """Tell what goes on; the table comes at the end."""
    print(f"  … {what}", file=sys.stderr, flush=True)


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000, help="of the large dataset")
    count = parser.parse_args().rows
    with tempfile.TemporaryDirectory(dir=ROOT / ".cache") as directory:
        small = prepare(SMALL, Path(directory) / "small")
        before = alone()
        large = prepare(count, Path(directory) / "large")
        possible, busy = ((early + late) / 2 for early, late in zip(before, alone(), strict=True))
    speed, worked = count / large.seconds, count / large.processor
    share = f"{speed:,.0f}; tokenizers alone: {possible:,.0f}; {speed / possible:.2f} of it"
    print(f"prepare of {SMALL} rows:          {small.seconds:.1f} s (goal: ≤ {SECONDS} s), {small.megabytes:.0f} MB")
    print(f"prepare of {count:,} rows:   {large.seconds:.0f} s, {large.result.dataset.tokens:,} tokens")
    print(f"rows a second:               {share} (goal: ≥ {SHARE})")
    print(f"of a processor's second:     {worked:,.0f}; tokenizers alone: {busy:,.0f}; {worked / busy:.2f} of it")
    print(f"memory of all its processes: {large.megabytes:,.0f} MB (goal: ≤ {MEGABYTES:,} MB)")


if __name__ == "__main__":
    main()
