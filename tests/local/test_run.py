"""One job's life on a laptop: imported, checked, trained, stopped in the middle, resumed, measured, served, asked, ….

It is AutoTrain's tutorial (examples/autotrain) on the small real model, with fewer rows, and with a gate. The tests are
one story on one workspace and run in order.
"""

import json
import shlex
import shutil
import signal
from pathlib import Path
from typing import Any

import openai
import psutil
import pytest
import yaml
from finetune_cli.errors import ExitCode
from finetune_trainer.contract.config import Workspace
from laptop import INGREDIENTS, NAME, RECIPE, ROWS, SMOLLM2, Command, Finetune, alike
from paths import EXAMPLES
from ports import free_port
from tutorials import typed

IMPORT, CHECK, RUN = (shlex.split(line)[1:] for line in typed("autotrain", "On a laptop"))
# Of 140 rows train has 112, of which a step has 8: it still trains when it has been seen to be where it is stopped.
COUNT, STEPS, STOP = 140, 14, 2
# Those that were set aside are few, so what decides is how much of an answer is right.
EVALUATION = {
    "metrics": ["token_f1", "exact_match"],
    # `test_measured` has the other baselines.
    "baselines": [{"type": "zero-shot"}],
    "sampleSize": 8,
    "maxAnswerTokens": 32,
    "gate": {"minimum": 0.6, "margin": 0.1},
}


@pytest.fixture(scope="module", autouse=True)
def configuration(directory: Path) -> None:
    """What there is before anything is typed."""
    rows = directory.parent / "recipe-assistant"
    rows.mkdir()
    (rows / "train.jsonl").write_text("".join(ROWS.read_text().splitlines(keepends=True)[:COUNT]))
    shutil.copy(EXAMPLES / "autotrain/config.yml", directory)


def edit(directory: Path, **sections: Any) -> None:
    """The manifest that was imported with other sections."""
    job = yaml.safe_load((directory / "job.yaml").read_text())
    (directory / "job.yaml").write_text(yaml.safe_dump(job | {"spec": job["spec"] | sections}))


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


def test_what_was_autotrains_is_imported_and_its_rows_are_shown(finetune: Finetune, directory: Path) -> None:
    imported = finetune(*IMPORT, "--name", NAME, "--model", f"file://{SMOLLM2}")
    assert imported.ends() == 0, imported.said
    assert "dataset.train.source: file://../recipe-assistant/train.*" in imported.said
    assert "Still to be mended" not in imported.said
    edit(directory, evaluation=EVALUATION)
    check = finetune(*CHECK)
    assert check.ends() == 0, check.said
    assert f"{NAME}: 112 rows to train on, format chat" in check.said
    assert "train.jsonl:" in check.said


def test_ctrl_c_keeps_a_checkpoint_and_leaves_no_process(finetune: Finetune, directory: Path) -> None:
    run = finetune(*RUN)
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
    status = json.loads((directory / ".finetune" / NAME / "status.json").read_text())
    assert status["phase"] == "Suspended"
    assert condition(status, "DataReady")["status"] == "True"
    assert condition(status, "Trained")["reason"] == "Suspended"


def test_run_again_resumes_measures_and_serves_both_models(finetune: Finetune, directory: Path) -> None:
    run = finetune(*RUN)
    status = run.until(lambda status: status.get("phase") == "Serving")
    log = (workspace(directory).root / "logs" / "train.log").read_text()
    assert 0 < sum("'loss'" in line for line in log.splitlines()) <= STEPS - STOP
    assert status["usage"]["trainedTokens"] > 0
    assert condition(status, "Ready")["status"] == "True"
    assert answer(status["endpoint"], NAME)
    assert answer(status["endpoint"], f"{NAME}-base")
    _ask_with_the_cli(finetune, status["endpoint"]["url"], run)
    _ask_with_openais_client(finetune)
    assert run.interrupt() == 0
    assert "Stopped. `finetune run job.yaml` serves it again." in run.said
    assert "Traceback" not in run.said
    assert "The gate is met" in condition(status, "Evaluated")["message"]
    assert status["evaluation"]["baselines"].keys() == {"zero-shot"}
    assert list(workspace(directory).tensorboard.glob("**/events.out.tfevents.*"))
    report = finetune("report", "--checklist")
    assert report.ends() == 0, report.said
    assert "## 2. What was tried without fine-tuning, and how good was it?" in report.said


def _ask_with_the_cli(finetune: Finetune, url: str, run: Command) -> None:
    chat = finetune("chat", "--message", RECIPE)
    assert chat.ends() == 0
    assert alike(chat.said, INGREDIENTS), chat.said
    shown = finetune("status")
    assert shown.ends() == 0
    assert url in shown.said
    second = finetune("run", "job.yaml")
    assert second.ends() == ExitCode.FAILED
    assert (
        f"{NAME} is being run already, by process {run.process.pid}; `finetune cancel {NAME}` ends it." in second.said
    )


def _ask_with_openais_client(finetune: Finetune) -> None:
    """A run that was begun by hand, by the name that `finetune serve` has for its model; streamed."""
    port = free_port()
    server = finetune("serve", "--port", str(port))
    # Its own tries last until the server listens.
    client = openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=10)
    (model,) = [each.id for each in client.models.list() if each.id.endswith(f":{NAME}")]
    asked = client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": RECIPE}], max_tokens=8, stream=True
    )
    assert len(list(asked)) > 1
    assert server.interrupt() == 0
    assert "Traceback" not in server.said


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
    # It was measured, too, so no engine is needed.
    assert "host: " not in run.said
    assert "token_f1" in run.said


def test_merged_it_is_served_alone_and_not_trained_again(finetune: Finetune, directory: Path) -> None:
    mark = workspace(directory).trained
    before = mark.stat().st_mtime_ns
    edit(directory, hosting={"contextLength": 256, "adapter": "merged"}, evaluation={"enabled": False})
    run = finetune("run", "job.yaml")
    status = run.until(lambda status: status.get("phase") == "Serving")
    assert "The adapter is merged into a copy of its base model" in run.said
    assert condition(status, "Merged")["status"] == "True"
    assert answer(status["endpoint"], NAME)
    with pytest.raises(openai.NotFoundError):
        answer(status["endpoint"], f"{NAME}-base")
    assert run.interrupt() == 0
    assert mark.stat().st_mtime_ns == before


def test_an_engine_that_cannot_start_shows_the_end_of_its_log(finetune: Finetune, directory: Path) -> None:
    edit(directory, hosting={"contextLength": 1_000_000}, evaluation={"enabled": False})
    run = finetune("run", "job.yaml")
    assert run.ends() == ExitCode.FAILED
    assert "host failed (EngineFailed): The engine does not start" in run.said
    assert "max_model_len" in run.said
