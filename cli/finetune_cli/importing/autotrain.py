"""An AutoTrain configuration (YAML) for a language model."""

from collections.abc import Mapping
from typing import Any

from finetune_cli.importing import adapters
from finetune_cli.importing.arguments import LEFT
from finetune_cli.importing.draft import (
    Draft,
    Field,
    batch,
    model_source,
    number,
    orpo,
    rows_note,
    rows_source,
    trackers,
)

NAME = "AutoTrain"
_METHODS = {
    "llm": "sft",
    "llm-generic": "sft",
    "llm-sft": "sft",
    "llm-dpo": "dpo",
    "llm-orpo": "dpo",
    "llm-reward": "reward",
}
_ADAPTER = {"rank": "lora_r", "alpha": "lora_alpha", "dropout": "lora_dropout", "targets": "target_modules"}
_FIELDS = {
    "lr": Field("training/learningRate", number),
    "epochs": Field("training/epochs", number),
    "block_size": Field("training/maxLength", lambda value: int(value[0] if isinstance(value, list) else value)),
    "seed": Field("training/seed", int),
    "dpo_beta": Field("training/dpo/beta", number),
}
_LEFT = {
    "backend": "where it runs: `kubectl apply` on a cluster, `finetune run` on this machine",
    "model_max_length": "is the tokenizer's limit; rows are cut at training.maxLength",
    "max_prompt_length": "prompts are not cut by themselves: a row is, at training.maxLength",
    "max_completion_length": "answers are not cut by themselves: a row is, at training.maxLength",
    "padding": LEFT["packing"],
    "optimizer": LEFT["optim"],
    "scheduler": LEFT["lr_scheduler_type"],
    "mixed_precision": LEFT["bf16"],
    "unsloth": LEFT["attn_implementation"],
    "disable_gradient_checkpointing": LEFT["gradient_checkpointing"],
    "add_eos_token": "the end of an answer is always learned",
    "model_ref": "the reference is the base model, whose answers are computed once",
    "merge_adapter": "an adapter is served beside its base model: see output and hosting",
    "eval_strategy": LEFT["eval_strategy"],
    "chat_template": "the model's own chat template is used, which vLLM serves it with",
    "hub.push_to_hub": LEFT["push_to_hub"],
    "hub.username": LEFT["push_to_hub"],
    "hub.token": "a token has no place in a manifest: put HF_TOKEN into a Secret, and name it in model.credentials",
}
# What the template of a chat says of its rows' column.
_CHATS = ("chatml", "zephyr", "tokenizer")


def flat(document: Mapping[str, Any]) -> dict[str, Any]:
    """Its settings in one level: those of params by their own names, others behind their section's."""
    found: dict[str, Any] = {}
    for section, value in document.items():
        if section == "params":
            found |= value or {}
        elif isinstance(value, Mapping):
            found |= {f"{section}.{key}": each for key, each in value.items()}
        else:
            found[section] = value
    mapping = found.pop("data.column_mapping", None) or {}
    return found | {f"data.column_mapping.{key}": each for key, each in mapping.items()}


def read(draft: Draft) -> None:
    """Make the FineTuneJob."""
    task = str(draft.get("task"))
    method = _METHODS.get(task, "sft")
    draft.put("task", "training/method", method)
    if task == "llm-orpo":
        orpo(draft)
    if name := draft.get("base_model"):
        draft.put("base_model", "model/source", model_source(str(name)))
    _rows(draft)
    _columns(draft, method)
    _adapter(draft)
    batch(draft, "batch_size", "gradient_accumulation", 2)
    trackers(draft, "log")
    if method != "dpo":
        draft.leave("dpo_beta", "goes with method dpo")
    draft.take(_FIELDS)
    draft.leave("data.chat_template", _LEFT["chat_template"])
    draft.leave_all(_LEFT | LEFT)
    draft.name = draft.name or str(draft.get("project_name", ""))
    draft.join("metadata.name", "project_name")


def _rows(draft: Draft) -> None:
    if (path := draft.get("data.path")) is None:
        return
    for theirs, ours in (("data.train_split", "train"), ("data.valid_split", "validation")):
        split = draft.get(theirs)
        if split is None and ours == "validation":
            continue
        source = rows_source(str(path), str(split or "train"))
        draft.put("data.path" if ours == "train" else theirs, f"dataset/{ours}/source", source, rows_note(source))
        draft.join(f"dataset.{ours}.source", theirs)


def _columns(draft: Draft, method: str) -> None:
    chat = draft.get("data.chat_template") in _CHATS
    ours = {
        "text_column": "chosen" if method != "sft" else "messages" if chat else "text",
        "rejected_text_column": "rejected",
        "prompt_text_column": "prompt",
    }
    for theirs, column in ours.items():
        key = f"data.column_mapping.{theirs}"
        name = draft.get(key)
        if name is not None and name != column:
            draft.put(key, f"dataset/columns/{column}", name)
        draft.join("dataset.columns", key)


def _adapter(draft: Draft) -> None:
    bits = draft.get("quantization")
    kind = "none" if not draft.get("peft") else "qlora" if bits == "int4" else "lora"
    if bits == "int8":
        draft.leave("quantization", "8-bit base models are not there: qlora holds it in four bits")
    draft.join("training.adapter.type", "quantization")
    adapters.put(draft, kind, _ADAPTER, "peft")
