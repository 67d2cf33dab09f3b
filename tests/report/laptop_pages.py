"""A laptop's directory with runs in it, and its web page, as the tests of the page look at it.

Real: the page, what prepare left of the rows, and the processes that hold the runs' locks. Played: the statuses that
`finetune run` would have written by then, and the engine.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from decisions import decision
from finetune_cli.job import localize, read
from finetune_cli.main import app
from finetune_cli.store import Store
from finetune_cli.trainer import write_run_config
from finetune_operator.api.status import FineTuneJobStatus
from finetune_trainer.evaluation.page import render
from listening import listening
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from tiny import write_model
from typer.testing import CliRunner

Raw = dict[str, Any]
# What holds a run's lock as `finetune run` does, until it is asked to end; it says so by a file.
_HOLDS = """
import pathlib, signal, sys
from finetune_cli.store import Store
with Store(sys.argv[1]).lock():
    # Waited for, so that it can't come between a look and the waiting.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    print("held", flush=True)
    try:
        signal.sigwait({signal.SIGTERM})
    finally:
        pathlib.Path(sys.argv[1] + ".ended").touch()
"""
ROWS = [("two eggs", "eggs"), ("three cups of flour", "flour"), ("two cups of flour and three eggs", "flour and eggs")]


def write_rows(directory: Path) -> None:
    """The rows and the base model of all manifests."""
    write_model(directory / "model")
    rows = [
        {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]}
        for asked, answer in ROWS
        for _ in range(7)
    ]
    (directory / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def configure(directory: Path, name: str) -> str:
    """A manifest, and what a run begins with; its revision."""
    spec = {
        "model": {"source": "file://model"},
        "dataset": {"train": {"source": "file://train.jsonl"}},
        "training": {"epochs": 3 if name == "recipes" else 5},
        "evaluation": {"enabled": False},
    }
    manifest = {"apiVersion": "finetune.dev/v1alpha1", "kind": "FineTuneJob", "metadata": {"name": name}, "spec": spec}
    path = directory / f"{name}.yaml"
    path.write_text(yaml.safe_dump(manifest))
    job = localize(name, read(path).spec, directory)
    write_run_config(job, Store(name, directory / ".finetune"))
    return job.revision


def check(directory: Path, name: str) -> None:
    """What prepare leaves of the rows, by `finetune check`."""
    checked = CliRunner().invoke(app, ["check", f"{name}.yaml"], catch_exceptions=False)
    assert checked.exit_code == 0, checked.output


def learn(root: Path, steps: int) -> None:
    """The losses that training would have left."""
    (root / "artifact").mkdir(exist_ok=True)
    rows = [{"step": step, "epoch": step / 40, "loss": 2.0 / (1 + step / 20)} for step in range(1, steps + 1)]
    for row in rows[9::10]:
        row["validationLoss"] = row["loss"] + 0.1
    (root / "artifact" / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def report(root: Path) -> Path:
    """The report that evaluate would have left."""
    path = root / "evaluations" / "00000001" / "report.html"
    path.parent.mkdir(parents=True)
    path.write_text(render(decision()))
    return path


def write(directory: Path, name: str, status: Raw) -> None:
    """As `finetune run` writes it."""
    store = Store(name, directory / ".finetune")
    store.directory.mkdir(parents=True, exist_ok=True)
    store.write(FineTuneJobStatus.model_validate(status))


@contextmanager
def held(directory: Path, name: str) -> Iterator["subprocess.Popen[str]"]:
    """A run that is under way."""
    command = [sys.executable, "-c", _HOLDS, name]
    with subprocess.Popen(command, cwd=directory, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.terminate()


@contextmanager
def engine() -> Iterator[str]:
    """What vLLM would answer: who was asked, and what."""

    async def answer(request: Request) -> Response:
        body = await request.json()
        said = f"{body['model']} was asked {len(body['messages'])}: {body['messages'][-1]['content']}"
        return JSONResponse({"choices": [{"message": {"role": "assistant", "content": said}}]})

    with listening(Starlette(routes=[Route("/v1/chat/completions", answer, methods=["POST"])])) as address:
        yield f"{address}/v1"
