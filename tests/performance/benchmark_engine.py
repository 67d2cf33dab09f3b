"""What many adapters on one engine cost on CPUs: to load, in memory, and at each answer, against one adapter.

`make benchmark-engine` runs it and prints one table. Two engines of the small model are started as an Engine's pods
start them, with room for one adapter and for sixteen, of rank 16 on every linear layer. Adapters are loaded over vLLM's
own route from files that were just written; sixteen clients ask one adapter of the one, and an adapter each of the
other. The engines take turns, forth and back, so that what else the machine does slows both; each figure is the median.
"""

import argparse
import contextlib
import json
import os
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from benchmark_serving import CONTEXT, MODEL, ROWS, turn, write_adapters
from finetune_cli.processes import LOOPBACK, Child, free_port
from finetune_operator.api.engine import Lora
from finetune_operator.serving import adapters, inside, vllm

MANY = 16
PATIENCE = 600
STOP_SECONDS = 30


@dataclass
class Engine:
    """One that has loaded some adapters. `seconds`: until it answered; `loads`: each load's; `rates`: requests/s."""

    count: int
    port: int
    child: Child
    began: float
    seconds: float = 0
    loads: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=PATIENCE, trust_env=False)

    def until_it_answers(self) -> None:
        """Raises SystemExit with the end of its log where it stops before."""
        with self.client() as client:
            while True:
                with contextlib.suppress(httpx.TransportError):
                    if client.get("/health").status_code == 200:
                        self.seconds = time.monotonic() - self.began
                        return
                if self.child.wait(0.2) is not None:
                    raise SystemExit(self.child.tail(2000))

    def load(self, directories: list[Path]) -> None:
        """Load as many as it has room for."""
        with self.client() as client:
            for path in directories[: self.count]:
                began = time.monotonic()
                told = {"lora_name": path.name, "lora_path": str(path)}
                client.post("/v1/load_lora_adapter", json=told).raise_for_status()
                self.loads.append(time.monotonic() - began)

    def megabytes(self) -> float:
        """What its processes hold; what several share is divided among them."""
        held = 0
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError, ProcessLookupError):
                if os.getpgid(int(process.name)) == os.getpgid(self.child.pid):
                    rollup = (process / "smaps_rollup").read_text()
                    held += next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
        return held / 1000


def started(count: int, root: Path) -> Engine:
    """An engine with room for so many adapters."""
    port = free_port()
    # Its middleware is left out, which asks for a key that the container beside it makes.
    *lora, _, _ = adapters.arguments(Lora(at_once=count, max_rank=16))
    command = [
        *(sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--host", LOOPBACK, "--port", str(port)),
        *(*vllm.served(MODEL, "base"), *vllm.common(CONTEXT, False), *vllm.CPU_ARGUMENTS, *lora),
    ]
    environment = {**vllm.ENVIRONMENT, **vllm.CPU_ENVIRONMENT, **os.environ, "PYTHONPATH": str(inside.HERE)}
    given = {each["name"]: str(each["value"]) for each in adapters.environment()}
    return Engine(
        count, port, Child(command, root / f"{count}.log", environment | given, STOP_SECONDS), time.monotonic()
    )


def compare(root: Path, repeats: int, rows: int) -> None:
    """Run both in turns, and print the table."""
    lines = ROWS.read_text().splitlines()[:rows]
    asked = [json.loads(line)["messages"][:-1] for line in lines]
    directories = [root / f"adapter-{number}" for number in range(MANY)]
    write_adapters(*directories)
    names = [path.name for path in directories]
    with contextlib.ExitStack() as running:
        both = []
        # One after the other: what an engine takes to start is one of the figures.
        for count in (1, MANY):
            both.append(engine := started(count, root))
            running.enter_context(engine.child)
            engine.until_it_answers()
            engine.load(directories)
        for number in range(repeats + 1):
            for engine in both[:: 1 if number % 2 else -1]:
                took = turn(f"{engine.url}/v1", names[: engine.count], asked, str(number))
                # The first turn warms up.
                engine.rates += [took] if number else []
        held = [engine.megabytes() for engine in both]
    table(both[0], both[1], held)


def table(one: Engine, many: Engine, held: list[float]) -> None:
    """Print what was found, and what it is of one adapter's."""
    rates = [statistics.median(engine.rates) for engine in (one, many)]
    print(f"{'':<18}{'MB':>8}{'of one':>9}{'requests/s':>13}{'of one':>9}")
    for engine, memory, rate in zip((one, many), held, rates, strict=True):
        shares = memory / held[0], rate / rates[0]
        print(f"{engine.count:>2} adapter(s)     {memory:>8.0f}{shares[0]:>9.2f}{rate:>13.2f}{shares[1]:>9.2f}")
    load, start = statistics.median(many.loads), one.seconds
    print(f"an adapter is loaded in {load:.2f} s (median of {len(many.loads)}; the slowest {max(many.loads):.2f} s)")
    print(f"an engine of its own would have started in {start:.0f} s: {start / load:.0f} times as long")


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--rows", type=int, default=48)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        compare(Path(directory), options.repeats, options.rows)


if __name__ == "__main__":
    main()
