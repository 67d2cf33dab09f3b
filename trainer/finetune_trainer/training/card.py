"""The model card: what was trained on what, how it is loaded and how it is served, in Hugging Face's form.

Written by `artifact` before anything was measured; `finetune report --card` adds what the evaluation says.
"""

from huggingface_hub import ModelCardData

from finetune_trainer.contract.config import (
    ARTIFACT,
    BOM,
    PROVENANCE,
    RUN_CONFIG,
    AdapterType,
    Origin,
    RunConfig,
)
from finetune_trainer.contract.published import MERGED
from finetune_trainer.contract.results import ModelInfo

HUB, DATASETS = "hf://", "hf://datasets/"
# Where a base model lies that was made by `inherit`, as the artifact sees it.
BESIDE = "../model"


def card(config: RunConfig, base_model: ModelInfo) -> str:
    """The model card. `base_model`: as prepare resolved it."""
    adapter, base, origin = config.training.adapter, config.model.name, config.model.origin
    whole, writes = adapter.type == AdapterType.NONE, config.training.method.writes
    merged = config.training.merged
    front = ModelCardData(
        model_name=config.name,
        base_model=base if config.model.source.uri.startswith(HUB) else None,
        datasets=_datasets(config) or None,
        library_name="transformers" if whole else "peft",
        pipeline_tag="text-generation" if writes else "text-classification",
        tags=["finetune-operator", config.training.method.value, adapter.type.value],
    )
    commit = f" at commit {base_model.commit}" if base_model.commit else ""
    saved = f" and {', '.join(adapter.modules_to_save)} trained as a whole" if adapter.modules_to_save else ""
    what = {
        AdapterType.LORA: f"a LoRA adapter of rank {adapter.rank}{saved} for",
        AdapterType.QLORA: f"a LoRA adapter of rank {adapter.rank}, trained beside weights in NF4 (QLoRA), for",
        AdapterType.DORA: f"a DoRA adapter of rank {adapter.rank}{saved} for",
        AdapterType.NONE: "every weight fine-tuned of",
    }[adapter.type]
    alone = f"{MERGED if merged else '.'} --served-model-name {config.name}" + ("" if writes else " --runner pooling")
    beside = f"{BESIDE if origin else base} --enable-lora --max-lora-rank {adapter.rank} --lora-modules {config.name}=."
    serve = beside if config.training.beside_base else alone
    kind = "CausalLM" if writes else "SequenceClassification"
    return f"""---
{front.to_yaml()}
---

# {config.name}

This is {what} {base}{commit}, trained on {config.dataset.train.uri}.
{_origin(origin)}{_license(base_model.license)}\
`{RUN_CONFIG}` says how, `metrics.jsonl` how it went, `{ARTIFACT}` what it took, `{PROVENANCE}` and `{BOM}` \
what it was made of; the digest there covers all files but these three.

Load it:

```python
{_loaded(kind, MERGED if merged and not writes else ".", whole or not writes, origin is not None)}
tokenizer = AutoTokenizer.from_pretrained(".")
```

Serve it:

```
vllm serve {serve}
```
"""


def _license(found: str | None) -> str:
    """In words alone: as metadata it would be the license of what was trained, which is for its owner to say."""
    return f"The license of its base model is {found}.\n" if found else ""


def _datasets(config: RunConfig) -> list[str]:
    """Those of the hub, by their ids there."""
    found = config.dataset
    splits = [split.source for split in (found.validation, found.test) if split and split.source]
    paths = [source.uri.removeprefix(DATASETS) for source in (found.train, *splits) if source.uri.startswith(DATASETS)]
    return sorted({"/".join(path.split("/")[:2]).partition("@")[0] for path in paths})


def _loaded(kind: str, place: str, plain: bool, beside: bool) -> str:
    """The lines that load the model. `plain`: it is a whole one; `beside`: an adapter's base model lies beside it."""
    # A reward model's adapter fits a base model with a head alone, which is in the merged one.
    auto, tokenizer = f"AutoModelFor{kind}", "from transformers import AutoTokenizer"
    if plain:
        return f'from transformers import {auto}, AutoTokenizer\n\nmodel = {auto}.from_pretrained("{place}")'
    if beside:
        base = f'{auto}.from_pretrained("{BESIDE}")'
        libraries = f"from peft import PeftModel\nfrom transformers import {auto}, AutoTokenizer"
        return f'{libraries}\n\nmodel = PeftModel.from_pretrained({base}, ".")'
    auto = f"AutoPeftModelFor{kind}"
    return f'from peft import {auto}\n{tokenizer}\n\nmodel = {auto}.from_pretrained(".")'


def _origin(origin: Origin | None) -> str:
    """Where a base model is that no hub has, as a line of the card."""
    if origin is None:
        return ""
    return (
        f"Its base model is the artifact of a FineTuneJob (from {', from '.join(origin.lineage)}), merged. It lies on "
        f"the volume beside this directory: `{BESIDE}`.\n"
    )
