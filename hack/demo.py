"""`make demo`: fine-tune the recipe assistant on this machine, ask it and its base model the same, and stop.

Drives `finetune run` as a user would: reads its status document, asks its endpoint with the openai client, and ends it.
The rows asked are held out: no dish of theirs is in the training data.
"""

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten

from openai import AsyncOpenAI
from rich.console import Console
from rich.table import Table
from rich.text import Text

ROOT = Path(__file__).parents[1]
EXAMPLE = Path("examples/recipe-assistant")
NAME = "recipe-assistant"
STATUS = Path(".finetune") / NAME / "status.json"
SHOWN = (0, 1, 2)
SHOWN_LENGTH = 120
MAX_TOKENS = 64
FINETUNE = str(Path(sys.executable).with_name("finetune"))
console = Console()


@dataclass(frozen=True)
class Answer:
    """What a model made of a held-out row."""

    text: str
    expected: str

    @property
    def right(self) -> bool:
        """Whether it is the expected text, letter for letter."""
        return self.text == self.expected


class Stopwatch:
    """Where the time went."""

    def __init__(self) -> None:
        self.began = self.last = time.monotonic()
        self.laps: dict[str, float] = {}

    def lap(self, name: str) -> None:
        """Book the time since the last lap on `name`."""
        now = time.monotonic()
        self.laps[name] = self.laps.get(name, 0) + now - self.last
        self.last = now

    def __str__(self) -> str:
        laps = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in self.laps.items() if seconds >= 1)
        return f"{time.monotonic() - self.began:.0f} s in all: {laps}"


@contextmanager
def serving(watch: Stopwatch) -> Iterator[str]:
    """The endpoint of `finetune run`, from the moment that it answers; stopped at the end."""
    # In a session of its own it is asked to end once, by us, and not by the terminal's Ctrl-C beside that.
    process = subprocess.Popen([FINETUNE, "run", str(EXAMPLE / "finetunejob.yaml")], start_new_session=True)
    try:
        phase = "Preparing"
        while (found := status(process.pid))["phase"] != "Serving":
            if found["phase"] != phase:
                watch.lap(phase.lower())
                phase = found["phase"]
            try:
                sys.exit(process.wait(0.2))
            except subprocess.TimeoutExpired:
                continue
        watch.lap(phase.lower())
        yield found["endpoint"]["url"]
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait()
        watch.lap("stopping")


def status(pid: int) -> dict:
    """The status document of the run with this process id; before it has written one, as if it had just begun."""
    lock = STATUS.with_name("lock")
    if not STATUS.exists() or lock.read_text() != str(pid):
        return {"phase": "Preparing"}
    return json.loads(STATUS.read_text())


async def ask(url: str, model: str, rows: list[list[dict]]) -> list[Answer]:
    """The model's answers to the held-out rows, all asked at once."""
    async with AsyncOpenAI(base_url=url, api_key="none", timeout=300) as client:

        async def one(row: list[dict]) -> Answer:
            answer = await client.chat.completions.create(
                model=model, messages=row[:-1], temperature=0, max_tokens=MAX_TOKENS
            )
            return Answer((answer.choices[0].message.content or "").strip(), row[-1]["content"])

        return await asyncio.gather(*(one(row) for row in rows))


def side_by_side(rows: list[list[dict]], base: list[Answer], tuned: list[Answer]) -> Table:
    """Three held-out rows, answered by both."""
    table = Table(title="Held-out recipes: the base model and the tuned one", show_lines=True)
    for column in ("recipe", "expected", "base model", "tuned model"):
        table.add_column(column, ratio=1)
    for index in SHOWN:
        question = rows[index][-2]["content"]
        table.add_row(question, base[index].expected, _marked(base[index]), _marked(tuned[index]))
    return table


def _marked(answer: Answer) -> Text:
    mark, style = ("✔", "green") if answer.right else ("✘", "red")
    return Text(f"{mark} {shorten(answer.text, SHOWN_LENGTH, placeholder=' …')}", style)


def main() -> None:
    """Run the example, compare, and say what to type next."""
    # Whoever ends the demo, `finetune run` ends with it.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    rows = [json.loads(line)["messages"] for line in (ROOT / EXAMPLE / "test.jsonl").read_text().splitlines()]
    watch = Stopwatch()
    with serving(watch) as url:
        base = asyncio.run(ask(url, f"{NAME}-base", rows))
        watch.lap("asking the base model")
        tuned = asyncio.run(ask(url, NAME, rows))
        watch.lap("asking the tuned model")
        console.print(side_by_side(rows, base, tuned))
        right = [sum(answer.right for answer in answers) for answers in (base, tuned)]
        console.print(
            f"Of {len(rows)} held-out recipes, the base model got {right[0]} exactly right, the tuned one {right[1]}."
        )
    console.print(f"Time: {watch}.")
    console.print(
        f"\nServe it again (nothing is trained twice):  .venv/bin/finetune run {EXAMPLE}/finetunejob.yaml"
        f"\nThen, in another terminal:                  .venv/bin/finetune chat {NAME}"
        f"\nThe artifact, its metrics and the logs:     .finetune/{NAME}/",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("The demo was stopped; `make demo` goes on from the last checkpoint.")
