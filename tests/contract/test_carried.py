"""A whole life of a revision without a volume: every pod has an empty directory, and the bucket has the rest.

The program is run as pods run it, with a real S3 server and real training of a model of two layers.
"""

import io
import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, cast

import pytest
from control_plane import PATIENCE
from finetune_cli.cluster import Cluster
from finetune_cli.errors import UserError
from finetune_cli.fetch import fetch_artifact
from finetune_cli.jobs import Job
from finetune_operator.api.status import ArtifactStatus, FineTuneJobStatus
from finetune_trainer import __main__ as program
from finetune_trainer import signals
from finetune_trainer.contract.config import Workspace
from finetune_trainer.contract.outcome import Outcome
from finetune_trainer.data import bucket as buckets
from finetune_trainer.data import digests
from finetune_trainer.data.parts import PREPARED, TRAINED, Parts
from finetune_trainer.server import Reporter
from finetune_trainer.stages import carried
from finetune_trainer.stages.carried import Carrier
from finetune_trainer.training import follow, machine
from rich.console import Console
from s3 import KEY, SECRET, Bucket
from stores import Killed, Store
from tiny import CONFIG, write_model
from transformers import LlamaConfig, LlamaForCausalLM

ROWS = "".join(
    f'{{"prompt": "list {number} eggs", "completion": "{number} eggs"}}\n' for number in ("two", "three") * 4
)
STEPS = 4
CONFIGURATION = {
    "name": "recipes",
    "revision": "0a1b2c3d",
    "model": {"source": {"uri": "s3://data/tiny"}},
    "dataset": {"train": {"uri": "s3://data/rows.jsonl"}},
    "training": {"maxSteps": STEPS, "batchSize": 4, "adapter": {"rank": 8}},
}
MODEL, ARTIFACT = "model", "artifact"


class Life:
    """The pods of one revision, each with a directory of its own."""

    def __init__(self, root: Path, place: str, environment: pytest.MonkeyPatch) -> None:
        self.root, self.place, self.environment, self.pods = root, place, environment, 0
        self.configuration: dict[str, Any] = CONFIGURATION

    def run(self, *stage: str) -> int:
        """The exit code of a new pod."""
        self.pods += 1
        self.pod = self.root / f"pod-{self.pods}"
        self.pod.mkdir(parents=True)
        (self.pod / "run.json").write_text(json.dumps(self.configuration))
        places = {"config": "run.json", "workspace": "workspace", "termination-log": "log"}
        told = [part for name, path in places.items() for part in (f"--{name}", str(self.pod / path))]
        told += ["--bucket", self.place, "--status-port", "0"]
        self.environment.setattr(sys, "argv", ["finetune_trainer", *stage, *told])
        with pytest.raises(SystemExit) as ending:
            program.main()
        assert isinstance(ending.value.code, int)
        return ending.value.code

    @property
    def workspace(self) -> Workspace:
        """That of the last pod."""
        return Workspace(self.pod / "workspace")

    @property
    def said(self) -> dict[str, Any]:
        """Its termination message."""
        return dict(json.loads((self.pod / "log").read_text()))

    @property
    def digest(self) -> str:
        """That of the artifact that it has."""
        return digests.digest(self.workspace.artifact)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that can be trained."""
    path = write_model(tmp_path_factory.mktemp("base") / MODEL)
    for weights in path.glob("model*"):
        weights.unlink()
    LlamaForCausalLM(LlamaConfig(**CONFIG)).save_pretrained(path)
    return path


@pytest.fixture
def life(
    bucket: Bucket, model: Path, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], Life]:
    """New revisions, whose model and rows lie in the bucket data, prepared. A checkpoint is kept after each step."""
    for path in model.iterdir():
        bucket.put(f"data/tiny/{path.name}", path.read_bytes())
    bucket.put("data/rows.jsonl", ROWS.encode())
    monkeypatch.setattr(follow, "SAVE_SECONDS", 0.0)
    monkeypatch.setattr(follow, "SAVE_SHARE", float("inf"))
    monkeypatch.setattr(machine, "_bf16_is_fast", lambda: False)

    def prepared(name: str) -> Life:
        found = Life(tmp_path / name, f"s3://models/{request.node.name}/{name}/recipes-0a1b2c3d", monkeypatch)
        assert found.run("prepare") == 0, found.said
        return found

    return prepared


@pytest.fixture
def stops(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Have this process asked to stop once it has taken a step."""
    update = Reporter.update

    def at(step: int) -> None:
        def told(self: Reporter, **fields: Any) -> None:
            update(self, **fields)
            if fields.get("step") == step and "eta" in fields:
                monkeypatch.setattr(Reporter, "update", update)
                os.kill(os.getpid(), signal.SIGTERM)

        monkeypatch.setattr(Reporter, "update", told)

    return at


