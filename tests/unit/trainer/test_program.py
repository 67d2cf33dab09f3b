"""The program as a stage pod runs it: `python -m finetune_trainer prepare`, its exit code and termination message."""

import json
import logging
import shutil
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from finetune_trainer import __main__ as program
from finetune_trainer.contract.outcome import Outcome
from finetune_trainer.data import fetch
from hub import Hub, Repository, listening
from ports import free_port
from tiny import write_model

ROWS = '{"prompt": "list two eggs", "completion": "eggs"}\n' * 4
Run = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def config(tmp_path: Path) -> dict[str, Any]:
    """What the operator writes to run.json."""
    (tmp_path / "train.jsonl").write_text(ROWS)
    return {
        "name": "recipes",
        "revision": "0a1b2c3d",
        "model": {"source": {"uri": "pvc://models/tiny", "path": str(write_model(tmp_path / "model"))}},
        "dataset": {"train": {"uri": "pvc://data/train.jsonl", "path": str(tmp_path / "train.jsonl")}},
    }


@pytest.fixture
def port() -> int:
    """One that nobody listens on."""
    return free_port()


@pytest.fixture
def run(tmp_path: Path, config: dict[str, Any], port: int, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run prepare on `config` as it is then, with more arguments if need be."""
    (tmp_path / "workspace").mkdir()

    def run_it(*more: str) -> tuple[int, dict[str, Any]]:
        (tmp_path / "run.json").write_text(json.dumps(config))
        options = {"config": "run.json", "workspace": "workspace", "termination-log": "termination-log"}
        arguments = [part for name, path in options.items() for part in (f"--{name}", str(tmp_path / path))]
        monkeypatch.setattr(sys, "argv", ["finetune_trainer", "prepare", "--status-port", str(port), *arguments, *more])
        with pytest.raises(SystemExit) as ending:
            program.main()
        assert isinstance(ending.value.code, int)
        return ending.value.code, json.loads((tmp_path / "termination-log").read_text())

    return run_it


def test_what_it_prepared_is_in_the_termination_message_and_in_the_workspace(run: Run, tmp_path: Path) -> None:
    code, message = run()
    assert code == 0
    assert message["reason"] == "Succeeded"
    assert message["result"] == json.loads((tmp_path / "workspace" / "prepared.json").read_text())
    assert message["result"]["dataset"]["rows"] == {"train": 4, "validation": 0, "test": 0}


def test_once_its_base_model_is_removed_from_where_all_keep_theirs_it_is_not_complete(run: Run, tmp_path: Path) -> None:
    run()
    (tmp_path / "workspace" / "model").symlink_to(tmp_path / "removed")
    (tmp_path / "train.jsonl").write_text(ROWS * 2)
    code, message = run()
    assert code == 0
    assert message["result"]["dataset"]["rows"]["train"] == 8


def test_a_complete_workspace_is_left_as_it_is(run: Run, tmp_path: Path) -> None:
    first = run()
    shutil.rmtree(tmp_path / "model")
    (tmp_path / "train.jsonl").unlink()
    assert run() == first


def test_a_workspace_of_another_revision_is_not_taken_for_complete(
    run: Run, config: dict[str, Any], tmp_path: Path
) -> None:
    run()
    (tmp_path / "train.jsonl").write_text(ROWS * 2)
    config["revision"] = "99999999"
    code, message = run()
    assert code == 0
    assert message["result"]["dataset"]["rows"]["train"] == 8


def test_bad_rows_end_as_data_invalid(run: Run, tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text(ROWS + '{"prompt": "list"}\n')
    code, message = run()
    assert code == Outcome.DATA_INVALID.exit.code
    assert message == {
        "reason": "DataInvalid",
        "message": "pvc://data/train.jsonl has 1 fault:\ntrain.jsonl:5: has no completion",
    }


def test_what_becomes_of_secrets_and_personal_data_is_an_argument(run: Run, tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text(ROWS + '{"prompt": "list eggs", "completion": "jane.doe@gmail.com"}\n')
    code, termination = run("--on-sensitive", "fail")
    assert (code, termination["reason"]) == (Outcome.DATA_INVALID.exit.code, "DataInvalid")
    assert "1 row of train.jsonl seems to hold e-mail addresses (train.jsonl:5)." in termination["message"]
    code, termination = run("--on-sensitive", "ignore")
    assert (code, [told for told in termination["result"]["warnings"] if "e-mail" in told]) == (0, [])


def test_a_config_of_another_version_names_the_field(run: Run, config: dict[str, Any], tmp_path: Path) -> None:
    config["dataset"]["train"]["mirror"] = "x"
    code, message = run()
    assert code == Outcome.CONFIG_INVALID.exit.code
    assert message["message"] == (
        f"The run config {tmp_path / 'run.json'} is not valid: dataset.train.mirror: Extra inputs are not permitted. "
        "Whatever wrote it and this trainer differ in version."
    )


def test_it_answers_for_its_progress_while_it_runs(run: Run, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    original = fetch.file

    def file(*arguments: Any) -> Path:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/status", timeout=120) as answer:
            seen.append(json.load(answer))
        return original(*arguments)

    monkeypatch.setattr(fetch, "file", file)
    assert run()[0] == 0
    assert [(status["stage"], status["activity"]) for status in seen] == [
        ("prepare", "fetching pvc://data/train.jsonl")
    ]


def test_no_address_of_a_download_is_logged(
    run: Run, config: dict[str, Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    commit = "1" * 40
    rows = Repository({commit: {"train.jsonl": ROWS.encode()}}, {"main": commit})
    config["dataset"]["train"] = {"uri": "hf://datasets/acme/rows/train.jsonl"}
    with listening(Hub({"datasets/acme/rows": rows})) as hub:
        monkeypatch.setenv("FINETUNE_DATASET_HF_ENDPOINT", hub.endpoint)
        assert run()[0] == 0
    assert "finetune_trainer" in {record.name.partition(".")[0] for record in caplog.records}
    assert hub.endpoint not in caplog.text
