"""The local backend's way through the stages: what runs, beside what, and what is told. tests/local has the real thing.

Only processes are played: the trainer's, whose results a test gives, and the engine's.
"""

import contextlib
import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from decisions import decision
from finetune_cli import local
from finetune_cli.ending import Ending
from finetune_cli.engine import VllmProcess
from finetune_cli.errors import UserError
from finetune_cli.job import LocalJob
from finetune_cli.local import Backend
from finetune_cli.progress import Lines
from finetune_cli.store import Store
from finetune_operator.api.status import Endpoint, FineTuneJobStatus, Phase
from finetune_operator.api.v1alpha1 import FineTuneJobSpec
from finetune_operator.conditions import Type
from finetune_operator.finetunejob.desired.evaluation import evaluation_config
from finetune_operator.finetunejob.desired.jobs import JobNeeds
from finetune_operator.finetunejob.stages import wanted
from finetune_operator.finetunejob.stages.base import Context, Step
from finetune_operator.finetunejob.stages.job import JobStage
from finetune_operator.finetunejob.target import Target
from finetune_operator.kinds.plan import State
from finetune_operator.settings import Settings
from finetune_trainer.contract.outcome import Outcome, Termination
from finetune_trainer.contract.results import TrainResult
from finetune_trainer.evaluation.decision import REPORT
from rehearsal import PREPARED, TRAINED, evaluated
from rich.console import Console

SMALLEST = {
    "model": {"source": "file:///models/base"},
    "dataset": {"train": {"source": "s3://bucket/train.jsonl"}},
    "hosting": {"contextLength": 512},
}


@dataclass
class Laptop:
    """Plays the processes. `ran`: those that were started, in order; `up`: the engines that run."""

    results: dict[str, Any]
    ran: list[str] = field(default_factory=list)
    up: set[str] = field(default_factory=set)
    beside: dict[str, set[str]] = field(default_factory=dict)
    arguments: dict[str, tuple[str | None, ...]] = field(default_factory=dict)
    pages: list[Path] = field(default_factory=list)
    served: Endpoint | None = None
    served_beside: set[str] = field(default_factory=set)
    broken: dict[str, str] = field(default_factory=dict)
    commands: dict[str, str] = field(default_factory=dict)

    def start(self, engine: VllmProcess, log: Path) -> "Child":
        self.commands[log.stem] = " ".join(engine.command())
        return Child(self, log.stem, self.broken.get(log.stem, ""))

    def measured(self, page: Path) -> None:
        self.pages.append(page)

    def answering(self, endpoint: Endpoint) -> None:
        self.served, self.served_beside = endpoint, set(self.up)
        raise KeyboardInterrupt


class EndedProcess:
    """A stage's process, which ends at once."""

    laptop: Laptop

    def __init__(self, stage: JobStage, job: LocalJob, store: Store, *arguments: str | None) -> None:
        self.stage = stage.name
        self.laptop.ran.append(stage.name)
        self.laptop.beside[stage.name] = set(self.laptop.up)
        self.laptop.arguments[stage.name] = arguments

    def __enter__(self) -> "EndedProcess":
        return self

    def __exit__(self, *ended: object) -> None:
        pass

    def wait(self, seconds: float) -> Ending:
        found = self.laptop.results[self.stage]
        if isinstance(found, Termination):
            return Ending(self.stage, Outcome.CONFIG_INVALID.exit.code, found, "")
        return Ending(self.stage, 0, Termination(reason="Succeeded", result=found), "")


class Child:
    """An engine's process, which runs until it is stopped, or has ended when its log says so."""

    log = Path("engine.log")

    def __init__(self, laptop: Laptop, name: str, said: str = "") -> None:
        self.laptop, self.name, self.said = laptop, name, said
        laptop.ran.append(name)
        laptop.up.add(name)

    def __enter__(self) -> "Child":
        return self

    def __exit__(self, *ended: object) -> None:
        self.stop()

    def wait(self, seconds: float) -> int | None:
        return 1 if self.said else None

    def tail(self, characters: int) -> str:
        return self.said

    def stop(self) -> None:
        self.laptop.up.discard(self.name)


def job(**sections: Any) -> LocalJob:
    return LocalJob("recipes", "aaaa0001", FineTuneJobSpec.model_validate(SMALLEST | sections), ())


