"""An axolotl configuration (YAML): the fields that most of them have."""

from typing import Any

from finetune_cli.importing import adapters
from finetune_cli.importing.arguments import LEFT
from finetune_cli.importing.draft import (
    Draft,
    Field,
    batch,
    model_source,
    modules,
    number,
    orpo,
    rows_note,
    rows_source,
)

NAME = "axolotl"
_METHODS = {"dpo": "dpo", "kto": "kto", "orpo": "dpo", "ipo": "dpo", "simpo": "dpo"}
_ADAPTER = {
    "saved": "lora_modules_to_save",
    "rank": "lora_r",
    "alpha": "lora_alpha",
    "dropout": "lora_dropout",
    "rslora": "peft_use_rslora",
    "loraplus": "loraplus_lr_ratio",
}
_FIELDS = {
    "revision_of_model": Field("model/revision", str),
    "trust_remote_code": Field("model/trustRemoteCode", lambda value: bool(value) or None, "is off by default"),
    "sequence_len": Field("training/maxLength", int),
    "learning_rate": Field("training/learningRate", number),
    "seed": Field("training/seed", int),
}
_LEFT = {
    **dict.fromkeys(
        ("sample_packing", "eval_sample_packing", "pad_to_sequence_len", "sample_packing_bin_size"), LEFT["packing"]
    ),
    **dict.fromkeys(("flash_attention", "sdp_attention", "xformers_attention"), LEFT["attn_implementation"]),
    **dict.fromkeys(("optimizer", "weight_decay", "max_grad_norm"), LEFT["optim"]),
    **dict.fromkeys(("lr_scheduler", "cosine_min_lr_ratio"), LEFT["lr_scheduler_type"]),
    **dict.fromkeys(("saves_per_epoch", "save_safetensors", "auto_resume_from_checkpoints"), LEFT["save_strategy"]),
    **dict.fromkeys(("evals_per_epoch", "eval_table_size", "eval_max_new_tokens"), LEFT["eval_strategy"]),
    **dict.fromkeys(("wandb_project", "wandb_entity", "wandb_watch", "wandb_name", "wandb_log_model"),
                    "see training.tracking: {type: wandb}"),
    **dict.fromkeys(("mlflow_tracking_uri", "mlflow_experiment_name"), "see training.tracking: {type: mlflow}"),
    **dict.fromkeys(("model_type", "tokenizer_type", "is_llama_derived_model", "tokenizer_config"),
                    "the model's own configuration says which it is"),
    **dict.fromkeys(("bfloat16", "float16"), LEFT["bf16"]),
    "train_on_inputs": "answers alone are learned",
    "chat_template": "the model's own chat template is used, which vLLM serves it with",
    "special_tokens": "the model's own are used; adapters with new tokens can't be served",
    "dataset_prepared_path": "what is prepared lies in the workspace",
    "lora_model_dir": "to go on from another training, see model.source ftj://",
    "debug": LEFT["logging_steps"],
    "strict": "wrong and unknown fields are always refused",
    "local_rank": LEFT["deepspeed"],
}  # fmt: skip
# Their types of rows as formats here, where the columns alone would not say it.
_FORMATS = {"alpaca": "instruction", "completion": "text", "sharegpt": "sharegpt"}


def read(draft: Draft) -> None:
    """Make the FineTuneJob."""
    _method(draft)
    if name := draft.get("base_model"):
        draft.put("base_model", "model/source", model_source(str(name)))
    _rows(draft)
    _adapter(draft)
    batch(draft, "micro_batch_size", "gradient_accumulation_steps", 1)
    _length(draft)
    draft.take(_FIELDS)
    draft.leave_all(_LEFT | LEFT)
    draft.name = draft.name or str(draft.get("output_dir", "")).rstrip("/").rpartition("/")[2]


def _method(draft: Draft) -> None:
    wanted = str(draft.get("rl", "sft"))
    draft.put("rl", "training/method", _METHODS.get(wanted, "sft"))
    if wanted == "orpo":
        orpo(draft)
    elif wanted == "ipo":
        draft.put("", "training/dpo/lossType", ["ipo"])
    elif wanted not in ("sft", *_METHODS) or wanted == "simpo":
        draft.leave("rl", "is no method here: sft, dpo, kto and reward are")
    if wanted in ("dpo", "ipo", "orpo"):
        draft.take({"rl_beta": Field("training/dpo/beta", number), "dpo_beta": Field("training/dpo/beta", number)})


def _rows(draft: Draft) -> None:
    for theirs, ours in (("datasets", "train"), ("test_datasets", "validation")):
        found: Any = draft.get(theirs)
        if not found:
            continue
        first, *others = found
        if others:
            draft.leave(
                theirs, "the first is taken; one source (or a * in a file's name) is what a split takes: join them"
            )
        source = rows_source(str(first.get("data_files") or first.get("path")), str(first.get("split", "train")))
        draft.put(theirs, f"dataset/{ours}/source", source, rows_note(source))
        if ours == "train":
            _format(draft, first)
    share = draft.get("val_set_size")
    if share is not None and not draft.get("test_datasets") and 0 < float(share) < 1:
        draft.put("val_set_size", "dataset/validation/fraction", float(share))
    elif share:
        draft.leave("val_set_size", "a number of rows, or none: dataset.validation takes a fraction, left out a tenth")
    draft.join("dataset.validation", "val_set_size")


def _format(draft: Draft, rows: dict[str, Any]) -> None:
    kind = str(rows.get("type", "")).partition(".")[0]
    if found := _FORMATS.get(kind):
        draft.put("", "dataset/format", found, f"datasets[0].type {rows['type']}")
    messages = rows.get("field_messages")
    if messages and messages not in ("messages", "conversations"):
        draft.put("", "dataset/columns/messages", messages, "datasets[0].field_messages")


def _adapter(draft: Draft) -> None:
    four = adapters.quantized(draft, "load_in_4bit", "load_in_8bit")
    wanted = draft.get("adapter")
    kind = "none" if wanted is None else "qlora" if wanted == "qlora" or four else "lora"
    if draft.get("peft_use_dora") and kind == "lora":
        kind = "dora"
    draft.join("training.adapter.type", "peft_use_dora")
    targets = "lora_target_modules"
    if draft.get("lora_target_linear"):
        draft.leave(targets, "lora_target_linear is true, which is all of them")
    elif (named := draft.get(targets)) is not None and kind != "none":
        draft.put(targets, "training/adapter/targetModules", modules(named))
    draft.join("training.adapter.targetModules", "lora_target_linear", targets)
    adapters.put(draft, kind, _ADAPTER, "adapter")


def _length(draft: Draft) -> None:
    steps = draft.get("max_steps")
    if steps:
        draft.put("max_steps", "training/maxSteps", int(steps))
        draft.leave("num_epochs", "max_steps is given, and takes its place")
    elif (epochs := draft.get("num_epochs")) is not None:
        draft.put("num_epochs", "training/epochs", number(epochs))
    draft.join("training.epochs", "max_steps", "num_epochs")
