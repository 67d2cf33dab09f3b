"""A LLaMA-Factory training configuration (YAML)."""

from finetune_cli.importing import adapters, arguments
from finetune_cli.importing.draft import Draft, Field, model_source, number

NAME = "LLaMA-Factory"
_METHODS = {"sft": "sft", "pt": "sft", "dpo": "dpo", "kto": "kto", "rm": "reward"}
_ADAPTER = {
    "saved": "additional_target",
    "rank": "lora_rank",
    "alpha": "lora_alpha",
    "dropout": "lora_dropout",
    "targets": "lora_target",
    "rslora": "use_rslora",
    "loraplus": "loraplus_lr_ratio",
}
_FIELDS = {
    "model_revision": Field("model/revision", str),
    "trust_remote_code": Field("model/trustRemoteCode", lambda value: bool(value) or None, "is off by default"),
    "cutoff_len": Field("training/maxLength", int),
    "default_system": Field("dataset/systemPrompt", str),
}
# What their pref_loss is called here.
_LOSSES = {"sigmoid": ["sigmoid"], "hinge": ["hinge"], "ipo": ["ipo"], "orpo": ["sigmoid", "sft"]}
_EVALUATION = "the result is measured on held-out rows through the engine that serves it: see evaluation"
_LEFT = {
    "template": "the model's own chat template is used, which vLLM serves it with",
    "do_predict": _EVALUATION,
    "predict_with_generate": _EVALUATION,
    "max_samples": "all rows are taken: cut the file",
    "overwrite_cache": "what is prepared lies in the workspace",
    "neat_packing": arguments.LEFT["packing"],
    "adapter_name_or_path": "to go on from another training, see model.source ftj://",
    "train_on_prompt": "answers alone are learned",
    "mask_history": "weight 0 leaves an answer of a chat out of what is learned",
    "quantization_method": "qlora is bitsandbytes' NF4 with double quantisation",
    "export_dir": "the artifact lies on the revision's volume; output.destination publishes it",
}


def read(draft: Draft) -> None:
    """Make the FineTuneJob."""
    stage = str(draft.get("stage", "sft"))
    method = _METHODS.get(stage)
    if method:
        draft.put("stage", "training/method", method, "plain text, learned whole" if stage == "pt" else "")
    else:
        draft.leave("stage", "is no method here: sft, dpo, kto and reward are")
    if name := draft.get("model_name_or_path"):
        draft.put("model_name_or_path", "model/source", model_source(str(name)))
    _rows(draft)
    _preference(draft, method or "")
    _adapter(draft)
    draft.take(_FIELDS)
    arguments.take(draft)
    draft.leave_all(_LEFT)
    draft.name = draft.name or str(draft.get("output_dir", "")).rstrip("/").replace("/", "-").removeprefix("saves-")


def _rows(draft: Draft) -> None:
    """Their datasets are entries of dataset_info.json, whose files only that names."""
    if (names := draft.get("dataset")) is not None:
        first = str(names[0] if isinstance(names, list) else names).partition(",")[0].strip()
        directory = str(draft.get("dataset_dir", "data")).rstrip("/")
        note = "an entry of dataset_info.json: see there which file it is, and correct it"
        draft.put("dataset", "dataset/train/source", f"file://{directory}/{first}.json", note)
    draft.join("dataset.train.source", "dataset_dir")
    if (share := draft.get("val_size")) is not None and 0 < float(share) < 1:
        draft.put("val_size", "dataset/validation/fraction", float(share))
    elif share:
        draft.leave("val_size", "a number of rows: dataset.validation takes a fraction, left out a tenth")
    draft.leave("eval_dataset", "name its file in dataset.validation.source")


def _preference(draft: Draft, method: str) -> None:
    if method in ("dpo", "kto"):
        draft.take({"pref_beta": Field(f"training/{method}/beta", number)})
    loss = draft.get("pref_loss")
    if method == "dpo" and loss in _LOSSES:
        note = "ORPO is there as DPO with SFT mixed in" if loss == "orpo" else ""
        draft.put("pref_loss", "training/dpo/lossType", _LOSSES[str(loss)], note)
    elif loss is not None:
        draft.leave("pref_loss", f"training.dpo.lossType takes {', '.join(_LOSSES)}, and others of TRL's")


def _adapter(draft: Draft) -> None:
    kind = str(draft.get("finetuning_type", "lora"))
    bits = draft.get("quantization_bit")
    if kind == "freeze":
        draft.leave("finetuning_type", "freezing some layers is not there: choose an adapter, or none for all weights")
        kind = "lora"
    quantized = bits is not None and int(bits) == 4
    if bits is not None and not quantized:
        draft.leave("quantization_bit", "qlora holds the base model in four bits")
    dora = bool(draft.get("use_dora"))
    draft.join("training.adapter.type", "quantization_bit", "use_dora")
    lora = "qlora" if quantized else "dora" if dora else "lora"
    adapters.put(draft, "none" if kind == "full" else lora, _ADAPTER, "finetuning_type")
