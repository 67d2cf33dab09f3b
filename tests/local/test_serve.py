"""OpenAI's client on a laptop, as its cookbook uses it: rows, a job, its events, a model that answers, and its end."""

import asyncio
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from finetune_cli.background import Background
from finetune_cli.laptop import Laptop
from finetune_cli.store import ROOT
from laptop import ANSWERS, ROWS, TINY, Command, Finetune
from openai import OpenAI
from openai.types.fine_tuning import FineTuningJob
from ports import free_port

MODELS = {
    "gpt-4o-mini-2024-07-18": {
        "model": {"source": f"file://{TINY}"},
        "training": {"maxSteps": 4, "batchSize": 2, "maxLength": 128},
        "evaluation": {"enabled": False},
        "hosting": {"contextLength": 256},
    }
}


@pytest.fixture(autouse=True)
def no_run_outlives_the_story(directory: Path) -> Iterator[None]:
    yield
    for name in Laptop(directory / ROOT).names():
        asyncio.run(Background(directory).stop(name))


def ended(client: OpenAI, id: str, server: Command) -> FineTuningJob:
    """The job once it is at its end; fails with what the server said when that ends before."""
    for _ in range(int(ANSWERS / 0.2)):
        job = client.fine_tuning.jobs.retrieve(id)
        if job.status in ("succeeded", "failed"):
            return job
        try:
            pytest.fail(f"`finetune serve` ended with {server.process.wait(0.2)}:\n{server.said}")
        except subprocess.TimeoutExpired:
            continue
    pytest.fail(f"not at its end: {job}")


def test_the_cookbooks_steps(finetune: Finetune, directory: Path) -> None:
    (directory / "models.yaml").write_text(yaml.safe_dump(MODELS))
    (directory / "train.jsonl").write_text("".join(ROWS.read_text().splitlines(keepends=True)[:40]))
    port = free_port()
    server = finetune("serve", "--models", "models.yaml", "--port", str(port))
    # Its own tries last until the server listens.
    client = OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=10)
    file = client.files.create(file=(directory / "train.jsonl").open("rb"), purpose="fine-tune")
    job = client.fine_tuning.jobs.create(model="gpt-4o-mini-2024-07-18", training_file=file.id, suffix="recipes")
    assert client.files.delete(file.id).deleted
    job = ended(client, job.id, server)
    assert job.status == "succeeded", job.error
    assert job.fine_tuned_model
    assert job.trained_tokens
    assert any("Trained on" in each.message for each in client.fine_tuning.jobs.list_events(job.id))
    assert [each.step_number for each in client.fine_tuning.jobs.checkpoints.list(job.id)] == [4]
    asked = client.chat.completions.create(
        model=job.fine_tuned_model,
        messages=[{"role": "user", "content": "2 eggs, 100 g flour"}],
        max_tokens=8,
        stream=True,
    )
    assert len(list(asked)) > 1
    assert client.models.delete(job.fine_tuned_model).deleted
    assert server.interrupt() == 0
    assert "Traceback" not in server.said
