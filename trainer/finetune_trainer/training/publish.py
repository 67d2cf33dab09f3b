"""The artifact: everything needed to use what was trained, and to know what it was made of; complete or absent.

Called by `train` at its end. The files are written to a staging directory and get their place in one rename;
`artifact.json`, written last, carries the digest. Weights of other steps that are kept get such directories, too.

Digest: `sha256:` and the SHA-256 of what coreutils print for the files beside artifact.json:

    find * -type f ! -path artifact.json | LC_ALL=C sort | xargs sha256sum | sha256sum
"""

import hashlib
import json
import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import ModelCardData
from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import GENERATION_CONFIG_NAME

from finetune_trainer.contract.config import ARTIFACT, RUN_CONFIG, AdapterType, Contract, RunConfig, Workspace
from finetune_trainer.contract.report import ArtifactReport, Checkpoint, PrepareResult, Tracked, TrainResult, Usage
from finetune_trainer.training import weights
from finetune_trainer.training.candidates import VALIDATION, Candidate
from finetune_trainer.training.checkpoints import install

MERGED = "merged"
HUB = "hf://"
# Names in the library's log and in metrics.jsonl; loss in nats per token, tokens since the start of training.
METRICS = {
    "loss": "loss",
    "eval_loss": "validationLoss",
    "learning_rate": "learningRate",
    "grad_norm": "gradNorm",
    "mean_token_accuracy": "tokenAccuracy",
    "rewards/accuracies": "rewardAccuracy",
    "rewards/margins": "rewardMargin",
    "eval_rewards/accuracies": "validationRewardAccuracy",
    "eval_rewards/margins": "validationRewardMargin",
    "num_input_tokens_seen": "tokens",
}
# Where somebody mounted a file is nobody's business outside.
PATHS: dict[str, Any] = {
    "model": {"source": {"path"}},
    "dataset": {"train": {"path"}, "validation": {"source": {"path"}}, "test": {"source": {"path"}}},
}