@pytest.fixture
def laptop(monkeypatch: pytest.MonkeyPatch) -> Iterator[Laptop]:
    measured = evaluated(evaluation_config(job().spec, Settings()).id)
    found = Laptop({"prepare": PREPARED, "train": TRAINED, "evaluate": measured})
    monkeypatch.setattr(EndedProcess, "laptop", found, raising=False)
    monkeypatch.setattr(local, "StageProcess", EndedProcess)
    monkeypatch.setattr(VllmProcess, "start", lambda engine, log: found.start(engine, log))
    monkeypatch.setattr(VllmProcess, "answers", lambda engine: not (engine.base and found.broken))
    yield found
    assert found.up == set(), "an engine outlives the run"


def run(laptop: Laptop, root: Path, found: LocalJob) -> FineTuneJobStatus:
    """The status document at the end, or when the model is served."""
    store = Store(found.name, root)
    backend = Backend(found, store, Lines(Console(file=io.StringIO())), cpu=True, port=0)
    with contextlib.suppress(KeyboardInterrupt):
        backend.carry_out(laptop)
    status = store.read()
    assert status
    return status


def measured_before(root: Path, found: LocalJob) -> None:
    """What evaluate has left."""
    asked = evaluation_config(found.spec, Settings())
    report = Store(found.name, root).workspace(found.revision).evaluation(asked) / REPORT
    report.parent.mkdir(parents=True)
    report.write_text(decision().model_dump_json(by_alias=True))


def conditions(status: FineTuneJobStatus) -> dict[str, tuple[str, str]]:
    return {found.type: (found.status, found.reason) for found in status.conditions}


def test_stage_after_stage_then_it_is_served(laptop: Laptop, tmp_path: Path) -> None:
    status = run(laptop, tmp_path, job())
    assert laptop.ran == ["prepare", "train", "host", "evaluate"]
    assert laptop.beside["evaluate"] == {"host"}
    assert laptop.served is not None
    assert status.phase == Phase.SERVING
    assert status.endpoint == laptop.served
    assert status.evaluation is not None
    assert laptop.pages == [tmp_path / f"recipes/aaaa0001/evaluations/{status.evaluation.id}/report.html"]
    assert status.artifact is not None
    assert status.artifact.uri == (tmp_path / "recipes/aaaa0001/artifact").as_uri()


def test_a_budget_in_money_needs_a_price(laptop: Laptop, tmp_path: Path) -> None:
    sentence = "what an hour of an accelerator costs is not known; set FINETUNE_PRICE_ACCELERATOR_HOUR for the command"
    with pytest.raises(UserError, match=sentence):
        run(laptop, tmp_path, job(training={"budget": {"cost": 10}}))
    assert not laptop.ran


def test_what_misses_the_gate_is_shown_and_not_served(laptop: Laptop, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"evaluate failed \(GateNotMet\): exact_match 0.670"):
        run(laptop, tmp_path, job(evaluation={"gate": {"minimum": 0.9}}))
    assert len(laptop.pages) == 1
    status = Store("recipes", tmp_path).read()
    assert status
    assert status.phase == Phase.REJECTED
    assert conditions(status)["Hosted"] == ("False", "Released")


def test_a_measurement_that_fails_stops_the_engine_too(laptop: Laptop, tmp_path: Path) -> None:
    laptop.results["evaluate"] = Termination(reason="ConfigInvalid", message="The judge is gone.")
    with pytest.raises(UserError, match=r"evaluate failed \(ConfigInvalid\): The judge is gone."):
        run(laptop, tmp_path, job())
    status = Store("recipes", tmp_path).read()
    assert status
    assert conditions(status)["Hosted"] == ("False", "Released")


def test_plain_text_that_is_not_to_be_served_needs_no_engine(laptop: Laptop, tmp_path: Path) -> None:
    laptop.results["prepare"] = PREPARED | {"dataset": PREPARED["dataset"] | {"format": "text"}}
    status = run(laptop, tmp_path, job(hosting={"enabled": False}))
    assert laptop.ran == ["prepare", "train"]
    assert conditions(status)["Ready"] == ("True", "Succeeded")


def test_without_hosting_the_engine_goes_once_it_is_measured(laptop: Laptop, tmp_path: Path) -> None:
    status = run(laptop, tmp_path, job(hosting={"enabled": False, "contextLength": 512}))
    assert laptop.ran == ["prepare", "train", "host", "evaluate"]
    assert status.phase == Phase.SUCCEEDED
    assert conditions(status)["Hosted"] == ("False", "Released")


def test_without_hosting_what_was_measured_before_starts_no_engine(laptop: Laptop, tmp_path: Path) -> None:
    found = job(hosting={"enabled": False, "contextLength": 512})
    measured_before(tmp_path, found)
    status = run(laptop, tmp_path, found)
    assert laptop.ran == ["prepare", "train", "evaluate"]
    assert status.phase == Phase.SUCCEEDED
    assert status.evaluation is not None
    assert conditions(status)["Hosted"] == ("False", "Released")