def killed(life: Life, moment: Callable[[str, str], bool]) -> None:
    """Train in a pod that is killed as it begins to do something with a path of its bucket."""
    make, dead = buckets.filesystem, []

    class Dying:
        def __init__(self, asked: Any) -> None:
            self._asked = asked

        def __getattr__(self, name: str) -> Any:
            call = getattr(self._asked, name)
            return call if name not in Store.calls else lambda *told, **more: self._write(call, name, told, more)

        def _write(self, call: Any, name: str, told: tuple[Any, ...], more: dict[str, Any]) -> Any:
            path = told[1] if name == "put_file" else told[0]
            if dead or moment(name, path.removeprefix(f"{life.place.removeprefix('s3://')}/")):
                dead.append(path)
                raise Killed
            return call(*told, **more)

    with life.environment.context() as environment:
        environment.setattr(buckets, "filesystem", lambda *asked: Dying(make(*asked)))
        life.run("train")
    assert dead


def names(found: Bucket, life: Life, part: str) -> set[str]:
    """What the files of a part are called."""
    return {path.rpartition("/")[2] for path in found.names(f"{life.place.removeprefix('s3://')}/{part}")}


def test_it_ends_with_the_same_artifact_wherever_its_pods_are_stopped_or_killed(
    life: Callable[[str], Life],
    bucket: Bucket,
    stops: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level("INFO")
    whole, found = life("undisturbed"), life("disturbed")
    assert whole.run("train") == 0, whole.said
    expected = whole.digest
    # No checkpoint is left, only the word that there were some.
    assert names(bucket, whole, "training") == {f"{STEPS}.json"}

    stops(2)
    assert found.run("train") == Outcome.INTERRUPTED.exit.code
    assert "checkpoint-2/" in str(bucket.names(f"{found.place.removeprefix('s3://')}/training"))
    steps = told_steps(monkeypatch)
    killed(found, lambda call, path: path == "trained/1.json")
    assert steps[0] == 2
    killed(found, lambda call, path: call == "pipe_file" and path.startswith("training/") and bool(done(bucket, found)))
    # By then the artifact is whole, and two of its files tell that it is.
    assert found.run("train") == 0, found.said
    assert sorted(path.name for path in found.workspace.artifact.iterdir()) == ["artifact.json", "run_config.json"]
    assert {name.partition(".")[2] for name in names(bucket, found, "training")} == {"json"}

    assert found.run("bring", "--only", f"{ARTIFACT}={expected}", "--only", MODEL) == 0, found.said
    assert found.digest == expected
    fetched = tmp_path / "fetched"
    fetch_artifact("recipes", fetched, cast(Cluster, Told(found, expected)), Console(file=io.StringIO()), None)
    assert digests.digest(fetched) == expected
    with pytest.raises(UserError) as unsigned:
        fetch_artifact("recipes", tmp_path / "no", cast(Cluster, Told(found, expected)), Console(), tmp_path / "key")
    assert unsigned.value.message == f"{found.place}/artifact is not signed: it has no model.sig."
    continued = Life(tmp_path / "continued", f"{whole.place}-continued", monkeypatch)
    files = continued.root / "pod-1/workspace/origin"
    origin = {"digest": expected, "files": str(files), "base": {"uri": "s3://data/tiny"}, "bucket": found.place}
    lineage = ["ftj://recipes/0a1b2c3d", "s3://data/tiny"]
    model = {"source": {"uri": lineage[0]}, "origin": origin | {"lineage": lineage}}
    continued.configuration = CONFIGURATION | {"model": model}
    assert continued.run("prepare") == 0, continued.said
    assert (continued.workspace.model / "config.json").exists()
    assert not files.exists(), "there is one model, not two"

    said = "".join((caplog.text, *capfd.readouterr(), *(path.read_text() for path in found.root.glob("*/log"))))
    assert [secret for secret in (KEY, SECRET) if secret in said] == []


@dataclass(frozen=True)
class Told:
    """A cluster whose FineTuneJob tells of this artifact."""

    life: Life
    digest: str

    def job(self, name: str) -> Job:
        """It, as far as `finetune fetch` asks."""
        artifact = ArtifactStatus(uri=f"{self.life.place}/artifact", digest=self.digest, bytes=1)
        return Job(name, FineTuneJobStatus(artifact=artifact), {})


def done(found: Bucket, life: Life) -> set[str]:
    """The lists of what was trained."""
    return {name for name in names(found, life, "trained") if name == "1.json"}


def told_steps(environment: pytest.MonkeyPatch) -> list[int]:
    """The steps that a training tells of from now on."""
    update, found = Reporter.update, []

    def told(self: Reporter, **fields: Any) -> None:
        update(self, **fields)
        if "step" in fields:
            found.append(fields["step"])

    environment.setattr(Reporter, "update", told)
    return found


def test_an_engine_gets_what_it_serves_or_says_what_is_wrong(life: Callable[[str], Life], bucket: Bucket) -> None:
    found = life("served")
    assert found.run("bring", "--only", MODEL) == 0, found.said
    assert sorted(path.name for path in (found.pod / "workspace").iterdir() if path.is_dir()) == [".parts", MODEL]
    assert (found.workspace.model / "config.json").exists()
    assert found.run("bring", "--only", ARTIFACT) == Outcome.NOT_FOUND.exit.code
    assert found.said["message"] == (
        f"{found.place} has no artifact: somebody has removed it, or a rule of the bucket has."
    )
    assert found.run("bring", "--only", f"{MODEL}=sha256:0") == Outcome.DATA_INVALID.exit.code
    assert found.said["message"].startswith(f"model in {found.place} is not what was trained: its digest is sha256:")


def test_a_stage_whose_files_were_removed_says_so(life: Callable[[str], Life], bucket: Bucket) -> None:
    found = life("removed")
    for name in bucket.names(found.place.removeprefix("s3://")):
        bucket.client.delete_object(Bucket="models", Key=f"{found.place.removeprefix('s3://models/')}/{name}")
    assert found.run("train") == Outcome.NOT_FOUND.exit.code
    assert found.said["message"] == (
        f"{found.place}/prepared is not there, where prepare has put it: somebody has removed it, or a rule of the "
        "bucket has. Put it back, or set training.seed to another value, which is a new revision."
    )


@pytest.fixture
def trained(bucket: Bucket, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """Where the files of a revision lie that is to be evaluated."""
    uri = f"s3://models/{request.node.name}/recipes-0a1b2c3d"
    for part in (PREPARED, TRAINED):
        (tmp_path / part).mkdir()
        (tmp_path / part / "file").write_text(part)
        Parts(uri, tmp_path).put(part, [tmp_path / part])
    return uri


def test_an_evaluation_that_is_killed_has_put_the_answers_that_had_come(
    trained: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, put = Workspace(tmp_path / "first"), Workspace(tmp_path / "second"), Parts.put
    monkeypatch.setattr(carried, "KEEP_SECONDS", 0.0)
    monkeypatch.setattr(carried, "KEEP_SHARE", float("inf"))

    def dying(self: Parts, *asked: Any, **more: Any) -> None:
        answered = first.answers.exists() and first.answers.read_text() == "an answer"
        put(self, *asked, **more)
        if answered:
            os.kill(os.getpid(), signal.SIGKILL)

    def evaluate() -> None:
        monkeypatch.setattr(Parts, "put", dying)
        with Carrier("evaluate", first, trained).around():
            first.evaluations.mkdir(parents=True)
            first.answers.write_text("an answer")
            threading.Event().wait(PATIENCE)

    child = get_context("fork").Process(target=evaluate)
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    with Carrier("evaluate", second, trained).around():
        assert second.answers.read_text() == "an answer"


def test_an_evaluation_that_is_asked_to_stop_keeps_its_answers(trained: str, tmp_path: Path) -> None:
    class Stopped(Exception):
        pass

    def stop(number: int, frame: object) -> None:
        raise Stopped

    first, second = Workspace(tmp_path / "first"), Workspace(tmp_path / "second")

    def evaluate() -> None:
        with Carrier("evaluate", first, trained).around():
            first.evaluations.mkdir(parents=True)
            first.answers.write_text("an answer")
            os.kill(os.getpid(), signal.SIGTERM)

    with signals.handled(stop), pytest.raises(Stopped):
        evaluate()
    with Carrier("evaluate", second, trained).around():
        assert second.answers.read_text() == "an answer"


def test_wrong_keys_are_told_before_anything_is_fetched_and_are_told_to_nobody(
    life: Callable[[str], Life], bucket: Bucket
) -> None:
    found = life("refused")
    bucket.grant("WORKSPACE", AWS_SECRET_ACCESS_KEY="wrong")
    assert found.run("train") == Outcome.ACCESS_DENIED.exit.code
    assert found.said["message"] == (
        f"{found.place} was refused: the AWS_ACCESS_KEY_ID given for the workspace has no right to it: see the Secret "
        "in its credentials."
    )
