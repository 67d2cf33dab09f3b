"""`finetune check`: what is in the data, shown before anything is trained, with no word in any status."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from finetune_trainer.contract.outcome import Outcome
from laptop import NAME, Finetune


def row(asked: str, answer: str = "egg") -> dict[str, Any]:
    """A talk with two answers; the small model's own chat template marks none."""
    greeted = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "What do you cook?"}]
    return {"messages": [*greeted, {"role": "user", "content": asked}, {"role": "assistant", "content": answer}]}


@pytest.fixture
def rows(directory: Path, write: Callable[..., None]) -> Callable[..., None]:
    """Writes the manifest and its rows."""

    def written(*found: dict[str, Any]) -> None:
        (directory / "train.jsonl").write_text("".join(json.dumps(each) + "\n" for each in found))
        write(dataset={"train": {"source": "file://train.jsonl"}}, evaluation={"enabled": False})

    return written


def test_rows_lengths_findings_what_is_learned_and_the_plan_are_shown(
    finetune: Finetune, rows: Callable[..., None], directory: Path
) -> None:
    rows(*(row(f"{number} eggs") for number in range(18)), row("0 eggs", "onion"), row("many " * 40))
    check = finetune("check", "job.yaml")
    assert check.ends() == 0, check.said
    assert "rows to train on, format chat" in check.said
    assert "█" in check.said
    odd = "- 1 row of train.jsonl asks what an earlier one asks and is answered otherwise (train.jsonl:19)."
    assert odd in " ".join(check.said.split())
    for learned in ("What do you cook?", "egg"):
        assert f"<|im_start|>assistant\n«{learned}<|im_end|>" in check.said
    assert "learningRate" in check.said
    assert not (directory / ".finetune" / NAME / "status.json").exists()


def test_as_json_it_is_what_prepare_found(finetune: Finetune, rows: Callable[..., None]) -> None:
    rows(*(row(f"{number} eggs", f"eggs: {number}") for number in range(20)), row("0 eggs", "eggs: 0"))
    check = finetune("check", "job.yaml", "-o", "json")
    assert check.ends() == 0, check.said
    found = json.loads(check.said[check.said.index("{") :])
    assert found["prepared"]["dataset"]["format"] == "chat"
    assert [finding["kind"] for finding in found["findings"]] == ["duplicates"]


def test_secrets_and_personal_data_are_told_or_refused_as_the_manifest_says(
    finetune: Finetune, rows: Callable[..., None], directory: Path, write: Callable[..., None]
) -> None:
    rows(*(row(f"{number} eggs") for number in range(18)), row("her address", "jane.doe@gmail.com"))
    told = "1 row of train.jsonl seems to hold e-mail addresses (train.jsonl:19)."
    check = finetune("check", "job.yaml")
    assert check.ends() == 0, check.said
    assert told in " ".join(check.said.split())
    train = {"source": "file://train.jsonl"}
    write(dataset={"train": train, "onSensitive": "fail"}, evaluation={"enabled": False})
    check = finetune("check", "job.yaml")
    assert check.ends() == Outcome.DATA_INVALID.exit.code
    assert f"error: prepare failed (DataInvalid): {told}" in " ".join(check.said.split())


def test_what_can_not_be_trained_is_a_sentence_and_an_exit_code(finetune: Finetune, rows: Callable[..., None]) -> None:
    rows(row("2 eggs"), {"messages": []})
    check = finetune("check", "job.yaml")
    assert check.ends() == Outcome.DATA_INVALID.exit.code
    assert "error: prepare failed (DataInvalid):" in check.said
    assert "train.jsonl:2" in check.said
    assert "Traceback" not in check.said
