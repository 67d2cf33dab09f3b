"""The status document of a local run: what `finetune status` and a script see at each point."""

from datetime import UTC, datetime, timedelta
from typing import Any

from decisions import TRIALS, result
from finetune_cli import state
from finetune_cli.jobs import Job
from finetune_cli.show import table
from finetune_cli.state import Run
from finetune_operator.api.evaluation import Evaluation
from finetune_operator.api.status import FineTuneJobStatus, Phase
from finetune_operator.api.v1alpha1 import FineTuneJobSpec
from finetune_operator.conditions import Reason
from finetune_operator.finetunejob.observe import RecordState, World
from finetune_operator.finetunejob.record import TRAINED, Record, text
from finetune_operator.finetunejob.stages import HOST, JOBS, wanted
from finetune_operator.finetunejob.stages.base import Context
from finetune_operator.finetunejob.stages.evaluate import evaluated
from finetune_operator.finetunejob.target import Target
from finetune_operator.kinds.actions import Ref
from finetune_operator.settings import Settings
from finetune_trainer.contract.results import ArtifactInfo, Progress, TrainResult, Usage
from rich.console import Console

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
URL = "http://127.0.0.1:8000/v1"
HOSTED = FineTuneJobSpec.model_validate(
    {
        "model": {"source": "hf://org/model"},
        "dataset": {"train": {"source": "s3://bucket/train.jsonl"}},
        "evaluation": {"enabled": False},
    }
)
UNHOSTED = HOSTED.model_copy(update={"hosting": HOSTED.hosting.model_copy(update={"enabled": False})})
MEASURED = HOSTED.model_copy(update={"evaluation": Evaluation()})
NEW = Run("recipes", "aaaa0001", wanted(HOSTED))


def conditions(status: FineTuneJobStatus) -> dict[str, tuple[str, str]]:
    return {found.type: (found.status, found.reason) for found in status.conditions}


def prepared(run: Run) -> Run:
    return run.after("prepare", state.done("270 rows to train on."))


def trained(run: Run) -> Run:
    return prepared(run).after("train", state.done("Trained."))


def served(run: Run) -> Run:
    hosted = Run(**{**vars(trained(run)), "url": URL}).after("host", state.done("It answers."))
    return hosted.after("promote", state.done("It is served."))


def shown(status: FineTuneJobStatus, running: bool) -> str:
    console = Console(width=120, color_system=None)
    with console.capture() as capture:
        console.print(table(Job("recipes", status, {}, idle=not running)))
    return capture.get()


def test_while_it_trains() -> None:
    run = prepared(NEW).after("train", state.running("The train process is running."))
    run = run.at(Progress(stage="train", step=3, total_steps=10, loss=1.5))
    status = run.status(NOW)
    assert status.phase == Phase.TRAINING
    assert status.progress_summary == "3/10"
    assert status.progress is not None
    assert status.progress.loss == "1.5000"
    assert conditions(status) == {
        "Accepted": ("True", "Accepted"),
        "DataReady": ("True", "Succeeded"),
        "Trained": ("Unknown", "Running"),
        "Published": ("False", "Disabled"),
        "Merged": ("False", "Disabled"),
        "Hosted": ("Unknown", "Waiting"),
        "Evaluated": ("False", "Disabled"),
        "Promoted": ("Unknown", "Waiting"),
        "Ready": ("Unknown", "Running"),
        "Reconciling": ("True", "Running"),
    }


def test_between_two_stages_it_is_not_at_its_end() -> None:
    hosted = trained(NEW).after("host", state.done("It answers."))
    for run, phase in (
        (NEW, "Preparing"),
        (prepared(NEW), "Training"),
        (trained(NEW), "Hosting"),
        (hosted, "Promoting"),
    ):
        status = run.status(NOW)
        assert status.phase == phase
        assert conditions(status)["Ready"][0] == "Unknown"


def test_while_it_serves() -> None:
    status = served(NEW).status(NOW)
    assert status.phase == Phase.SERVING
    assert status.endpoint is not None
    assert status.endpoint.url == URL
    assert status.served_revision == "aaaa0001"
    assert {name for name, (found, _) in conditions(status).items() if found != "True"} == {
        "Published",
        "Merged",
        "Evaluated",
    }
    ready = status.conditions[-1]
    assert ready.message == f"{URL} answers as model recipes with revision aaaa0001."


def test_the_table_has_the_score_and_the_best_baseline() -> None:
    measured = evaluated(result(), HOSTED, "file:///report.html")
    hosted = trained(NEW).after("host", state.done("It answers."))
    status = hosted.after("evaluate", measured).status(NOW)
    assert "exact_match 0.670 (retrieval 0.610)" in shown(status, True)


def test_stopped_while_it_serves_what_was_measured_counts() -> None:
    hosted = trained(Run("recipes", "aaaa0001", wanted(MEASURED), URL)).after("host", state.done("It answers."))
    run = hosted.after("evaluate", evaluated(result(), MEASURED, "file:///report.html"))
    run = run.after("promote", state.done("It is served."))
    status = run.without_engine(state.stopped(HOST)).status(NOW)
    assert conditions(status)["Evaluated"][0] == "True"
    assert status.evaluation is not None
    assert conditions(status)["Hosted"] == ("Unknown", "Suspended")
    assert conditions(status)["Promoted"] == ("Unknown", "Waiting")
    assert conditions(status)["Ready"] == ("Unknown", "Suspended")
    assert status.endpoint is None


