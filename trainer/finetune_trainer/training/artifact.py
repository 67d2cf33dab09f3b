"""The artifact: everything needed to use what was trained, and to know what it was made of; complete or absent.

Called by `train` at its end. The files are written to a staging directory and get their place in one rename;
`artifact.json`, written last, carries the digest. Weights of other steps that are kept get such directories, too.
"""

import json
import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import GENERATION_CONFIG_NAME

from finetune_trainer.contract.config import (
    ARTIFACT,
    BOM,
    METRICS_FILE,
    PATHS,
    PROVENANCE,
    RUN_CONFIG,
    Contract,
    RunConfig,
    Workspace,
)
from finetune_trainer.contract.published import MERGED
from finetune_trainer.contract.results import ArtifactInfo, Checkpoint, PrepareResult, Tracked, TrainResult, Usage
from finetune_trainer.data.digests import digest, files
from finetune_trainer.data.disk import install
from finetune_trainer.training import bom, card, provenance, weights
from finetune_trainer.training.candidates import VALIDATION, Candidate
from finetune_trainer.training.machine import Machine

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


@dataclass(frozen=True)
class Publication:
    """What is published beside the weights, and how those are written: by `write`, where there are no candidates.

    `machine` is what it was trained on. `dtype` is the one that the base model's weights were stored in; whole models
    are stored likewise. `rows` are those of metrics.jsonl (`metrics`), `steps` those that were taken. `notice`: what
    went otherwise than planned; `stopped`: a trial ended early; `spent`: that the budget was.
    """

    model: PreTrainedModel | PeftModel
    tokenizer: PreTrainedTokenizerBase
    config: RunConfig
    workspace: Workspace
    prepared: PrepareResult
    machine: Machine
    dtype: torch.dtype
    usage: Usage
    rows: list[dict[str, float]]
    write: weights.Write
    steps: int
    tracked: Tracked | None = None
    notice: str = ""
    stopped: bool = False
    spent: str = ""

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
            steps=self.steps,
            stopped=self.stopped,
            loss=_last(self.rows, "loss"),
            validation_loss=_last(self.rows, "validationLoss"),
            validation_reward_accuracy=_validated(self.rows, best, "validationRewardAccuracy"),
            checkpoints=tuple(kept),
            tracked=self.tracked,
            notice=self.notice,
            spent=self.spent,
        )
        self._install(staging, self.workspace.artifact, found, result)
        return result

    def _keep(self, candidate: Candidate) -> Checkpoint:
        """Write one of those that the artifact is not made of, all that serving it takes included."""
        staging, found = self._staged(candidate)
        self.workspace.kept.mkdir(exist_ok=True)
        kept = _checkpoint(candidate, found)
        self._install(staging, self.workspace.checkpoint(candidate.step), found, kept)
        return kept

    def _install(self, staging: Path, final: Path, found: ArtifactInfo, mark: Contract) -> None:
        """Say where a staged directory comes from, give it its mark and its place."""
        provenance.write(staging, found.digest, self.config, self.prepared, self.machine, mark)
        bom.write(
            staging, found.digest, self.config, self.prepared, {name: _last(self.rows, name) for name in bom.REPORTED}
        )
        _install(staging, final, mark)

    def _staged(self, candidate: Candidate | None) -> tuple[Path, ArtifactInfo]:
        """A directory with everything but its mark, its digest and its size."""
        config, staging = self.config, self.workspace.artifact.with_name("artifact.staging")
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir()
        if candidate is None:
            self.write(staging)
        else:
            shutil.copytree(candidate.path, staging, dirs_exist_ok=True, ignore=shutil.ignore_patterns(VALIDATION))
        if isinstance(self.model, PeftModel) and config.training.merged:
            weights.save_merged(self.model, staging, staging / MERGED, self.dtype)
        _keep_defaults(self.workspace.base_model(config), staging)
        for directory in (staging, staging / MERGED):
            if directory.exists():
                self.tokenizer.save_pretrained(directory)
        (staging / METRICS_FILE).write_text("".join(f"{json.dumps(row)}\n" for row in self.rows))
        (staging / RUN_CONFIG).write_text(config.model_dump_json(by_alias=True, exclude=PATHS, indent=2) + "\n")
        (staging / "README.md").write_text(card.card(config, self.prepared.model))
        size = sum(path.stat().st_size for path in files(staging))
        return staging, ArtifactInfo(digest=digest(staging), bytes=size)


def _checkpoint(candidate: Candidate, found: ArtifactInfo) -> Checkpoint:
    loss = candidate.loss if math.isfinite(candidate.loss) else None
    return Checkpoint(step=candidate.step, validation_loss=loss, digest=found.digest, bytes=found.bytes)


def _install(staging: Path, final: Path, mark: Contract) -> None:
    """Give a staged directory its mark and its place."""
    for path in (*files(staging), staging / PROVENANCE, staging / BOM):
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


def _validated(rows: list[dict[str, float]], best: Candidate | None, name: str) -> float | None:
    """What was measured on the validation rows at the step that the artifact is of."""
    return next((row[name] for row in rows if best and row["step"] == best.step and name in row), None)


def _last(rows: list[dict[str, float]], name: str) -> float | None:
    return next((row[name] for row in reversed(rows) if name in row), None)
