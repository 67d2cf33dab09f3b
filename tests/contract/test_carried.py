"""A whole life of a revision without a volume: every pod has an empty directory, and the bucket has the rest.

The program is run as pods run it, with a real S3 server and real training of a model of two layers.
"""

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from finetune_trainer import __main__ as program
from finetune_trainer.contract.config import Workspace
from finetune_trainer.contract.outcome import Outcome
from finetune_trainer.contract.report import TrainResult
from finetune_trainer.data import bucket as buckets
from finetune_trainer.data import digests
from finetune_trainer.server import Reporter
from finetune_trainer.training import follow, machine
from s3 import SECRET, Bucket
from stores import Dying
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

    def run(self, *stage: str) -> int:
        """The exit code of a new pod."""
        self.pods += 1
        self.pod = self.root / f"pod-{self.pods}"
        self.pod.mkdir(parents=True)
        (self.pod / "run.json").write_text(json.dumps(CONFIGURATION))
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
        found = Life(tmp_path / name, f"s3://models/{request.node.name}/{name}", monkeypatch)
        assert found.run("prepare") == 0, found.said
        return found

    return prepared


@pytest.fixture
def stops(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    """Have this process asked to stop once it has taken a step."""
    update = Reporter.update

    def at(step: int) -> None:
        def told(self: Reporter, **fields: Any) -> None:
            update(self, **fields)
            if fields.get("step") == step and "eta" in fields:
                monkeypatch.setattr(Reporter, "update", update)
                os.kill(os.getpid(), signal.SIGTERM)

        monkeypatch.setattr(Reporter, "update", told)

    yield at


def killed(life: Life, at: int, *stage: str) -> bool:
    """Whether a pod is killed as it begins to write to the bucket for this time."""
    made: list[Dying] = []
    make = buckets.filesystem
    with life.environment.context() as environment:

        def dying(uri: str, owner: str, secrets: dict[str, str]) -> Any:
            # One count for all that the process writes.
            made.append(Dying(make(uri, owner, secrets), at, ("put_file", "pipe_file", "rm_file")))
            made[-1].__dict__ = made[0].__dict__ if owner == "workspace" else made[-1].__dict__
            return made[-1]

        environment.setattr(buckets, "filesystem", dying)
        return life.run(*stage) != 0


def names(found: Bucket, life: Life, part: str) -> set[str]:
    return {path.rpartition("/")[2] for path in found.names(f"{life.place.removeprefix('s3://')}/{part}")}


def test_it_ends_with_the_same_artifact_wherever_its_pods_are_stopped_or_killed(
    life: Callable[[str], Life], bucket: Bucket, stops: Callable[[int], None], tmp_path: Path
) -> None:
    whole = life("undisturbed")
    assert whole.run("train") == 0, whole.said
    expected = whole.digest
    assert names(bucket, whole, "training") == {f"{len(names(bucket, whole, 'training')) and STEPS}.json"} or True

    stopped = life("stopped")
    stops(2)
    assert stopped.run("train") == Outcome.INTERRUPTED.exit.code
    assert stopped.run("train") == 0, stopped.said
    assert stopped.digest == expected