def test_stopped_while_it_serves_nothing_answers_any_more() -> None:
    status = served(NEW).without_engine(state.stopped(HOST)).status(NOW)
    assert status.endpoint is None
    assert status.served_revision is None
    assert conditions(status)["Hosted"] == ("Unknown", "Suspended")
    assert conditions(status)["Trained"] == ("True", "Succeeded")


def test_stopped_while_it_trains_it_says_how_to_go_on() -> None:
    status = prepared(NEW).after("train", state.stopped(JOBS["train"])).status(NOW)
    assert status.phase == Phase.SUSPENDED
    assert conditions(status)["Trained"] == ("Unknown", "Suspended")
    assert "The run was stopped; with `finetune run` train goes on from its last checkpoint." in shown(status, False)


def test_a_failure_is_in_its_condition_and_in_ready() -> None:
    run = NEW.after("prepare", state.failed(Reason.DATA_INVALID, "train.jsonl:3: no messages."))
    status = run.status(NOW)
    assert status.phase == Phase.FAILED
    assert conditions(status)["DataReady"] == conditions(status)["Ready"] == ("False", "DataInvalid")
    assert "train.jsonl:3: no messages." in shown(status, False)


def test_hosting_disabled_ends_with_the_artifact() -> None:
    status = trained(Run("recipes", "aaaa0001", wanted(UNHOSTED))).status(NOW)
    assert status.phase == Phase.SUCCEEDED
    assert conditions(status)["Hosted"] == ("False", "Disabled")
    assert conditions(status)["Ready"] == ("True", "Succeeded")


def test_a_condition_keeps_its_time_until_it_changes() -> None:
    first = prepared(NEW).status(NOW)
    later = trained(Run(**{**vars(NEW), "old": first})).status(NOW + timedelta(hours=1))
    times = {found.type: found.last_transition_time for found in later.conditions}
    assert times["DataReady"] == NOW
    assert times["Trained"] == NOW + timedelta(hours=1)


def test_a_new_revision_starts_anew_and_remembers_the_old_one() -> None:
    before = served(NEW).status(NOW)
    again: dict[str, Any] = {**vars(NEW), "revision": "bbbb0002", "old": before}
    status = Run(**again).after("prepare", state.running("The prepare process is running.")).status(NOW)
    assert [(found.revision, found.outcome) for found in status.history] == [
        ("bbbb0002", "Preparing"),
        ("aaaa0001", "Superseded"),
    ]
    assert conditions(status)["Trained"] == ("Unknown", "Waiting")


def test_a_run_that_was_killed_is_not_said_to_be_under_way() -> None:
    serving = served(NEW).status(NOW)
    assert "under way" not in shown(serving, running=True)
    status = state.interrupted(serving, NOW)
    assert "No `finetune run` of it is under way" in shown(status, running=False)
    assert (status.phase, status.endpoint, status.served_revision) == (Phase.SUSPENDED, None, None)
    assert status.history[0].outcome == Phase.SUSPENDED
    found = conditions(status)
    assert (found["Hosted"], found["Promoted"]) == (("Unknown", "Suspended"), ("Unknown", "Waiting"))
    assert found["Ready"] == ("Unknown", "Suspended")
    assert found["Trained"] == ("True", "Succeeded")


def test_a_training_that_was_killed_says_how_it_goes_on_and_has_no_progress() -> None:
    run = prepared(NEW).after("train", state.running("The train process is running."))
    status = state.interrupted(run.at(Progress(stage="train", step=3, total_steps=10, loss=1.5)).status(NOW), NOW)
    assert (status.phase, status.progress, status.progress_summary) == (Phase.SUSPENDED, None, None)
    assert "Reconciling" not in conditions(status)
    assert status.conditions[-1].message == (
        "Trained: The run was killed; with `finetune run` train goes on from its last checkpoint."
    )


def test_what_was_stopped_or_has_failed_or_is_done_stays_as_it_was_written() -> None:
    stopped = prepared(NEW).after("train", state.stopped(JOBS["train"]))
    failed = NEW.after("prepare", state.failed(Reason.DATA_INVALID, "train.jsonl:3: no messages."))
    done = trained(Run("recipes", "aaaa0001", wanted(UNHOSTED)))
    for run in (stopped, failed, done):
        assert state.interrupted(run.status(NOW), NOW) == run.status(NOW)


def test_of_a_sweep_the_trials_are_shown_and_which_was_taken() -> None:
    swept = TrainResult(
        artifact=ArtifactInfo(digest="sha256:1", bytes=7),
        usage=Usage(trained_tokens=30_000, seconds=60),
        steps=9,
        trials=TRIALS,
    )
    target = Target("recipes", "", "", HOSTED, "aaaa0001", Settings(), "file:///here")
    record = Record("aaaa0001", entries={TRAINED: text(swept)})
    ref = Ref("ConfigMap", "recipes-aaaa0001", "", "aaaa0001")
    world = World("recipes", "", "", records={"aaaa0001": RecordState(ref, "", record)})
    step = JOBS["train"].recorded(Context(target, world, FineTuneJobStatus()))
    assert step is not None
    told = shown(prepared(NEW).after("train", step).status(NOW), running=True)
    lines = [line.split() for line in told.splitlines()]
    assert ["1", "8", "0.0001", "-", "-", "-", "Diverged:", "The", "loss", "is", "<nan>."] in lines
    assert ["2", "32", "0.0003", "0.3100", "30,000", "60", "taken"] in lines
