"""The tutorials of OpenAI's and of Azure's client on a laptop: the scripts of examples/ as they lie there.

Each has a `finetune serve` with its own table of base models, whose gate the small real model has to pass before it is
asked. Each deletes its model in the end, and with it the engine.
"""

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from finetune_cli.background import Background
from finetune_cli.laptop import Laptop
from finetune_cli.store import ROOT
from finetune_trainer.contract.results import EvaluateResult
from finetune_trainer.evaluation.decision import Decision
from laptop import ENDS, INGREDIENTS, SMOLLM2, Command, Finetune, alike
from openai import OpenAI
from paths import EXAMPLES
from ports import free_port

MODEL = "gpt-4o-mini-2024-07-18"


@pytest.fixture(autouse=True)
def no_run_outlives_the_story(directory: Path) -> Iterator[None]:
    yield
    for name in Laptop(directory / ROOT).names():
        asyncio.run(Background(directory).stop(name))


def serve(finetune: Finetune, directory: Path, example: str, **shorter: dict[str, Any]) -> tuple[Command, str]:
    """`finetune serve` with the example's table, but for where its model lies and what is shorter; its address."""
    table = yaml.safe_load((EXAMPLES / example / "models.yaml").read_text())
    table[MODEL]["model"]["source"] = f"file://{SMOLLM2}"
    for section, fields in shorter.items():
        table[MODEL][section] |= fields
    (directory / "models.yaml").write_text(yaml.safe_dump(table))
    port = free_port()
    server = finetune("serve", "--models", "models.yaml", "--port", str(port))
    server.until_said("What can be fine-tuned")
    address = f"http://127.0.0.1:{port}"
    # Its own tries last until the server listens.
    OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=10).models.list()
    return server, address


def walk(example: str, server: Command, **environment: str) -> str:
    """All that the tutorial says, once it has ended well."""
    command = [sys.executable, "-u", str(EXAMPLES / example / "tutorial.py")]
    given = {**os.environ, "TUTORIAL_SECONDS": "0.5", **environment}
    told = subprocess.run(command, capture_output=True, text=True, check=False, timeout=ENDS, env=given)
    assert told.returncode == 0, told.stdout + told.stderr + server.said
    return told.stdout


def job(told: str) -> str:
    """The name of the job that a tutorial made."""
    made = re.search(r"^Job ftjob-(\S+): validating_files$", told, re.MULTILINE)
    assert made, told
    return made[1]


def passed(directory: Path, name: str) -> EvaluateResult:
    """What was measured, which has led it past its gate."""
    (report,) = (directory / ROOT / name).glob("*/evaluations/*/report.json")
    decision = Decision.model_validate_json(report.read_bytes())
    assert decision.gate
    assert decision.verdict.passed
    return decision.result


def test_the_cookbooks_model_passes_its_gate_and_lists_what_is_in_a_recipe(finetune: Finetune, directory: Path) -> None:
    server, address = serve(
        finetune,
        directory,
        "openai-cookbook",
        training={"maxSteps": 12},
        evaluation={"baselines": [{"type": "zero-shot"}], "sampleSize": 8, "maxAnswerTokens": 32},
    )
    told = walk("openai-cookbook", server, OPENAI_BASE_URL=f"{address}/v1", OPENAI_API_KEY="none")
    assert "wrong.jsonl:2: messages is empty\n" in told
    name = job(told)
    model = f"ft:{MODEL}:local:recipe-ner:{name}"
    assert re.search(r"^  Evaluated: token_f1 .* The gate is met", told, re.MULTILINE), told
    assert passed(directory, name).baselines.keys() == {"zero-shot"}
    for line in (
        f"  New fine-tuned model created: {model}",
        "  The job has successfully completed",
        f"{model} deleted: True",
    ):
        assert f"{line}\n" in told
    # A recipe that it has never seen.
    answer = re.search(rf"^Right:   {INGREDIENTS}\nAnswer:  (.+)$", told, re.MULTILINE)
    assert answer, told
    assert alike(answer[1], INGREDIENTS), told
    assert re.search(rf"^That was {name}, in [1-9]\d* tokens\.$", told, re.MULTILINE), told
    assert server.interrupt() == 0
    assert "Traceback" not in server.said


def test_azures_model_passes_its_gate_and_is_deployed_asked_and_deleted(finetune: Finetune, directory: Path) -> None:
    server, address = serve(finetune, directory, "azure-openai", evaluation={"maxAnswerTokens": 64})
    names = {"AZURE_OPENAI_ENDPOINT": address, "AZURE_OPENAI_API_KEY": "none", "AZURE_OPENAI_RESOURCE": "local"}
    told = walk("azure-openai", server, **names)
    name = job(told)
    assert "  DataReady: 16 rows to train on, 8 to validate, 4 set aside.\n" in told
    assert re.search(r"^  Evaluated: inverse_perplexity .* The gate is met", told, re.MULTILINE), told
    # It has learnt to say as little as Gruff does, where the base model goes on.
    measured = passed(directory, name)
    spoken = [each.requests.completion_tokens for each in (measured.tuned, measured.baselines["zero-shot"])]
    assert spoken[0] * 2 < spoken[1]
    assert re.search(r"^  Checkpoint of step [1-9]\d*, validation loss \d", told, re.MULTILINE), told
    for line in (
        f"Model ft:{MODEL}:local:keeper:{name}",
        "Deployment lighthouse-keeper: Succeeded",
        "Deployments left: 0",
    ):
        assert f"{line}\n" in told
    assert re.search(r"^Gruff: \S", told, re.MULTILINE), told
    assert server.interrupt() == 0
    assert "Traceback" not in server.said
