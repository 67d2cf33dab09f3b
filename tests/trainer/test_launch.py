"""Several workers in one pod end as one: with the result, or with the code and the words of the first that failed.

Processes on CPUs with gloo stand in for GPUs with NCCL; launcher, trainer and libraries are the real ones.
"""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from finetune_trainer.contract.config import Method
from finetune_trainer.contract.outcome import Outcome, Termination
from finetune_trainer.contract.results import PrepareResult, TrainResult
from finetune_trainer.stages.train import train
from finetune_trainer.training.build import Task
from finetune_trainer.training.launch import Node, launch
from finetune_trainer.training.machine import Machine
from test_preference import ROWS
from test_unpaired import ROWS as UNPAIRED
from trainings import CHATS, MakeCase, Recorder


def arguments(config: Path, workspace: Path) -> list[str]:
    return ["train", "--config", str(config), "--workspace", str(workspace), "--status-port", "0"]


def test_two_workers_train_one_model_and_leave_one_result(make_case: MakeCase, tmp_path: Path) -> None:
    case, log = make_case(total_steps=3), tmp_path / "termination-log"
    assert launch(2, arguments(case.config_file, case.workspace.root), log, Node()) == 0
    said = Termination.model_validate_json(log.read_bytes())
    result = TrainResult.model_validate(said.result)
    assert result.curve
    # How the losses went is said to whoever watches; the artifact has it in a file of its own.
    kept = result.model_copy(update={"curve": ()})
    assert kept == TrainResult.model_validate_json(case.workspace.trained.read_bytes())
    assert result.steps == 3


# Neither divides: five are a batch of four and one that is left over, three are less than a batch.
@pytest.mark.parametrize(
    ("method", "rows", "count"), [(Method.SFT, CHATS, 5), (Method.REWARD, ROWS, 3), (Method.KTO, UNPAIRED, 3)]
)
def test_two_workers_count_each_validation_row_once(
    make_case: MakeCase, method: Method, rows: list[dict[str, Any]], count: int
) -> None:
    alone, case = (make_case(name, rows, rows[:count], method=method, total_steps=1) for name in ("alone", "together"))
    train(alone.config, alone.workspace, Recorder())
    assert launch(2, arguments(case.config_file, case.workspace.root), case.root / "termination-log", Node()) == 0
    ours, theirs = (TrainResult.model_validate_json(each.workspace.trained.read_bytes()) for each in (case, alone))
    assert ours.validation_loss == pytest.approx(theirs.validation_loss, abs=1e-5)
    assert ours.validation_reward_accuracy == theirs.validation_reward_accuracy


@pytest.mark.parametrize(("machines", "seconds"), [("1", 4 * 3600), ("2", 1800)])
def test_on_one_machine_workers_wait_while_the_first_one_uploads(
    make_case: MakeCase, monkeypatch: pytest.MonkeyPatch, machines: str, seconds: int
) -> None:
    case = make_case()
    monkeypatch.setenv("GROUP_WORLD_SIZE", machines)
    known = SimpleNamespace(
        prepared=PrepareResult.model_validate_json(case.workspace.prepared.read_bytes()),
        workspace=case.workspace,
        config=case.config,
        machine=Machine(accelerators=0, processes=1, local_processes=1, bf16=False),
        attempt=SimpleNamespace(recompute=False),
    )
    assert Task._settings(cast(Task, known)).ddp_timeout == seconds


def test_a_worker_that_fails_gives_its_code_and_its_sentence(make_case: MakeCase, tmp_path: Path) -> None:
    case, log = make_case(), tmp_path / "termination-log"
    case.config_file.write_text("{}")
    code = launch(2, arguments(case.config_file, case.workspace.root), log, Node())
    assert Outcome.of_code(code) == Outcome.CONFIG_INVALID
    assert "is not valid" in Termination.model_validate_json(log.read_bytes()).message
