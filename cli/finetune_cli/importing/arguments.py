"""transformers' TrainingArguments, which TRL, LLaMA-Factory and AutoTrain share: which have a field, and which none."""

from typing import Any

from finetune_cli.importing.draft import Draft, Field, batch, number, trackers

_CHOSEN = "is chosen here: see status.plan and docs/training.md"
_MEASURED = "precision is measured on the machine that trains, and the fastest that is exact enough is taken"
_MEMORY = "follows from the memory plan (docs/memory.md): activations are recomputed only where they have to be"
_SCHEDULE = "the schedule is one for all: 3 % of linear warm-up, then a cosine to zero"
_OPTIMIZER = "the optimizer is AdamW without weight decay, its gradients clipped at 1"
_FLAT = "rows are put one behind the other without padding, and no row sees another: nothing is packed or padded"
_CHECKPOINTS = "checkpoints are written by the clock, and a training that is killed goes on by itself"
_LOOKS = "validation is looked at up to four times, and what validated best is the artifact"
_PROGRESS = "progress is in status, in metrics.jsonl and at the pod's /metrics"
_PUBLISH = "publishing is output.destination, with credentials in a Secret"

FIELDS = {
    "learning_rate": Field("training/learningRate", number),
    "seed": Field("training/seed", int),
}

LEFT = {
    **dict.fromkeys(("bf16", "fp16", "tf32", "half_precision_backend", "torch_dtype", "dtype", "pure_bf16"), _MEASURED),
    **dict.fromkeys(("gradient_checkpointing", "gradient_checkpointing_kwargs", "auto_find_batch_size"), _MEMORY),
    **dict.fromkeys(("lr_scheduler_type", "lr_scheduler_kwargs", "warmup_ratio", "warmup_steps"), _SCHEDULE),
    **dict.fromkeys(
        ("optim", "weight_decay", "max_grad_norm", "adam_beta1", "adam_beta2", "adam_epsilon"),
        _OPTIMIZER,
    ),
    **dict.fromkeys(
        ("packing", "packing_strategy", "padding_free", "pad_to_multiple_of", "group_by_length", "eval_packing"), _FLAT
    ),
    **dict.fromkeys(("save_strategy", "save_steps", "resume_from_checkpoint", "overwrite_output_dir"), _CHECKPOINTS),
    **dict.fromkeys(
        ("eval_strategy", "evaluation_strategy", "eval_steps", "do_eval", "do_train", "load_best_model_at_end",
         "metric_for_best_model", "per_device_eval_batch_size", "prediction_loss_only", "early_stopping_patience"),
        _LOOKS,
    ),
    **dict.fromkeys(
        ("logging_steps", "logging_strategy", "logging_first_step", "logging_dir", "disable_tqdm", "plot_loss",
         "include_num_input_tokens_seen"),
        _PROGRESS,
    ),
    **dict.fromkeys(("push_to_hub", "hub_model_id", "hub_strategy", "hub_private_repo", "hub_token"), _PUBLISH),
    **dict.fromkeys(
        ("attn_implementation", "flash_attn", "use_flash_attention_2", "use_liger_kernel", "enable_liger_kernel"),
        "attention and kernels are chosen for the machine",
    ),
    **dict.fromkeys(
        ("deepspeed", "fsdp", "fsdp_config", "ddp_timeout", "ddp_find_unused_parameters", "distributed_backend"),
        "how devices share the work is training.nodes, training.resources and training.sharding",
    ),
    **dict.fromkeys(("dataset_num_proc", "preprocessing_num_workers", "dataloader_num_workers"), _CHOSEN),
    "output_dir": "the artifact lies on the revision's volume; output.destination publishes it",
    "run_name": "a run has the name of the FineTuneJob and its revision",
}  # fmt: skip


def take(draft: Draft, default_rows: int = 8) -> None:
    """Rows per step, passes, checkpoints and trackers, which depend on one another or on their value."""
    batch(draft, "per_device_train_batch_size", "gradient_accumulation_steps", default_rows)
    steps = draft.get("max_steps", -1)
    if int(steps) > 0:
        draft.put("max_steps", "training/maxSteps", int(steps))
        draft.leave("num_train_epochs", "max_steps is given, and takes its place")
    elif (epochs := draft.get("num_train_epochs")) is not None:
        draft.put("num_train_epochs", "training/epochs", number(epochs))
    draft.join("training.epochs", "max_steps")
    _kept(draft)
    trackers(draft, "report_to")
    draft.take(FIELDS)
    draft.leave_all(LEFT)


def _kept(draft: Draft) -> None:
    """How many of the best weights stay."""
    kept: Any = draft.get("save_total_limit")
    if kept is not None and 1 < int(kept) <= 10:
        draft.put(
            "save_total_limit", "training/keepCheckpoints", int(kept), "the best by validation loss, not the last"
        )
    draft.join("training.keepCheckpoints", "save_total_limit")
