"""Several workers in one pod end as one: with the result, or with the code and the words of the first that failed.

Processes on CPUs with gloo stand in for GPUs with NCCL; launcher, trainer and libraries are the real ones.
"""

from pathlib import Path

from finetune_trainer.contract.outcome import Outcome, Termination
from finetune_trainer.contract.report import TrainResult
from finetune_trainer.training.launch import launch
from trainings import MakeCase


def arguments(config: Path, workspace: Path) -> list[str]:
    return ["train", "--config", str(config), "--workspace", str(workspace), "--status-port", "0"]


def test_two_workers_train_one_model_and_leave_one_result(make_case: MakeCase, tmp_path: Path) -> None:
    case, log = make_case(total_steps=3), tmp_path / "termination-log"
    assert launch(2, arguments(case.config_file, case.workspace.root), log) == 0
    said = Termination.model_validate_json(log.read_bytes())
    result = TrainResult.model_validate(said.result)
    assert result == TrainResult.model_validate_json(case.workspace.trained.read_bytes())
    assert result.steps == 3


def test_a_worker_that_fails_gives_its_code_and_its_sentence(make_case: MakeCase, tmp_path: Path) -> None:
    case, log = make_case(), tmp_path / "termination-log"
    case.config_file.write_text("{}")
    code = launch(2, arguments(case.config_file, case.workspace.root), log)
    assert Outcome.of_code(code) == Outcome.CONFIG_INVALID
    assert "is not valid" in Termination.model_validate_json(log.read_bytes()).message
