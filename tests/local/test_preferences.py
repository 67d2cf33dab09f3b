"""Preferences learned on a laptop by QLoRA, from OpenAI's rows to a gate that the real engine's likelihoods decide."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from finetune_trainer.evaluation.decision import Decision
from laptop import NAME, ROWS, Finetune


def preference(line: str) -> dict[str, Any]:
    """A row of the recipes as a pair: its own answer, and one that says nothing."""
    *asked, answer = json.loads(line)["messages"]
    wrong = answer | {"content": "It depends on what you have at home."}
    return {"input": {"messages": asked}, "preferred_output": [answer], "non_preferred_output": [wrong]}


def test_what_is_preferred_becomes_likelier_on_the_engine_that_serves(
    finetune: Finetune, write: Callable[..., None], directory: Path
) -> None:
    rows = [json.dumps(preference(line)) + "\n" for line in ROWS.read_text().splitlines()[:44]]
    (directory / "train.jsonl").write_text("".join(rows[:40]))
    (directory / "test.jsonl").write_text("".join(rows[40:]))
    write(
        dataset={"train": {"source": "file://train.jsonl"}, "test": {"source": "file://test.jsonl"}},
        training={
            "method": "dpo",
            # Beside four bits, and scaled by the root of its rank: served beside the weights as they are stored.
            "adapter": {"type": "qlora", "useRslora": True},
            "maxSteps": 30,
            "batchSize": 4,
            "maxLength": 128,
            "learningRate": 0.01,
        },
        evaluation={
            "metrics": ["reward_accuracy", "token_f1"],
            "baselines": [{"type": "zero-shot"}],
            "sampleSize": 4,
            "maxAnswerTokens": 8,
            # On so few rows no lead is sure.
            "gate": {"minimum": 0.9, "margin": -0.5},
        },
        hosting={"contextLength": 512},
    )
    run = finetune("run", "job.yaml", "--no-serve")
    assert run.ends() == 0, run.said
    (curve,) = (directory / ".finetune" / NAME).glob("*/artifact/metrics.jsonl")
    assert json.loads(curve.read_text().splitlines()[-1])["validationRewardAccuracy"] == 1.0
    (report,) = (directory / ".finetune" / NAME).glob("*/evaluations/*/report.json")
    result = Decision.model_validate_json(report.read_bytes()).result
    (zero_shot,) = result.baselines.values()
    scores = [contender.scores["reward_accuracy"].score for contender in (result.tuned, zero_shot)]
    assert scores == [1.0, 0.5]


def test_a_reward_model_is_published_and_says_how_often_it_is_right(
    finetune: Finetune, write: Callable[..., None], directory: Path
) -> None:
    rows = [json.dumps(preference(line)) + "\n" for line in ROWS.read_text().splitlines()[:20]]
    (directory / "pairs.jsonl").write_text("".join(rows))
    write(
        dataset={"train": {"source": "file://pairs.jsonl"}, "validation": {"fraction": 0.2}},
        training={"method": "reward", "maxSteps": 2, "batchSize": 2, "maxLength": 128},
        hosting={"enabled": False},
    )
    run = finetune("run", "job.yaml")
    assert run.ends() == 0, run.said
    assert "% are ranked as they should be." in run.said
    latest = max((directory / ".finetune" / NAME).glob("*/artifact/merged/config.json"), key=os.path.getmtime)
    found = json.loads(latest.read_text())
    assert (found["architectures"], found["id2label"]) == (["LlamaForSequenceClassification"], {"0": "LABEL_0"})
