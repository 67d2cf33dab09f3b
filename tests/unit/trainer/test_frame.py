"""How a stage ends: the exit code that podFailurePolicy reads, and the termination message that the operator tells."""

import errno
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
from finetune_trainer.contract.config import Contract, Metric
from finetune_trainer.contract.outcome import TERMINATION_BYTES, Outcome, StageError, Termination, pack
from finetune_trainer.contract.results import CONFIDENCES, EvaluateResult, Requests, Rows
from finetune_trainer.stages.frame import encode, run
from pydantic import ValidationError

ROWS = Rows(train=3)


class Noise(Contract):
    """Something that can't be packed."""

    noise: str


@pytest.fixture
def ends(tmp_path: Path) -> Callable[[Callable[[], Any]], tuple[int, dict[str, Any]]]:
    """Run a stage: its exit code and its termination message."""

    def run_it(stage: Callable[[], Any]) -> tuple[int, dict[str, Any]]:
        log = tmp_path / "termination-log"
        code = run(stage, tmp_path, log)
        return code, json.loads(log.read_text())

    return run_it


Ends = Callable[[Callable[[], Any]], tuple[int, dict[str, Any]]]


def raising(error: BaseException) -> Callable[[], NoReturn]:
    def stage() -> NoReturn:
        raise error

    return stage


def test_a_complete_stage_ends_with_zero_and_its_result(ends: Ends) -> None:
    code, message = ends(lambda: ROWS)
    assert code == 0
    assert message == {
        "reason": "Succeeded",
        "message": "",
        "result": {"train": 3, "validation": 0, "test": 0},
    }


@pytest.mark.parametrize("outcome", [outcome for outcome in Outcome if outcome != Outcome.SUCCEEDED])
def test_every_failure_ends_with_its_code_and_sentence(ends: Ends, outcome: Outcome) -> None:
    code, message = ends(raising(StageError(outcome, "train.jsonl:17: has no messages")))
    assert code == outcome.exit.code
    assert Outcome.of_code(code) is outcome
    assert message == {"reason": outcome.exit.reason, "message": "train.jsonl:17: has no messages"}


