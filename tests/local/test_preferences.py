"""Preferences learned on a laptop by the small real model, from OpenAI's rows to a gate that its engine decides.

`test_measured` has kto on that model, and `test_text_to_sql` sft.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from finetune_trainer.evaluation.decision import Decision
from laptop import NAME, ROWS, SMOLLM2, Finetune
from test_run import answer
from transformers import AutoModelForSequenceClassification, AutoTokenizer


def preference(line: str) -> dict[str, Any]:
    """A row of the recipes as a pair: its own answer, and one that says nothing."""
    *asked, answer = json.loads(line)["messages"]
    wrong = answer | {"content": "It depends on what you have at home."}
    return {"input": {"messages": asked}, "preferred_output": [answer], "non_preferred_output": [wrong]}


@pytest.fixture(scope="module", autouse=True)
def rows(directory: Path) -> list[str]:
    """Those of test."""
    found = [json.dumps(preference(line)) + "\n" for line in ROWS.read_text().splitlines()[:20]]
    (directory / "train.jsonl").write_text("".join(found[:16]))
    (directory / "test.jsonl").write_text("".join(found[16:]))
    return found[16:]


def test_what_is_preferred_becomes_likelier_on_the_engine_that_serves(
    finetune: Finetune, write: Callable[..., None], directory: Path
) -> None:
    write(
        model={"source": f"file://{SMOLLM2}"},
        dataset={"train": {"source": "file://train.jsonl"}, "test": {"source": "file://test.jsonl"}},
        training={
            "method": "dpo",
            # Beside four bits, and scaled by the root of its rank: served beside the weights as they are stored.
            "adapter": {"type": "qlora", "useRslora": True},
            "maxSteps": 3,
            "batchSize": 4,
            "maxLength": 128,
            "learningRate": 0.001,
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
    run = finetune("run", "job.yaml")
    endpoint = run.until(lambda status: status.get("phase") == "Serving")["endpoint"]
    (curve,) = (directory / ".finetune" / NAME).glob("*/artifact/metrics.jsonl")
    assert json.loads(curve.read_text().splitlines()[-1])["validationRewardAccuracy"] > 0.5
    (report,) = (directory / ".finetune" / NAME).glob("*/evaluations/*/report.json")
    result = Decision.model_validate_json(report.read_bytes()).result
    (zero_shot,) = result.baselines.values()
    scores = [contender.scores["reward_accuracy"].score for contender in (result.tuned, zero_shot)]
    assert scores[0] > scores[1] == 0.5
    # The base model talks where it is to list, as the answers that are not preferred do.
    assert result.tuned.scores["token_f1"].score > zero_shot.scores["token_f1"].score
    assert answer(endpoint, NAME)
    assert run.interrupt() == 0


def test_a_reward_model_is_served_measured_and_gated(
    finetune: Finetune, write: Callable[..., None], directory: Path, rows: list[str]
) -> None:
    write(
        model={"source": f"file://{SMOLLM2}"},
        dataset={
            "train": {"source": "file://train.jsonl"},
            "test": {"source": "file://test.jsonl"},
            "validation": {"fraction": 0.2},
        },
        training={"method": "reward", "maxSteps": 3, "batchSize": 4, "maxLength": 128, "learningRate": 0.001},
        evaluation={"gate": {"minimum": 0.9}},
        hosting={"contextLength": 512},
    )
    run = finetune("run", "job.yaml")
    endpoint = run.until(lambda status: status.get("endpoint"))["endpoint"]
    said = run.until_said(f"curl {endpoint['url']}")
    assert "% are ranked as they should be." in said
    assert "ranking_accuracy 1.000" in said
    newest = max((directory / ".finetune" / NAME).glob("*/artifact"), key=os.path.getmtime)
    (ratings,) = (newest.parent / "evaluations").glob("ratings.jsonl")
    first, *_ = [json.loads(line) for line in ratings.read_text().splitlines()]
    asked = json.loads(rows[0])["input"]["messages"]
    rated = [*asked, {"role": "assistant", "content": first["text"]}]
    body = {"model": endpoint["model"], "messages": rated, "use_activation": False}
    answer = httpx.post(endpoint["url"], json=body, timeout=600, trust_env=False).json()
    (reward,) = answer["data"][0]["probs"]
    assert reward == pytest.approx(first["reward"], abs=0.01)
    # As the libraries have it that it was trained with.
    judge = AutoModelForSequenceClassification.from_pretrained(newest / "merged")
    tokenizer = AutoTokenizer.from_pretrained(newest / "merged")
    tokens = tokenizer.apply_chat_template(rated, return_tensors="pt", return_dict=True)
    assert reward == pytest.approx(float(judge(**tokens).logits[0, 0]), abs=0.1)
    chat = finetune("chat", NAME, "-m", "Hello")
    assert chat.ends() != 0
    assert "is a reward model, which rates answers and writes none: post a whole chat to" in chat.said
    run.interrupt()
