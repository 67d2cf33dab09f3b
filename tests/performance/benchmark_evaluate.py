"""How much of an evaluation is ours: 200 rows x 4 contenders, against an engine in a process of its own.

`make benchmark` runs it and prints ratios of one run, which mean something on any machine. The engine takes a second
for each answer, five times as fast as the small model on two cores, so what is ours looks larger than it is. Its own
time is that in which it had a request.
"""

import json
import random
import sys
import tempfile
import threading
import time
from multiprocessing import Pipe, Process
from multiprocessing.connection import Connection
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path += [str(ROOT / part) for part in ("tests", "tests/unit/trainer")]

from evaluating import prepared  # noqa: E402
from finetune_trainer.contract.config import BaselineConfig, BaselineType, EvaluationConfig  # noqa: E402
from finetune_trainer.server import Reporter  # noqa: E402
from finetune_trainer.stages.evaluate import evaluate  # noqa: E402
from http_server import Handler, answering  # noqa: E402

ROWS, TRAIN, SECONDS = 200, 2000, 1.0
BASELINES = (
    BaselineConfig(type=BaselineType.ZERO_SHOT),
    BaselineConfig(type=BaselineType.FEW_SHOT, examples=4),
    BaselineConfig(type=BaselineType.RETRIEVAL, examples=4),
)
WORDS = [f"word{number}" for number in range(500)]


class Busy:
    """The time in which at least one request was under way."""

    def __init__(self) -> None:
        self._lock, self._running, self._since, self.seconds = threading.Lock(), 0, 0.0, 0.0

    def __enter__(self) -> None:
        with self._lock:
            self._since = time.monotonic() if not self._running else self._since
            self._running += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._running -= 1
            self.seconds += time.monotonic() - self._since if not self._running else 0


def engine(ready: Connection) -> None:
    """Answers every request after SECONDS; tells its HOST:PORT first, and at the end how long it was busy."""
    busy = Busy()

    class Answers(Handler):
        def do_GET(self) -> None:
            models = [{"id": name, "object": "model", "max_model_len": 2048} for name in ("recipes", "recipes-base")]
            self.answer_json({"object": "list", "data": models})

        def do_POST(self) -> None:
            body = json.loads(self.body())
            with busy:
                threading.Event().wait(SECONDS)
                message = {"role": "assistant", "content": "word1"}
                usage = {"prompt_tokens": 70, "completion_tokens": 10, "total_tokens": 80}
                choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
                self.answer_json({"id": "1", "model": body["model"], "choices": choices, "usage": usage})

    with answering(Answers) as place:
        ready.send(place)
        ready.recv()
    ready.send(busy.seconds)


def rows(count: int, seed: int) -> list[dict[str, str]]:
    """Questions of twelve words, none like another."""
    chance = random.Random(seed)
    return [{"prompt": " ".join(chance.choices(WORDS, k=12)), "completion": chance.choice(WORDS)} for _ in range(count)]


def main() -> None:
    """Evaluate once, and print whose time it was."""
    here, there = Pipe()
    process = Process(target=engine, args=(there,), daemon=True)
    process.start()
    url = f"http://{here.recv()}/v1"
    with tempfile.TemporaryDirectory() as directory:
        config, workspace = prepared(Path(directory), rows(TRAIN, seed=5), rows(ROWS, seed=4))
        began = time.monotonic()
        result = evaluate(config, EvaluationConfig(baselines=BASELINES), workspace, url, Reporter("evaluate"))
        whole = time.monotonic() - began
    here.send(None)
    busy = here.recv()
    process.terminate()
    print(f"{result.rows} rows, {1 + len(result.baselines)} contenders")
    print(f"the engine had a request for {busy / whole:.1%} of the time; ours alone: {1 - busy / whole:.1%} (aim: 5%)")


if __name__ == "__main__":
    main()
