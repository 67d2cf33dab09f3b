"""TRL's command line (`trl sft --model_name_or_path …`) or the YAML that it takes with --config."""

import shlex
from typing import Any

from finetune_cli.importing import adapters, arguments
from finetune_cli.importing.draft import (
    Draft,
    Field,
    model_source,
    modules,
    number,
    orpo,
    rows_note,
    rows_source,
)

NAME = "TRL"
_OWN_METHODS = {"orpo": "dpo", "sft": "sft", "dpo": "dpo", "kto": "kto", "reward": "reward"}
_ADAPTER = {
    "saved": "lora_modules_to_save",
    "rank": "lora_r",
    "alpha": "lora_alpha",
    "dropout": "lora_dropout",
    "targets": "lora_target_modules",
    "rslora": "use_rslora",
}
_FIELDS = {
    "model_revision": Field("model/revision", str),
    "trust_remote_code": Field("model/trustRemoteCode", lambda value: bool(value) or None, "is off by default"),
    "max_length": Field("training/maxLength", int),
    "max_seq_length": Field("training/maxLength", int),
}
_METHOD_FIELDS = {
    "dpo": {
        "beta": Field("training/dpo/beta", number),
        "loss_type": Field("training/dpo/lossType", modules),
        "loss_weights": Field("training/dpo/lossWeights", lambda value: [number(each) for each in modules(value)]),
        "label_smoothing": Field("training/dpo/labelSmoothing", number),
    },
    "kto": {
        "beta": Field("training/kto/beta", number),
        "desirable_weight": Field("training/kto/desirableWeight", number),
        "undesirable_weight": Field("training/kto/undesirableWeight", number),
    },
    "reward": {"center_rewards_coefficient": Field("training/reward/centerRewardsCoefficient", number)},
}
_LEFT = {
    "assistant_only_loss": "every message of the assistant is learned, and nothing else; weight 0 leaves one out",
    "completion_only_loss": "of prompt and completion only the completion is learned",
    "dataset_text_field": "a column with another name goes into dataset.columns: {text: NAME}",
    "dataset_kwargs": "rows are recognised by their columns: see docs/data.md",
    "dataset_config": "see that dataset.train.source names the files of this configuration",
    "dataset_streaming": "rows go to disk batch by batch, however many there are",
    "eos_token": "the model's own end of a turn is learned, as its chat template writes it",
    "chat_template_path": "the model's own chat template is used, which vLLM serves it with",
    "ref_model_name_or_path": "the reference is the base model, whose answers are computed once",
    "precompute_ref_log_probs": "the reference's answers are always computed once",
    "lora_task_type": "follows from training.method",
    "bnb_4bit_quant_type": "qlora is NF4 with double quantisation",
    "use_bnb_nested_quant": "qlora is NF4 with double quantisation",
}


def parse(line: str) -> dict[str, Any]:
    """A command line as settings: `trl sft --a 1 --b` or `python sft.py --a 1`."""
    words = shlex.split(line.replace("\\\n", " "))
    found: dict[str, Any] = {}
    program = [word.rpartition("/")[2].removesuffix(".py") for word in words if not word.startswith("-")]
    if method := next((word for word in program if word in _OWN_METHODS), None):
        found["method"] = method
    at = 0
    while at < len(words):
        if not words[at].startswith("--"):
            at += 1
            continue
        key, equals, value = words[at].removeprefix("--").partition("=")
        values = [value] if equals else []
        at += 1
        while not equals and at < len(words) and not words[at].startswith("--"):
            values.append(words[at])
            at += 1
        found[key.replace("-", "_")] = _value(values)
    return found


def _value(words: list[str]) -> Any:
    """A flag that stands alone is true."""
    found = [{"true": True, "false": False}.get(word.lower(), word) for word in words]
    return True if not found else found[0] if len(found) == 1 else found


def read(draft: Draft) -> None:
    """Make the FineTuneJob."""
    method = draft.get("method") or _method(draft)
    draft.put("method", "training/method", _OWN_METHODS[method])
    if method == "orpo":
        orpo(draft)
    if name := draft.get("model_name_or_path"):
        draft.put("model_name_or_path", "model/source", model_source(str(name)))
    _rows(draft)
    _adapter(draft)
    draft.take(_FIELDS | _METHOD_FIELDS.get(_OWN_METHODS[method], {}))
    arguments.take(draft)
    draft.leave_all(_LEFT)
    out = str(draft.get("output_dir", "")).rstrip("/")
    draft.name = draft.name or out.rpartition("/")[2]


def _method(draft: Draft) -> str:
    """A YAML file does not say which script it is for; settings of one method alone do."""
    if draft.get("desirable_weight") is not None:
        return "kto"
    if draft.get("center_rewards_coefficient") is not None:
        return "reward"
    return "dpo" if draft.get("beta") is not None or draft.get("loss_type") is not None else "sft"


def _rows(draft: Draft) -> None:
    name = draft.get("dataset_name")
    mixed = draft.get("datasets")
    if name is None and isinstance(mixed, list) and len(mixed) == 1:
        name = mixed[0].get("path")
        draft.join("dataset.train.source", "datasets")
    elif mixed is not None:
        draft.leave("datasets", "one source (or a * in a file's name) is what dataset.train takes: join them into one")
    if name is None:
        return
    for theirs, ours, default in (("dataset_train_split", "train", "train"), ("dataset_test_split", "test", "")):
        split = str(draft.get(theirs, default))
        if split:
            source = rows_source(str(name), split)
            key = "dataset_name" if ours == "train" else theirs
            draft.put(key, f"dataset/{ours}/source", source, rows_note(source))
        draft.join(f"dataset.{ours}.source", theirs)


def _adapter(draft: Draft) -> None:
    peft, dora = bool(draft.get("use_peft")), bool(draft.get("use_dora"))
    four = adapters.quantized(draft, "load_in_4bit", "load_in_8bit")
    kind = "none" if not peft else "dora" if dora else "qlora" if four else "lora"
    draft.join("training.adapter.type", "use_dora")
    adapters.put(draft, kind, _ADAPTER, "use_peft")