@dataclass(frozen=True)
class Publication:
    """What is published beside the weights, and how those are written.

    `dtype` is the one that the base model's weights were stored in; whole models are stored likewise. `rows` are those
    of metrics.jsonl (`metrics`). `notice`: what went otherwise than planned.
    """

    model: PreTrainedModel | PeftModel
    tokenizer: PreTrainedTokenizerBase
    config: RunConfig
    workspace: Workspace
    prepared: PrepareResult
    dtype: torch.dtype
    usage: Usage
    rows: list[dict[str, float]]
    tracked: Tracked | None = None
    notice: str = ""

    def publish(self, candidates: Sequence[Candidate]) -> TrainResult:
        """Write the artifact and return what artifact.json says.

        It is made of the first of the candidates, and the others are kept beside it; without any, of the model as it
        is.
        """
        shutil.rmtree(self.workspace.kept, ignore_errors=True)
        others = [self._keep(candidate) for candidate in candidates[1:]]
        best = candidates[0] if candidates else None
        staging, found = self._staged(best)
        kept = [_checkpoint(best, found), *others] if best else []
        result = TrainResult(
            artifact=found,
            usage=self.usage,
            steps=self.prepared.plan.total_steps,
            loss=_last(self.rows, "loss"),
            validation_loss=_last(self.rows, "validationLoss"),
            checkpoints=tuple(kept),
            tracked=self.tracked,
            notice=self.notice,
        )
        _install(staging, self.workspace.artifact, result)
        return result

    def _keep(self, candidate: Candidate) -> Checkpoint:
        """Write one of those that the artifact is not made of, all that serving it takes included."""
        staging, found = self._staged(candidate)
        self.workspace.kept.mkdir(exist_ok=True)
        kept = _checkpoint(candidate, found)
        _install(staging, self.workspace.checkpoint(candidate.step), kept)
        return kept

    def _staged(self, candidate: Candidate | None) -> tuple[Path, ArtifactReport]:
        """A directory with everything but its mark, its digest and its size."""
        config, staging = self.config, self.workspace.artifact.with_name("artifact.staging")
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir()
        commit = self.prepared.model.commit
        if candidate is None:
            weights.save(self.model, staging, config.model.name, commit, self.dtype)
        else:
            shutil.copytree(candidate.path, staging, dirs_exist_ok=True, ignore=shutil.ignore_patterns(VALIDATION))
        if isinstance(self.model, PeftModel) and config.training.adapter.type == AdapterType.DORA:
            # vLLM loads no DoRA adapters.
            weights.save_merged(self.model, staging, staging / MERGED, self.dtype)
        _keep_defaults(self.workspace.base_model(config), staging)
        for directory in (staging, staging / MERGED):
            if directory.exists():
                self.tokenizer.save_pretrained(directory)
        (staging / "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in self.rows))
        (staging / RUN_CONFIG).write_text(config.model_dump_json(by_alias=True, exclude=PATHS, indent=2) + "\n")
        (staging / "README.md").write_text(card(config, commit))
        size = sum(path.stat().st_size for path in files(staging))
        return staging, ArtifactReport(digest=digest(staging), bytes=size)


def _checkpoint(candidate: Candidate, found: ArtifactReport) -> Checkpoint:
    loss = candidate.loss if math.isfinite(candidate.loss) else None
    return Checkpoint(step=candidate.step, validation_loss=loss, digest=found.digest, bytes=found.bytes)


def _install(staging: Path, final: Path, mark: Contract) -> None:
    """Give a staged directory its mark and its place."""
    for path in files(staging):
        # The writer of safetensors makes its files private, but the engine that reads them is another user.
        path.chmod(0o644)
    (staging / ARTIFACT).write_text(mark.model_dump_json(by_alias=True, indent=2) + "\n")
    shutil.rmtree(final, ignore_errors=True)
    install(staging, final)


def _keep_defaults(base: Path, staging: Path) -> None:
    """A whole model generates by its base's defaults, word for word: the library would correct or refuse some."""
    for written in staging.rglob(GENERATION_CONFIG_NAME):
        if (base / GENERATION_CONFIG_NAME).exists():
            shutil.copyfile(base / GENERATION_CONFIG_NAME, written)


def files(artifact: Path) -> list[Path]:
    """The files that the digest covers, in its order."""
    found = (path for path in artifact.rglob("*") if path.is_file() and path != artifact / ARTIFACT)
    return sorted(found, key=lambda path: path.relative_to(artifact).as_posix().encode())


def digest(artifact: Path) -> str:
    """The digest of a directory (the formula stands at the head of this module)."""
    total = hashlib.sha256()
    for path in files(artifact):
        with path.open("rb") as content:
            one = hashlib.file_digest(content, "sha256").hexdigest()
        total.update(f"{one}  {path.relative_to(artifact).as_posix()}\n".encode())
    return f"sha256:{total.hexdigest()}"


def metrics(log: list[dict[str, float]], steps_per_epoch: float) -> list[dict[str, float]]:
    """Rows of metrics.jsonl from the library's history: one for each logged step, a validation in its step's row."""
    rows: dict[float, dict[str, float]] = {}
    for entry in log:
        found = {name: entry[key] for key, name in METRICS.items() if key in entry}
        if "loss" in found or "validationLoss" in found:
            rows.setdefault(entry["step"], {"step": entry["step"], "epoch": entry["step"] / steps_per_epoch}).update(
                found
            )
    return list(rows.values())


def card(config: RunConfig, commit: str | None) -> str:
    """The model card."""
    adapter, base = config.training.adapter, config.model.name
    whole = adapter.type == AdapterType.NONE
    front = ModelCardData(
        model_name=config.name,
        base_model=base if config.model.source.uri.startswith(HUB) else None,
        library_name="transformers" if whole else "peft",
        pipeline_tag="text-generation",
        tags=["finetune-operator", config.training.method.value, adapter.type.value],
    )
    what = {
        AdapterType.LORA: f"a LoRA adapter of rank {adapter.rank} for",
        AdapterType.QLORA: f"a LoRA adapter of rank {adapter.rank}, trained beside weights in NF4 (QLoRA), for",
        AdapterType.DORA: f"a DoRA adapter of rank {adapter.rank} for",
        AdapterType.NONE: "every weight fine-tuned of",
    }[adapter.type]
    beside = f"{base} --enable-lora --max-lora-rank {adapter.rank} --lora-modules {config.name}=."
    serve = {
        AdapterType.LORA: beside,
        AdapterType.QLORA: beside,
        AdapterType.DORA: f"{MERGED} --served-model-name {config.name}",
        AdapterType.NONE: f". --served-model-name {config.name}",
    }[adapter.type]
    load = "AutoModelForCausalLM" if whole else "AutoPeftModelForCausalLM"
    return f"""---
{front.to_yaml()}
---

# {config.name}

This is {what} {base}{f" at commit {commit}" if commit else ""}, trained on {config.dataset.train.uri}.
`{RUN_CONFIG}` says how, `metrics.jsonl` how it went, `{ARTIFACT}` what it took; its digest covers all other files.

Load it:

```python
from {"transformers" if whole else "peft"} import {load}
from transformers import AutoTokenizer

model = {load}.from_pretrained(".")
tokenizer = AutoTokenizer.from_pretrained(".")
```

Serve it:

```
vllm serve {serve}
```
"""


def _last(rows: list[dict[str, float]], name: str) -> float | None:
    return next((row[name] for row in reversed(rows) if name in row), None)
