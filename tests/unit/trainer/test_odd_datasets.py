"""The corpus of broken and odd datasets: each has its sentence, and none is trained in silence."""

from pathlib import Path
from typing import Any

import pytest
from finetune_trainer.contract.config import DatasetConfig, ModelConfig, RunConfig, Source, TrainingConfig, Workspace
from finetune_trainer.contract.outcome import Outcome, StageError
from finetune_trainer.contract.results import PrepareResult
from finetune_trainer.server import Reporter
from finetune_trainer.stages.prepare import prepare
from odd_datasets import TOLD, OddDataset, everything
from tiny import CHATML, write_model

CORPUS = list(everything())


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    """A model with a chat template, and one without."""
    root = tmp_path_factory.mktemp("models")
    return {True: write_model(root / "chat", CHATML), False: write_model(root / "plain", None)}


def config(odd: OddDataset, root: Path, model: Path) -> RunConfig:
    for name, content in odd.files.items():
        (root / name).write_bytes(content)
    name = next(iter(odd.files)) if len(odd.files) == 1 else "train-*.jsonl"
    train: dict[str, Any] = {"uri": f"pvc://data/{name}", "path": str(root / name)}
    return RunConfig(
        name="recipes",
        revision="0a1b2c3d",
        model=ModelConfig(source=Source(uri="pvc://models/tiny", path=model)),
        dataset=DatasetConfig.model_validate({"train": train, **odd.dataset}),
        training=TrainingConfig.model_validate(odd.training),
    )


def prepared(wanted: RunConfig, workspace: Workspace, odd: OddDataset) -> PrepareResult:
    return prepare(wanted, workspace, Reporter("prepare"), on_sensitive=odd.on_sensitive)


def test_the_corpus_is_large_and_no_two_of_it_are_one() -> None:
    assert len(CORPUS) >= 100
    assert len({odd.name for odd in CORPUS}) == len(CORPUS)


@pytest.mark.parametrize("odd", CORPUS, ids=lambda odd: odd.name)
def test_each_has_its_sentence(odd: OddDataset, tmp_path: Path, models: dict[bool, Path]) -> None:
    workspace = Workspace(tmp_path / "workspace")
    workspace.root.mkdir()
    wanted = config(odd, tmp_path, models[odd.template])
    if odd.ends == TOLD:
        said = "\n".join(prepared(wanted, workspace, odd).warnings)
        assert workspace.learned("train").exists()
    else:
        with pytest.raises(StageError) as error:
            prepared(wanted, workspace, odd)
        assert error.value.outcome in (Outcome.DATA_INVALID, Outcome.CONFIG_INVALID)
        assert not workspace.prepared.exists()
        said = error.value.message
    for part in odd.says.split("…"):
        assert part in said
