"""One job's life on a laptop: trained, stopped in the middle, resumed, served, asked, stopped, served again.

The tests are one story on one workspace and run in order.
"""

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai
import psutil
import pytest
from finetune_cli.errors import ExitCode
from finetune_trainer.contract.config import Workspace
from laptop import NAME, ROWS, Command, Finetune

# So many that it is still training when it has been seen to be at that one, and is stopped.
STEPS, STOP = 300, 30
TRAINING = {"maxSteps": STEPS, "batchSize": 1, "maxLength": 128, "resources": {"limits": {"cpu": 2}}}
SYSTEM = "List the generic ingredients of the recipe."


@pytest.fixture(scope="module", autouse=True)
def job(directory: Path, write: Callable[..., None]) -> None:
    rows = ROWS.read_text().splitlines(keepends=True)[:40]
    (directory / "train.jsonl").write_text("".join(rows))
    write(training=TRAINING, hosting={"contextLength": 256})


def workspace(directory: Path) -> Workspace:
    (mark,) = (directory / ".finetune" / NAME).glob("*/run.json")
    return Workspace(mark.parent)


def condition(status: dict[str, Any], kind: str) -> dict[str, Any]:
    return next(found for found in status["conditions"] if found["type"] == kind)


def step(status: dict[str, Any]) -> int:
    progress = status.get("progress") or {}
    return int(progress.get("step", 0)) if progress.get("stage") == "train" else 0


def answer(endpoint: dict[str, str], model: str) -> str:
    client = openai.OpenAI(base_url=endpoint["url"], api_key="none")
    asked = client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": "2 eggs, 100 g flour"}], max_tokens=8, temperature=0
    )
    return asked.choices[0].message.content or ""


def test_ctrl_c_keeps_a_checkpoint_and_leaves_no_process(finetune: Finetune, directory: Path) -> None:
    run = finetune("run", "job.yaml")
    run.until(lambda status: step(status) >= STOP)
    children = psutil.Process(run.process.pid).children(recursive=True)
    assert children
    # A wrapper such as make passes on the Ctrl-C that the terminal has sent to all.
    run.process.send_signal(signal.SIGINT)
    assert run.interrupt() == 130
    assert psutil.wait_procs(children, timeout=300)[1] == []
    assert list(workspace(directory).checkpoints.glob("checkpoint-*"))
    assert "Stopping: train finishes its step and keeps a checkpoint" in run.said
    assert "Stopped. `finetune run job.yaml` goes on from here." in run.said
    assert "Only a cluster acts on training.resources" in run.said
    status = json.loads((directory / ".finetune" / NAME / "status.json").read_text())
    assert status["phase"] == "Suspended"
    assert condition(status, "DataReady")["status"] == "True"
    assert condition(status, "Trained")["reason"] == "Suspended"


def test_run_again_resumes_then_serves_both_models(finetune: Finetune, directory: Path) -> None:
    run = finetune("run", "job.yaml")
    status = run.until(lambda status: status.get("phase") == "Serving")
    log = (workspace(directory).root / "logs" / "train.log").read_text()
    assert 0 < sum("'loss'" in line for line in log.splitlines()) <= STEPS - STOP
    assert status["usage"]["trainedTokens"] > 0
    assert condition(status, "Ready")["status"] == "True"
    assert answer(status["endpoint"], NAME)
    assert answer(status["endpoint"], f"{NAME}-base")
    _ask_with_the_cli(finetune, status["endpoint"]["url"], run)
    assert run.interrupt() == 0
    assert "Stopped. `finetune run job.yaml` serves it again." in run.said
    assert "Traceback" not in run.said


def _ask_with_the_cli(finetune: Finetune, url: str, run: Command) -> None:
    chat = finetune("chat", "--message", "2 eggs, 100 g flour")
    assert chat.ends() == 0
    # More than the end of its line, though a model of random weights may have no other words.
    assert len(chat.said) > 1
    shown = finetune("status")
    assert shown.ends() == 0
    assert url in shown.said
    second = finetune("run", "job.yaml")
    assert second.ends() == ExitCode.FAILED
    assert f"{NAME} is being run already, by process {run.process.pid}." in second.said


def test_nothing_answers_after_the_stop_and_chat_says_so(finetune: Finetune) -> None:
    chat = finetune("chat", "--message", "Hello")
    assert chat.ends() == ExitCode.FAILED
    assert f"{NAME} is not being served; start it with `finetune run` and leave that running." in chat.said


def test_a_finished_job_is_not_trained_again(finetune: Finetune, directory: Path) -> None:
    mark = workspace(directory).trained
    before = mark.stat().st_mtime_ns
    run = finetune("run", "job.yaml", "--no-serve")
    assert run.ends() == 0
    assert mark.stat().st_mtime_ns == before
    assert f"The artifact is in {mark.parent}." in run.said


def test_merged_it_is_served_alone_and_not_trained_again(
    finetune: Finetune, write: Callable[..., None], directory: Path
) -> None:
    mark = workspace(directory).trained
    before = mark.stat().st_mtime_ns
    write(training=TRAINING, hosting={"contextLength": 256, "adapter": "merged"})
    run = finetune("run", "job.yaml")
    status = run.until(lambda status: status.get("phase") == "Serving")
    assert "The adapter is merged into a copy of its base model" in run.said
    assert condition(status, "Merged")["status"] == "True"
    assert answer(status["endpoint"], NAME)
    with pytest.raises(openai.NotFoundError):
        answer(status["endpoint"], f"{NAME}-base")
    assert run.interrupt() == 0
    assert mark.stat().st_mtime_ns == before


def test_an_engine_that_cannot_start_shows_the_end_of_its_log(
    finetune: Finetune, write: Callable[..., None], directory: Path
) -> None:
    write(
        training={key: value for key, value in TRAINING.items() if key != "resources"},
        hosting={"contextLength": 1_000_000},
    )
    run = finetune("run", "job.yaml")
    assert run.ends() == ExitCode.FAILED
    assert "host failed (EngineFailed): The engine does not start" in run.said
    assert "max_model_len" in run.said
