"""What a script learns from the code that a command ends with; docs/exit-codes.md has the table."""

import pytest
from finetune_cli import main
from finetune_cli.errors import MEANINGS, ExitCode, UserError, code_of
from finetune_operator.conditions import Reason
from finetune_trainer.contract.outcome import Outcome

# After smaller passes are announced there is another run, which may end with OUT_OF_MEMORY for the same reason.
FAILURES = [outcome for outcome in Outcome if outcome not in (Outcome.SUCCEEDED, Outcome.SMALLER_PASSES)]


@pytest.mark.parametrize("outcome", FAILURES)
def test_a_stage_that_failed_ends_the_command_with_its_own_code(outcome: Outcome) -> None:
    assert code_of(Reason(outcome.exit.reason)) == outcome.exit.code


def test_a_missed_gate_bad_data_a_crash_and_the_rest_are_told_apart() -> None:
    codes = [code_of(reason) for reason in (Reason.GATE_NOT_MET, Reason.DATA_INVALID, Reason.ENGINE_FAILED)]
    assert codes == [ExitCode.GATE_NOT_MET, Outcome.DATA_INVALID.exit.code, ExitCode.FAILED]
    assert ExitCode.CRASHED not in codes


def test_no_code_has_two_meanings() -> None:
    assert set(MEANINGS) == set(ExitCode)
    assert not {outcome.exit.code for outcome in FAILURES} & set(ExitCode)


def test_the_command_ends_with_the_code_of_what_was_wrong(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missed(prog_name: str) -> None:
        raise UserError("evaluate failed (GateNotMet): it misses gate.minimum.", code_of(Reason.GATE_NOT_MET))

    monkeypatch.setattr(main, "app", missed)
    with pytest.raises(SystemExit) as ending:
        main.main()
    assert ending.value.code == 3
    assert capsys.readouterr().err == "error: evaluate failed (GateNotMet): it misses gate.minimum.\n"
