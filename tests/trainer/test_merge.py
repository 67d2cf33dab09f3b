"""The whole model that an engine is given with hosting.adapter: merged: made once, complete or absent, or refused."""

import shutil
from collections import namedtuple
from pathlib import Path

import pytest
import torch
from finetune_trainer.contract.outcome import Outcome, StageError
from finetune_trainer.contract.results import MergeResult
from finetune_trainer.server import Reporter
from finetune_trainer.stages import complete
from finetune_trainer.stages.merge import merge
from finetune_trainer.stages.train import train
from finetune_trainer.training import merging, whole
from safetensors.torch import load_file, save_file
from trainings import PAIRS, Case, MakeCase, Recorder, answers
from transformers import AutoModelForCausalLM, AutoTokenizer


def merged(case: Case) -> MergeResult:
    return merge(case.config, case.workspace, Reporter("merge"))


def trained(make_case: MakeCase, steps: int) -> Case:
    case = make_case(total_steps=steps)
    train(case.config, case.workspace, Recorder())
    return case


def files(case: Case) -> set[str]:
    """What merging has left in the workspace."""
    return {path.name for path in case.workspace.root.glob("merged*")}


def test_it_answers_as_what_was_trained_and_is_made_once(make_case: MakeCase) -> None:
    case = trained(make_case, 24)
    result = merged(case)
    found = AutoModelForCausalLM.from_pretrained(case.workspace.merged)
    assert found.dtype == torch.bfloat16
    assert answers(found, AutoTokenizer.from_pretrained(case.workspace.merged)) == [colour for _, colour in PAIRS]
    assert result.bytes > (case.workspace.merged / "model.safetensors").stat().st_size
    assert files(case) == {"merged", "merged.json"}
    assert complete.result("merge", case.config, case.workspace) == result
    # Another training of the same workspace has made another adapter.
    told = case.workspace.trained.read_text()
    case.workspace.trained.write_text(told.replace(result.artifact, "sha256:other"))
    assert complete.result("merge", case.config, case.workspace) is None


def test_what_a_kill_left_is_made_anew(make_case: MakeCase, monkeypatch: pytest.MonkeyPatch) -> None:
    case = trained(make_case, 3)

    def killed(artifact: Path, target: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as interrupted:
        interrupted.setattr(merging, "merge", killed)
        with pytest.raises(KeyboardInterrupt):
            merged(case)
    assert files(case) == {"merged.part"}
    assert complete.result("merge", case.config, case.workspace) is None
    assert merged(case).apart is None
    assert files(case) == {"merged", "merged.json"}


def test_a_model_that_answers_otherwise_is_not_left_and_told(
    make_case: MakeCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = trained(make_case, 3)
    monkeypatch.setattr(merging, "merge", lambda artifact, target: None)
    result = merged(case)
    assert result.apart is not None
    assert result.apart.startswith("The merged model does not answer as the adapter beside its base model does")
    assert files(case) == {"merged.json"}
    assert complete.result("merge", case.config, case.workspace) == result


def test_weights_that_can_not_be_added_to_are_refused(make_case: MakeCase, tmp_path: Path) -> None:
    case = trained(make_case, 1)
    other = tmp_path / "quantized"
    shutil.copytree(str(case.config.model.source.path), other)
    weights = load_file(other / "model.safetensors")
    name = "model.layers.1.mlp.down_proj.weight"
    save_file(weights | {name: weights[name].to(torch.int8)}, other / "model.safetensors", {"format": "pt"})
    source = case.config.model.source.model_copy(update={"path": other})
    case.config = case.config.model_copy(update={"model": case.config.model.model_copy(update={"source": source})})
    with pytest.raises(StageError) as error:
        merged(case)
    assert error.value.outcome == Outcome.CONFIG_INVALID
    assert error.value.message == (
        f"The adapter can't be merged: it changes {name}, which its base model stores as I8: that can't be "
        "merged. Remove hosting.adapter; the adapter is served beside its base model."
    )
    assert files(case) == set()


def test_a_volume_that_is_too_small_is_told_before_it_is_full(
    make_case: MakeCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = trained(make_case, 1)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, 0))
    monkeypatch.setattr(whole, "make", None)
    with pytest.raises(StageError) as error:
        merged(case)
    assert error.value.outcome == Outcome.WORKSPACE_FULL
    assert error.value.message == (
        "The merged model takes 0.00 GB on the workspace volume, which has 0.00 GB left: raise workspace.size, or "
        "remove hosting.adapter."
    )