def test_a_fault_tells_no_credentials(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINETUNE_MODEL_HF_TOKEN", "canary-token")
    words = "canary-token at https://anna:canary-password@hub:80/a?sig=canary-signature"
    code, message = ends(raising(RuntimeError(words)))
    assert code == Outcome.INTERNAL.exit.code
    assert message["message"].startswith("RuntimeError: [hidden] at https://hub:80/a\nTraceback")
    assert "canary" not in message["message"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_volume_names_the_field_to_raise(ends: Ends, number: int, tmp_path: Path) -> None:
    code, message = ends(raising(OSError(number, os.strerror(number))))
    assert code == Outcome.WORKSPACE_FULL.exit.code
    assert message["message"] == f"The workspace volume at {tmp_path} is full: raise workspace.size."


def test_too_little_host_memory_names_the_field_to_raise(ends: Ends) -> None:
    code, message = ends(raising(MemoryError()))
    assert code == Outcome.OUT_OF_MEMORY.exit.code
    assert message["message"] == "The stage ran out of host memory: raise the memory in training.resources."


# A stage that is stuck as a download is: the library waits for its threads whatever happens.
STUCK = """
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from finetune_trainer.stages.frame import run

def stage():
    with ThreadPoolExecutor() as pool:
        for _ in range(2):
            pool.submit(Event().wait)
        print("stuck", flush=True)

sys.exit(run(stage, Path(), Path(sys.argv[1])))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_request_to_stop_ends_even_a_download_at_once_and_is_tried_again(
    tmp_path: Path, number: signal.Signals
) -> None:
    log = tmp_path / "termination-log"
    with subprocess.Popen([sys.executable, "-c", STUCK, str(log)], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"stuck\n"
            process.send_signal(number)
            assert process.wait(timeout=120) == Outcome.INTERRUPTED.exit.code
        finally:
            process.kill()
    assert Outcome.INTERRUPTED.exit.retry
    assert json.loads(log.read_text()) == {
        "reason": "Interrupted",
        "message": "The stage was asked to stop; the next run goes on from where it was.",
    }


def test_signals_are_the_programs_own_again_after_a_stage(ends: Ends) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    ends(lambda: ROWS)
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


def test_a_fault_of_ours_carries_the_end_of_its_traceback_and_is_logged(
    ends: Ends, caplog: pytest.LogCaptureFixture
) -> None:
    def stage() -> NoReturn:
        [][1]
        pytest.fail("unreachable")

    code, message = ends(stage)
    assert code == Outcome.INTERNAL.exit.code
    assert message["message"].startswith("IndexError: list index out of range\n")
    assert "[][1]" in message["message"]
    assert "Traceback" in caplog.text


def test_a_termination_log_that_cannot_be_written_does_not_change_the_exit_code(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    nowhere = tmp_path / "missing" / "termination-log"
    assert run(raising(StageError(Outcome.NOT_FOUND, "gone")), tmp_path, nowhere) == Outcome.NOT_FOUND.exit.code
    assert str(nowhere) in caplog.text


@pytest.mark.parametrize("text", ["a" * 9000, "€" * 9000, "𝄞\n" * 9000, '"\\' * 5000, "\x00" * 3000])
def test_a_long_message_keeps_its_ends_within_what_the_kubelet_keeps(text: str) -> None:
    encoded = encode(Termination(reason="DataInvalid", message=f"first {text} last"))
    assert len(encoded) <= TERMINATION_BYTES
    message = json.loads(encoded)["message"]
    assert message.startswith("first ")
    assert message.endswith(" last")
    assert " … " in message


def test_a_long_message_uses_the_room_there_is() -> None:
    assert len(encode(Termination(reason="DataInvalid", message="a" * 9000))) > 0.9 * TERMINATION_BYTES


def largest() -> EvaluateResult:
    """Every metric of six contenders, each number with all of its digits and none like another. A reward model's is
    measured alone.
    """
    chance = random.Random(1)
    metrics = tuple(metric for metric in Metric if metric != Metric.RANKING_ACCURACY)

    def number() -> float:
        return -chance.randrange(1000, 9999) / 10_000

    def score() -> dict[str, float]:
        return {"score": number(), "low": number(), "high": number()}

    def comparison() -> dict[str, Any]:
        found = {"difference": number(), "low": number(), "high": number()}
        return found | {"bounds": {name: number() for name in CONFIDENCES}}

    def contender(compared: bool) -> dict[str, Any]:
        requests = {name: chance.randrange(10_000, 99_999) / 10 for name in Requests.model_fields}
        return {
            "scores": {metric: score() for metric in metrics},
            "comparisons": {metric: comparison() for metric in metrics} if compared else {},
            "requests": Requests.model_validate(
                requests | dict.fromkeys(("too_long", "fewer_examples", "cut"), 99_999)
            ),
        }

    return EvaluateResult.model_validate(
        {
            "evaluation": "0a1b2c3d",
            "rows": 100_000,
            "leaked": 99_999,
            "near_duplicates": 99_999,
            "metrics": metrics,
            "reason": "They are those that evaluation.metrics names.",
            "tuned": contender(compared=False),
            "baselines": {f"the-baseline-{number}": contender(compared=True) for number in range(5)},
            "drift": score(),
        }
    )


def test_the_largest_result_is_heard_whole(tmp_path: Path) -> None:
    log = tmp_path / "termination-log"
    assert run(largest, tmp_path, log) == 0
    assert len(log.read_bytes()) <= TERMINATION_BYTES
    said = Termination.model_validate_json(log.read_bytes()).result
    assert EvaluateResult.model_validate(said) == largest()


def test_a_result_that_no_message_carries_is_no_success(ends: Ends) -> None:
    noise = random.Random(1).randbytes(5000).hex()
    code, message = ends(lambda: Noise(noise=noise))
    assert code == Outcome.INTERNAL.exit.code
    assert "and a termination message 4096" in message["message"]


@pytest.mark.parametrize("packed", [7, "no base64", "AAAA", pack({})[:-4]])
def test_what_claims_to_be_packed_and_is_not_is_no_message_of_the_trainer(packed: Any) -> None:
    with pytest.raises(ValidationError):
        Termination.model_validate_json(json.dumps({"reason": "Succeeded", "packed": packed}))


def test_what_has_no_bytes_in_utf_8_is_written_all_the_same() -> None:
    assert json.loads(encode(Termination(reason="DataInvalid", message="file \udcff")))["message"] == "file ?"
