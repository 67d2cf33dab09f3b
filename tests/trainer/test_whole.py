"""The whole model that output.merge publishes: it answers as the adapter beside its base model, or is refused."""

import shutil
from pathlib import Path

import pytest
import torch
from finetune_trainer.contract.config import AdapterConfig, AdapterType
from finetune_trainer.contract.outcome import Outcome, StageError
from finetune_trainer.contract.published import Manifest
from finetune_trainer.contract.results import PublishResult
from finetune_trainer.data import digests
from finetune_trainer.data.published import bring
from finetune_trainer.server import Reporter
from finetune_trainer.stages.publish import PublishOptions, publish
from finetune_trainer.stages.train import train
from finetune_trainer.training import merging
from safetensors.torch import load_file, save_file
from trainings import PAIRS, Case, MakeCase, Recorder, answers
from transformers import AutoModelForCausalLM, AutoTokenizer


def published(case: Case, place: Path) -> PublishResult:
    return publish(
        case.config, case.workspace, f"s3://{place}", "uid-1", Reporter("publish"), PublishOptions(merge=True)
    )


def test_it_answers_as_the_adapter_does_and_is_fetched_as_any_artifact(
    make_case: MakeCase, place: Path, tmp_path: Path
) -> None:
    case = make_case(total_steps=24)
    train(case.config, case.workspace, Recorder())
    result = published(case, place)
    assert result.merged == f"s3://{place}/0a1b2c3d-merged"
    manifest = bring(result.merged, tmp_path / "model", lambda name: None)
    assert manifest.merged_from == result.artifact.digest
    found = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    assert found.dtype == torch.bfloat16
    assert answers(found, AutoTokenizer.from_pretrained(tmp_path / "model")) == [colour for _, colour in PAIRS]
    # The adapter is what it is without, and the workspace has its room back.
    assert bring(result.uri, tmp_path / "adapter", lambda name: None).artifact == result.artifact
    assert digests.digest(tmp_path / "adapter") == result.artifact.digest
    assert not case.workspace.whole.exists()


def test_what_was_merged_is_not_merged_twice(make_case: MakeCase, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = make_case(total_steps=1)
    train(case.config, case.workspace, Recorder())
    first = published(case, place)
    monkeypatch.setattr(merging, "merge", None)
    assert published(case, place) == first


def test_a_model_that_answers_otherwise_is_refused(
    make_case: MakeCase, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # However little it has learned.
    case = make_case(total_steps=3)
    train(case.config, case.workspace, Recorder())
    monkeypatch.setattr(merging, "merge", lambda artifact, target: None)
    with pytest.raises(StageError) as error:
        published(case, place)
    assert error.value.outcome == Outcome.CONFIG_INVALID
    assert error.value.message.startswith(
        "The merged model does not answer as the adapter beside its base model does: their logits on 4 rows of train"
    )
    assert not (place / "0a1b2c3d-merged/manifest.json").exists()
    assert Manifest.model_validate_json((place / "0a1b2c3d/manifest.json").read_bytes()).merged_from is None


@pytest.mark.parametrize(("kind", "inside"), [(AdapterType.DORA, "/merged"), (AdapterType.NONE, "")])
def test_what_is_whole_already_is_named(make_case: MakeCase, place: Path, kind: AdapterType, inside: str) -> None:
    case = make_case(adapter=AdapterConfig(type=kind, rank=8), total_steps=1)
    train(case.config, case.workspace, Recorder())
    result = published(case, place)
    assert result.merged == f"{result.uri}{inside}"
    assert [path.name for path in place.iterdir()] == ["0a1b2c3d"]


def test_an_adapter_that_can_not_be_merged_is_told(make_case: MakeCase, place: Path, tmp_path: Path) -> None:
    case = make_case(total_steps=1)
    train(case.config, case.workspace, Recorder())
    other = tmp_path / "other"
    shutil.copytree(str(case.config.model.source.path), other)
    weights = next(other.glob("*.safetensors"))
    kept = {name: tensor for name, tensor in load_file(weights).items() if "layers.1.mlp.down_proj" not in name}
    save_file(kept, weights, {"format": "pt"})
    model = case.config.model.model_copy(update={"source": case.config.model.source.model_copy(update={"path": other})})
    case.config = case.config.model_copy(update={"model": model})
    with pytest.raises(StageError) as error:
        published(case, place)
    assert error.value.message == (
        "The adapter can't be merged: it changes model.layers.1.mlp.down_proj.weight, which the files of its base "
        "model don't have. Remove output.merge; the adapter is published beside its base model's name."
    )
