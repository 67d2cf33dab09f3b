"""training.budget: a training that has used it up ends with an artifact, and what failed tries took counts."""

import json
import math
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from finetune_trainer.contract.outcome import StageError
from finetune_trainer.stages.train import train
from finetune_trainer.training import budget
from finetune_trainer.training.budget import HOUR, BudgetMeter
from finetune_trainer.training.build import Beside
from finetune_trainer.training.machine import Machine
from peft import PeftModel
from test_resume import weights
from trainings import STEPS, MakeCase, Recorder, chat
from transformers import AutoModelForCausalLM

CPU = Machine(accelerators=0, processes=1, local_processes=1, bf16=False)
# Of both steps and loading, nothing takes less.
NOTHING = 1e-9


def test_used_up_it_ends_at_a_step_that_is_validated_and_published(
    make_case: MakeCase, base_model: Path, recorder: Recorder
) -> None:
    case = make_case(validation=[chat("sky", "blue")])
    result = train(case.config, case.workspace, recorder, Beside(budget=NOTHING))
    assert result.steps == 1
    assert result.spent.startswith("training.budget is used up: of 1e-09 hours ")
    assert result.spent.endswith(f" were taken when training ended, at step 1 of {STEPS}.")
    assert [found.step for found in result.checkpoints] == [1]
    assert not case.workspace.checkpoints.exists()
    PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base_model), str(case.workspace.artifact))


def test_within_it_the_model_is_what_it_is_without_one(make_case: MakeCase, recorder: Recorder) -> None:
    within, without = make_case("within"), make_case("without")
    result = train(within.config, within.workspace, recorder, Beside(budget=10))
    train(without.config, without.workspace, recorder)
    assert (result.steps, result.spent) == (STEPS, "")
    assert weights(within) == weights(without)


class Stopping(Recorder):
    """Somebody asks training to stop in its fifth step."""

    def update(self, **fields: Any) -> None:
        if fields.get("step") == 5 and "eta" in fields:
            signal.raise_signal(signal.SIGTERM)


def test_what_earlier_tries_took_counts(make_case: MakeCase, recorder: Recorder) -> None:
    case = make_case()
    with pytest.raises(StageError):
        train(case.config, case.workspace, Stopping(), Beside(budget=10))
    taken = json.loads(case.workspace.spent.read_text())["seconds"]
    assert taken > 0
    # Of so many hours what this try takes is no digit that is told.
    case.workspace.spent.write_text(json.dumps({"seconds": 1000 * HOUR}))
    result = train(case.config, case.workspace, recorder, Beside(budget=1000))
    # From the checkpoint of the fifth step, one more.
    assert result.steps == 6
    assert "of 1000 hours 1000 were taken" in result.spent


class Time:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    found = Time()
    monkeypatch.setattr(budget, "time", found)
    return found


def step(found: BudgetMeter, time: Time, seconds: float) -> bool:
    found.begin()
    time.now += seconds
    return found.spent()


def test_no_step_begins_that_would_be_too_much(time: Time, tmp_path: Path) -> None:
    found = BudgetMeter(100 / HOUR, CPU, tmp_path / "spent.json")
    time.now += 30
    assert not step(found, time, 20)
    assert not step(found, time, 10)
    # A look at the validation rows, say.
    time.now += 15
    assert step(found, time, 10)


def test_training_is_told_to_end_with_its_budget_where_that_comes_first(time: Time, tmp_path: Path) -> None:
    four = Machine(accelerators=4, processes=4, local_processes=4, bf16=True)
    found, now = BudgetMeter(1, four, tmp_path / "spent.json"), datetime(2026, 1, 1, tzinfo=UTC)
    time.now += 300
    assert found.ends(now, now + timedelta(seconds=599)) == now + timedelta(seconds=599)
    assert found.ends(now, now + timedelta(seconds=9999)) == now + timedelta(seconds=600)
    assert found.ends(now, None) is None


@pytest.mark.parametrize(
    ("machine", "devices"),
    [
        (Machine(accelerators=8, processes=8, local_processes=4, bf16=True), 8),
        (Machine(accelerators=0, processes=3, local_processes=1, bf16=False), 3),
    ],
    ids=["accelerators of all nodes", "nodes without any"],
)
def test_every_device_counts(time: Time, tmp_path: Path, machine: Machine, devices: int) -> None:
    found = BudgetMeter(1, machine, tmp_path / "spent.json")
    time.now += 7
    assert found.used == 7 * devices
    assert found.accelerator_seconds == 7 * machine.accelerators
    # A try that failed has held them, too.
    (tmp_path / "spent.json").write_text('{"seconds": 56}')
    assert BudgetMeter(1, machine, tmp_path / "spent.json").accelerator_seconds == (56 if machine.accelerators else 0)


def test_a_kill_loses_seconds_of_the_count(time: Time, tmp_path: Path) -> None:
    found = BudgetMeter(None, CPU, tmp_path / "spent.json")
    assert found.limit == math.inf
    for _ in range(7):
        assert not step(found, time, 3)
    assert BudgetMeter(1, CPU, tmp_path / "spent.json").used == 12
