"""What vLLM is told of a trained revision: by `hosting` in pods, by the local backend in a process, so that both serve
alike.
"""

from pathlib import Path

from finetune_trainer.contract.config import RunConfig, Workspace
from finetune_trainer.contract.published import MERGED
from finetune_trainer.contract.sweep import largest_rank

from finetune_operator.api.v1alpha1 import FineTuneJobSpec
from finetune_operator.finetunejob.desired.evaluation import served_merged
from finetune_operator.finetunejob.record import Record
from finetune_operator.serving.inside.finetune_answers import CLASSIFY, COMPLETIONS
from finetune_operator.serving.vllm import common, pooled, served


def is_merged(spec: FineTuneJobSpec, record: Record) -> bool:
    """Whether a revision's engine has what merge made of it."""
    return served_merged(spec) and record.merged is not None and record.merged.apart is None


def arguments(
    config: RunConfig,
    workspace: Workspace,
    context_length: int,
    base: bool = False,
    step: int | None = None,
    merged: bool = False,
) -> list[str]:
    """vLLM's arguments for a trained revision: the tuned model answers as `config.name`.

    Beside a LoRA adapter the base model answers too, as `config.base_name`. vLLM loads no adapters of DoRA, with whole
    modules or of reward models, so train leaves them merged into a full model, served like one that was trained in
    full. `base`: the base model alone. `step`: of the checkpoint that is served in place of the artifact. `merged`:
    what merge made of the artifact is.
    """
    tuned = workspace.artifact if step is None else workspace.checkpoint(step)
    if base:
        models = served(workspace.base_model(config), config.base_name)
    elif merged:
        models = served(workspace.merged, config.name)
    else:
        models = _models(config, workspace, tuned)
    return [*models, *common(context_length, config.model.trust_remote_code)]


def files(
    config: RunConfig, workspace: Workspace, base: bool = False, step: int | None = None, merged: bool = False
) -> list[Path]:
    """What of the workspace vLLM reads with such `arguments`, the model that was trained last."""
    tuned = workspace.artifact if step is None else workspace.checkpoint(step)
    model = [] if config.model.source.path else [workspace.model]
    if base:
        return model
    if merged:
        return [workspace.merged]
    return [*(model if config.training.beside_base else ()), tuned]


def asked(config: RunConfig, base: bool = False) -> str:
    """The path that its clients ask at, as `arguments` have it served."""
    return COMPLETIONS if base or config.training.method.writes else CLASSIFY


def _models(config: RunConfig, workspace: Workspace, tuned: Path) -> list[str]:
    training = config.training
    if not training.beside_base:
        whole = tuned / MERGED if training.merged else tuned
        return served(whole, config.name) if training.method.writes else pooled(whole, config.name)
    return [
        *served(workspace.base_model(config), config.base_name),
        "--enable-lora",
        *("--lora-modules", f"{config.name}={tuned}"),
        *("--max-lora-rank", str(largest_rank(training))),
    ]
