"""An evaluation as the operator runs it: prepared rows and an engine in miniature, for the tests of evaluate."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from finetune_trainer.contract.config import (
    BaselineConfig,
    BaselineType,
    DatasetConfig,
    EvaluationConfig,
    Method,
    ModelConfig,
    RunConfig,
    Source,
    SplitConfig,
    TrainingConfig,
    Workspace,
)
from finetune_trainer.contract.outcome import StageError
from finetune_trainer.contract.results import ArtifactInfo, EvaluateResult, TrainResult, Usage
from finetune_trainer.evaluation.ask import Whom
from finetune_trainer.evaluation.general import PROMPTS
from finetune_trainer.server import Reporter
from finetune_trainer.stages.evaluate import evaluate
from finetune_trainer.stages.prepare import prepare
from small_engine import Engine
from tiny import CHATML, write_model

FOODS = ["egg", "flour", "rice", "leek", "pork"]
TRAIN = [
    {"prompt": f"list {number} cups of {FOODS[number % 5]}", "completion": FOODS[number % 5]} for number in range(40)
]
TEST = [
    {"prompt": f"what is in my big bowl of {number} {FOODS[number % 5]} dish", "completion": FOODS[number % 5]}
    for number in range(20)
]
BASELINES = (
    BaselineConfig(type=BaselineType.ZERO_SHOT),
    BaselineConfig(type=BaselineType.FEW_SHOT, examples=2),
    BaselineConfig(type=BaselineType.RETRIEVAL, examples=2),
)


def reply(model: str, messages: list[dict[str, str]]) -> str:
    """The tuned model is always right; the base model only when an example in its prompt had the same answer."""
    right = next((food for food in FOODS if food in messages[-1]["content"]), None)
    if right is None:
        # A general prompt, which tuning has not changed.
        return "as ever"
    if model.startswith("recipes") and not model.endswith("-base"):
        return right
    return right if right in [message["content"] for message in messages if message["role"] == "assistant"] else "soup"


def prepared(
    root: Path,
    train: list[Any] = TRAIN,
    test: list[Any] = TEST,
    template: str | None = CHATML,
    method: Method = Method.SFT,
) -> tuple[RunConfig, Workspace]:
    """A job whose rows are prepared and whose model is trained, as far as evaluate looks at it."""
    sources = {}
    for split, rows in (("train", train), ("test", test)):
        path = root / f"{split}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        sources[split] = Source(uri=f"pvc://data/{split}.jsonl", path=path)
    config = RunConfig(
        name="recipes",
        revision="0a1b2c3d",
        model=ModelConfig(source=Source(uri="pvc://models/tiny", path=write_model(root / "model", template))),
        dataset=DatasetConfig(train=sources["train"], test=SplitConfig(source=sources["test"])),
        training=TrainingConfig(method=method),
    )
    workspace = Workspace(root / "workspace")
    workspace.artifact.mkdir(parents=True)
    prepare(config, workspace, Reporter("prepare"))
    usage = Usage(trained_tokens=1000, seconds=10)
    trained = TrainResult(artifact=ArtifactInfo(digest="sha256:0", bytes=1), usage=usage, steps=1)
    workspace.trained.write_text(trained.model_dump_json(by_alias=True))
    return config, workspace


class Case:
    """Prepared rows, and an engine that serves their model."""

    def __init__(self, root: Path, engine: Engine) -> None:
        self.root, self.engine = root, engine
        # Where the base model has an engine of its own.
        self.base: Engine | None = None
        # What the tuned model and the base model are asked for by.
        self.models = "recipes", "recipes-base"
        self.workspace = Workspace(root / "workspace")
        self.reporter = Reporter("evaluate")
        self.config: RunConfig | None = None

    def prepared(self, *rows: list[Any], **fields: Any) -> None:
        self.config, self.workspace = prepared(self.root, *rows, **fields)

    def evaluate(self, **fields: Any) -> EvaluateResult:
        assert self.config is not None
        evaluation = EvaluationConfig(**({"baselines": BASELINES} | fields))
        whom = Whom(self.engine.url, self.base and self.base.url, *self.models)
        return evaluate(self.config, evaluation, self.workspace, whom, self.reporter)

    def program(self, **fields: Any) -> list[str | Path]:
        """The same, in a process of its own."""
        assert self.config is not None
        places = {name: self.root / f"{name}.json" for name in ("config", "evaluation")}
        places["config"].write_text(self.config.model_dump_json(by_alias=True))
        evaluation = EvaluationConfig(**({"baselines": BASELINES} | fields))
        places["evaluation"].write_text(evaluation.model_dump_json(by_alias=True))
        places |= {"workspace": self.workspace.root, "termination-log": self.root / "log"}
        told = [part for name, path in places.items() for part in (f"--{name}", path)]
        asked = ["--endpoint", self.engine.url, "--model", self.models[0], "--base-model", self.models[1]]
        return [sys.executable, "-m", "finetune_trainer", "evaluate", *told, *asked, "--status-port", "0"]

    def refused(self, **fields: Any) -> StageError:
        with pytest.raises(StageError) as error:
            self.evaluate(**fields)
        return error.value

    def answers(self) -> list[dict[str, Any]]:
        """What was kept about the test rows."""
        found = (json.loads(line) for line in self.workspace.answers.read_text().splitlines())
        return [answer for answer in found if answer["contender"] != "general"]

    def asked(self) -> list[dict[str, Any]]:
        """What the engine was asked about the test rows."""
        general = set(PROMPTS)
        return [body for body in self.engine.asked if body["messages"][-1]["content"] not in general]
