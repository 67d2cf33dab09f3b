"""The whole model that an adapter and its base model are together: made of files, and held to what both answer.

Called by the stages publish, for output.merge, and merge, for hosting.adapter. Merging takes the memory of one matrix;
the check loads one model after the other, in float32.
"""

import shutil
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import ModelCardData
from peft import PeftModel
from transformers import AutoModelForCausalLM

from finetune_trainer.contract.config import ADAPTER_CONFIG, RUN_CONFIG, RunConfig, Workspace
from finetune_trainer.contract.published import MERGED
from finetune_trainer.training import merging, rows
from finetune_trainer.training.card import HUB

# Rows of train that both are asked, and how much of each.
ROWS, TOKENS = 4, 256
# How far logits may be from one another, of their own length: what storing a sum in bfloat16 comes to, or half of what
# the adapter changes. Measured in float32 on a model of 135 million weights, merging comes to 0.3%, and a small adapter
# to 1.5%; computed in bfloat16, both would drown in its rounding.
ROUNDING, SHARE = 0.01, 0.5


class Unmergeable(Exception):
    """The adapter can't become a part of its base model; why, as a sentence."""


class Apart(Exception):
    """The merged model answers otherwise than the adapter beside its base model; how far apart, as a sentence."""


def already(artifact: Path) -> str | None:
    """Where an artifact has its whole model, below its own address; None where it is an adapter alone."""
    if (artifact / MERGED).exists():
        return f"/{MERGED}"
    return None if (artifact / ADAPTER_CONFIG).exists() else ""


def make(config: RunConfig, workspace: Workspace, target: Path) -> None:
    """Leave the model, its card and the run config in `target`. Raises Unmergeable or Apart."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    merging.copy(workspace.base_model(config), target)
    try:
        merging.merge(workspace.artifact, target)
    except ValueError as error:
        raise Unmergeable(f"The adapter can't be merged: it {error}.") from error
    _check(config, workspace, target)
    shutil.copyfile(workspace.artifact / RUN_CONFIG, target / RUN_CONFIG)
    (target / "README.md").write_text(_card(config))


def _check(config: RunConfig, workspace: Workspace, target: Path) -> None:
    asked = _asked(workspace)
    beside, bare = _with_and_without(config, workspace, asked)
    found = _logits(_loaded(config, target), asked)
    apart, changed = _apart(beside, found), _apart(beside, bare)
    # Written so that what is no number is beyond it.
    if not apart <= max(ROUNDING, SHARE * changed):
        raise Apart(
            f"The merged model does not answer as the adapter beside its base model does: their logits on {len(asked)} "
            f"rows of train are {apart:.1%} apart, and {changed:.1%} is what the adapter changes."
        )


def _apart(those: list[torch.Tensor], others: list[torch.Tensor]) -> float:
    return max(float((one - other).norm() / one.norm()) for one, other in zip(those, others, strict=True))


def _asked(workspace: Workspace) -> list[torch.Tensor]:
    train = rows.load(workspace).train
    # Rows of pairs have such a column twice.
    column = next(name for name in train.column_names if name.endswith("input_ids"))
    return [torch.tensor([ids[:TOKENS]]) for ids in train[:ROWS][column]]


def _with_and_without(
    config: RunConfig, workspace: Workspace, asked: list[torch.Tensor]
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """The logits of the base model with its adapter, and of the base model."""
    model: Any = PeftModel.from_pretrained(_loaded(config, workspace.base_model(config)), str(workspace.artifact))
    model.eval()
    beside = _logits(model, asked)
    with model.disable_adapter():
        return beside, _logits(model, asked)


def _loaded(config: RunConfig, path: Path) -> Any:
    trusted = config.model.trust_remote_code
    return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, trust_remote_code=trusted).eval()


def _logits(model: Any, asked: list[torch.Tensor]) -> list[torch.Tensor]:
    with torch.no_grad():
        return [model(input_ids=ids).logits for ids in asked]


def _card(config: RunConfig) -> str:
    base = config.model.name
    front = ModelCardData(
        model_name=config.name,
        base_model=base if config.model.source.uri.startswith(HUB) else None,
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=["finetune-operator", config.training.method.value, "merged"],
    )
    return f"""---
{front.to_yaml()}
---

# {config.name}

This is {base} with the adapter of {config.name}, revision {config.revision}, merged into its weights:
summed in float32, stored in the type of the base model. `{RUN_CONFIG}` says what was trained.

Serve it:

```
vllm serve . --served-model-name {config.name}
```
"""
