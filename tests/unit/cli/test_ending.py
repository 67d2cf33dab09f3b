"""What the end of a stage's process leads to."""

import signal

import pytest
from finetune_cli.ending import Again, Done, Ending, Failed, after
from finetune_operator.conditions import Reason
from finetune_trainer.contract.outcome import Outcome, Termination


def ending(code: int, termination: Termination | None = None, log: str = "") -> Ending:
    return Ending("train", code, termination, log)


def ended_as(outcome: Outcome, message: str = "A sentence.") -> Ending:
    return ending(outcome.exit.code, Termination(reason=outcome.exit.reason, message=message))


def test_a_complete_stage_hands_over_its_result() -> None:
    result = {"steps": 3}
    assert after(ending(0, Termination(reason="Succeeded", result=result)), 0, 3) == Done(result)


@pytest.mark.parametrize("outcome", [outcome for outcome in Outcome if outcome.exit.retry])
def test_what_a_retry_can_mend_is_tried_again_with_growing_pauses(outcome: Outcome) -> None:
    found = [after(ended_as(outcome), failures, 3) for failures in range(4)]
    assert [each.delay for each in found if isinstance(each, Again)] == [10, 20, 40]
    assert found[-1] == Failed(Reason(outcome.exit.reason), "A sentence.")


@pytest.mark.parametrize("outcome", [found for found in Outcome if not found.exit.retry and found.exit.code])
def test_what_no_retry_can_mend_fails_at_once_in_the_trainers_words(outcome: Outcome) -> None:
    assert after(ended_as(outcome), 0, 3) == Failed(Reason(outcome.exit.reason), "A sentence.")


def test_a_killed_process_is_told_as_a_lack_of_memory_and_not_tried_again() -> None:
    found = after(ending(-signal.SIGKILL), 0, 3)
    assert isinstance(found, Failed)
    assert found.reason == Reason.MEMORY_LIMIT_EXCEEDED
    assert found.message == (
        "The train process was killed, most likely because this machine ran out of memory; lower training.batchSize or "
        "training.maxLength, or take a smaller model."
    )


@pytest.mark.parametrize(
    ("code", "how"), [(1, "with code 1"), (-signal.SIGSEGV, "by signal SIGSEGV"), (0, "with code 0")]
)
def test_an_end_without_a_word_shows_the_log(code: int, how: str) -> None:
    found = after(ending(code, log="ImportError: no torch"), 3, 3)
    assert found == Failed(
        Reason.CONTAINER_FAILED, f"The train process ended {how}; the end of its log:\nImportError: no torch"
    )


def test_a_crash_is_tried_again() -> None:
    assert isinstance(after(ending(-signal.SIGSEGV), 0, 3), Again)
