"""`make demo`: fine-tune the recipe assistant on this machine, measure it against its base model, and stop.

Drives `finetune run` as a user would: reads its status document, shows three rows of what was measured, and ends it.
The rows asked are held out: no dish of theirs is in the training data.
"""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import shorten
from urllib.parse import urlsplit
from urllib.request import url2pathname

from rich.console import Console
from rich.table import Table
from rich.text import Text

EXAMPLE = Path("examples/recipe-assistant")
NAME = "recipe-assistant"
STATUS = Path(".finetune") / NAME / "status.json"
SHOWN = 3
SHOWN_LENGTH = 120
BASE, TUNED = "zero-shot", "tuned"
FINETUNE = str(Path(sys.executable).with_name("finetune"))
console = Console()


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
def serving(watch: Stopwatch) -> Iterator[dict]:
    """The status of `finetune run`, from the moment that it serves; stopped at the end."""
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
        yield found
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


def side_by_side(rows: Path) -> Table:
    """Held-out rows, answered by both; `rows` is what every number of the report can be traced to."""
    table = Table(title="Held-out recipes: the base model and the tuned one", show_lines=True)
    for column in ("recipe", "expected", "base model", "tuned model"):
        table.add_column(column, ratio=1)
    for line in rows.read_text().splitlines()[:SHOWN]:
        row = json.loads(line)
        said = (_marked(row["answers"][name].strip(), row["reference"]) for name in (BASE, TUNED))
        table.add_row(row["prompt"][-1]["content"], row["reference"], *said)
    return table


def _marked(text: str, expected: str) -> Text:
    mark, style = ("✔", "green") if text == expected else ("✘", "red")
    return Text(f"{mark} {shorten(text, SHOWN_LENGTH, placeholder=' …')}", style)


def main() -> None:
    """Run the example, compare, and say what to type next."""
    # Whoever ends the demo, `finetune run` ends with it.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    watch = Stopwatch()
    with serving(watch) as status:
        report = Path(url2pathname(urlsplit(status["evaluation"]["report"]).path))
        console.print(side_by_side(report.with_name("rows.jsonl")))
    console.print(f"Time: {watch}.")
    console.print(
        f"\nThe verdict again, and the report as a page:  .venv/bin/finetune report {NAME}"
        f"\nServe it again (nothing is trained twice):    .venv/bin/finetune run {EXAMPLE}/finetunejob.yaml"
        f"\nThen, in another terminal:                    .venv/bin/finetune chat {NAME}"
        f"\nThe artifact, its metrics and the logs:       .finetune/{NAME}/",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("The demo was stopped; `make demo` goes on from the last checkpoint.")
