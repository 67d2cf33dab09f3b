"""The body of an OpenAI fine-tuning job (POST /v1/fine_tuning/jobs)."""

from collections.abc import Mapping
from typing import Any

from finetune_cli.importing.draft import Draft, Field, number

NAME = "OpenAI"
# Its methods, and what they are called here.
METHODS = {"supervised": "sft", "dpo": "dpo"}
_FIELDS = {
    "n_epochs": Field("training/epochs", number),
    "batch_size": Field("training/batchSize", int),
    "seed": Field("training/seed", int),
}
_LEFT = {
    "model": "OpenAI's models can't be had: choose an open one with --model",
    "training_file": "is the id of a file at OpenAI: download it, and name it with --train",
    "validation_file": "is the id of a file at OpenAI: download it, and name it in dataset.validation.source",
    "learning_rate_multiplier": "multiplies a rate that OpenAI chooses: left out, one is chosen here (status.plan)",
    "integrations": "mlflow, tensorboard, trackio and wandb are there: see training.tracking",
}


def flat(document: Mapping[str, Any]) -> dict[str, Any]:
    """Its settings in one level: hyperparameters stand in the method, or at the top as they used to."""
    method = document.get("method") or {}
    kind = method.get("type", "supervised")
    parameters = {**(document.get("hyperparameters") or {}), **((method.get(kind) or {}).get("hyperparameters") or {})}
    rest = {key: value for key, value in document.items() if key not in ("method", "hyperparameters")}
    # auto: as if it were not there.
    return rest | {"method": kind} | {key: value for key, value in parameters.items() if value != "auto"}


def read(draft: Draft) -> None:
    """Make the FineTuneJob."""
    kind = str(draft.get("method"))
    if kind in METHODS:
        draft.put("method", "training/method", METHODS[kind])
    else:
        draft.leave("method", "is no method here: supervised and dpo are")
    if kind == "dpo":
        draft.take({"beta": Field("training/dpo/beta", number)})
    draft.take(_FIELDS)
    draft.leave_all(_LEFT)
    draft.name = draft.name or str(draft.get("suffix", ""))
    draft.join("metadata.name", "suffix")
    if (pairs := draft.get("metadata")) is not None:
        draft.leave("metadata", f"write {len(pairs)} labels or annotations into metadata, if others look for them")