def test_a_new_stage_needs_no_word_here(laptop: Laptop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Quantize(JobStage):
        name = "quantize"
        condition = Type.TRAINED
        phase = Phase.TRAINING
        result = TrainResult

        def needs(self, target: Target) -> JobNeeds:
            return JobNeeds()

        def entry(self, target: Target) -> str:
            return "quantize.json"

        def recorded(self, context: Context) -> Step | None:
            known = self.entry(context.target) in context.record
            return Step(State.SUCCEEDED, local.Reason.SUCCEEDED, "It is smaller.") if known else None

    prepare, train, *rest = wanted(job().spec)
    monkeypatch.setattr(local, "wanted", lambda spec: (prepare, train, Quantize(), *rest))
    laptop.results["quantize"] = TRAINED
    run(laptop, tmp_path, job())
    assert laptop.ran == ["prepare", "train", "quantize", "host", "evaluate"]


class TestBesideTheBaseModel:
    FULL = {"training": {"adapter": {"type": "none"}}}

    @pytest.fixture(autouse=True)
    def measured(self, laptop: Laptop) -> None:
        laptop.results["evaluate"] = evaluated(evaluation_config(job(**self.FULL).spec, Settings()).id)

    def test_it_is_up_while_it_is_asked_and_no_longer(self, laptop: Laptop, tmp_path: Path) -> None:
        status = run(laptop, tmp_path, job(**self.FULL))
        assert laptop.ran == ["prepare", "train", "host", "base", "evaluate"]
        assert laptop.beside["evaluate"] == {"host", "base"}
        endpoint, base = laptop.arguments["evaluate"]
        assert laptop.served is not None
        assert endpoint == laptop.served.url
        assert base not in (None, endpoint)
        assert status.phase == Phase.SERVING
        assert laptop.served_beside == {"host"}

    def test_what_was_measured_before_asks_none(self, laptop: Laptop, tmp_path: Path) -> None:
        found = job(**self.FULL)
        measured_before(tmp_path, found)
        status = run(laptop, tmp_path, found)
        assert laptop.ran == ["prepare", "train", "host", "evaluate"]
        assert status.phase == Phase.SERVING

    def test_beside_a_lora_adapter_there_is_none(self, laptop: Laptop, tmp_path: Path) -> None:
        laptop.results["evaluate"] = evaluated(evaluation_config(job().spec, Settings()).id)
        run(laptop, tmp_path, job())
        assert laptop.arguments["evaluate"][1] is None

    def test_one_that_does_not_start_is_told_with_its_log(self, laptop: Laptop, tmp_path: Path) -> None:
        laptop.broken["base"] = "no memory is left"
        with pytest.raises(UserError) as failure:
            run(laptop, tmp_path, job(**self.FULL))
        assert failure.value.message.startswith(
            "evaluate failed (EngineFailed): The base model, to compare with: The engine does not start"
        )
        assert failure.value.message.endswith("no memory is left")
        assert "evaluate" not in laptop.ran
        status = Store("recipes", tmp_path).read()
        assert status
        assert conditions(status)["Evaluated"] == ("False", "EngineFailed")
        assert conditions(status)["Hosted"] == ("False", "Released")


class TestMerged:
    MERGED = {"hosting": {"contextLength": 512, "adapter": "merged"}}

    @pytest.fixture(autouse=True)
    def measured(self, laptop: Laptop) -> None:
        laptop.results["evaluate"] = evaluated(evaluation_config(job(**self.MERGED).spec, Settings()).id)

    def test_what_is_measured_and_served_is_the_merged_model(self, laptop: Laptop, tmp_path: Path) -> None:
        laptop.results["merge"] = {"artifact": "sha256:bb", "bytes": 270_000_000}
        status = run(laptop, tmp_path, job(**self.MERGED))
        assert laptop.ran == ["prepare", "train", "merge", "host", "base", "evaluate"]
        assert status.phase == Phase.SERVING
        assert conditions(status)["Merged"] == ("True", "Succeeded")
        assert "recipes/aaaa0001/merged --served-model-name recipes" in laptop.commands["host"]
        assert "--enable-lora" not in laptop.commands["host"]

    def test_one_that_answers_otherwise_leaves_the_adapter_loaded(self, laptop: Laptop, tmp_path: Path) -> None:
        laptop.results["merge"] = {"artifact": "sha256:bb", "apart": "It is 9% apart."}
        status = run(laptop, tmp_path, job(**self.MERGED))
        assert conditions(status)["Merged"] == ("False", "AnswersDiffer")
        assert status.phase == Phase.SERVING
        assert "--lora-modules recipes=" in laptop.commands["host"]
