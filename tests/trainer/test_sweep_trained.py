"""A sweep of real trainings, by the program as a pod starts it; how trials go on and fail, test_sweep has."""

import json
import subprocess
import sys

from finetune_trainer.contract.config import SweepConfig
from finetune_trainer.contract.outcome import Outcome, Termination
from finetune_trainer.contract.results import PrepareResult, TrainResult
from finetune_trainer.data.digests import digest
from finetune_trainer.stages import complete
from finetune_trainer.stages.train import train
from finetune_trainer.training import plans
from finetune_trainer.training.build import Beside
from finetune_trainer.training.rivals import Rivals
from trainings import CHATS, Case, MakeCase, Recorder, chat

# The first one is far too high.
RATES = (1e30, 5e-3)


def swept(make_case: MakeCase) -> Case:
    """A sweep as prepare leaves it: each trial has a plan."""
    case = make_case(rows=CHATS[:8], validation=[chat("sky", "blue")], total_steps=4)
    sweep = SweepConfig(parameters={"learningRate": RATES, "adapter.rank": (8,)})
    training = case.config.training.model_copy(update={"sweep": sweep})
    case.config = case.config.model_copy(update={"training": training})
    case.config_file.write_text(case.config.model_dump_json(by_alias=True))
    prepared = PrepareResult.model_validate_json(case.workspace.prepared.read_text())
    planned = tuple(prepared.plan.model_copy(update={"learning_rate": rate}) for rate in RATES)
    plans.keep(case.workspace, prepared, planned)
    return case


def test_the_best_of_those_that_trained_is_the_artifact(make_case: MakeCase) -> None:
    case = swept(make_case)
    log = case.root / "termination"
    places = ["--config", str(case.config_file), "--workspace", str(case.workspace.root)]
    status = ["--termination-log", str(log), "--status-port", "0", "--status-host", "127.0.0.1"]

    subprocess.run([sys.executable, "-m", "finetune_trainer", "train", *places, *status], check=True)

    result = TrainResult.model_validate(Termination.model_validate_json(log.read_bytes()).result)
    assert [trial.outcome for trial in result.trials] == [Outcome.DIVERGED.exit.reason, "Succeeded"]
    failed = json.loads((case.workspace.trial(1).root / "ended.json").read_text())
    assert "Lower training.learningRate (it was 1e+30)" in failed["message"]
    assert result.taken == 2
    assert result.artifact.digest == digest(case.workspace.artifact)
    told = json.loads((case.workspace.artifact / "run_config.json").read_text())["training"]
    assert told["learningRate"] == RATES[1]
    assert told["sweep"] is None
    assert not list(case.workspace.trials.glob("*/artifact"))


def test_a_trial_that_another_outdoes_ends_at_a_quarter_and_is_published_as_it_stands(
    make_case: MakeCase, recorder: Recorder
) -> None:
    case = make_case(rows=CHATS[:8], validation=[chat("sky", "blue")], total_steps=8)
    Rivals(case.workspace, 1, 2).outdo(2, 8, loss=0.0)

    result = train(case.config, case.workspace, recorder, Beside(rivals=Rivals(case.workspace, 2, 2)))

    assert result.stopped
    assert result.steps == result.checkpoints[0].step == 2
    assert result.artifact.digest == digest(case.workspace.artifact)
    assert complete.result("train", case.config, case.workspace) == result
