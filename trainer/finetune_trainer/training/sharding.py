"""Weights, gradients and optimizer states divided among the devices of a training (FSDP2), for full fine-tuning.

transformers loads the shares (`loading`, called by `build`): accelerate, which divides a model that is already loaded,
leaves it whole on CPUs, without a word. torch's distributed checkpoints keep them, written by all devices and read by
any number of them: transformers' trainer can't do that for a model that is divided when it is loaded.
"""

from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as distributed
from safetensors.torch import load_file
from torch.distributed import is_initialized
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.fsdp import FSDPModule
from transformers import PreTrainedModel, Trainer
from transformers.distributed import DistributedConfig
from transformers.trainer import OPTIMIZER_NAME, SCHEDULER_NAME

from finetune_trainer.contract.outcome import Outcome, StageError

# The directory of a checkpoint that has the shares.
SHARES = "shares"
MODEL, OPTIMIZER = "model", "optimizer"
WHOLE = StateDictOptions(full_state_dict=True, strict=False)


def loading(devices: int, bf16: bool) -> dict[str, Any]:
    """What `from_pretrained` is told, so that each of the devices loads its share."""
    return {"distributed_config": DistributedConfig(fsdp_size=devices, fsdp_mixed_precision=bf16)}


def forget(model: PreTrainedModel) -> None:
    """Take the devices out of a model's configuration: they are none of the artifact's business.

    Writing the model would have every process take part in it otherwise.
    """
    del model.config.distributed_config


def is_sharded(model: torch.nn.Module) -> bool:
    """Whether this process holds its share of a model alone."""
    return isinstance(model, FSDPModule)


def let_go(model: torch.nn.Module) -> None:
    """Have a process hold its share alone: whoever asked a model without learning from it left some weights whole."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


class ShardingTrainer(Trainer):  # type: ignore[misc]  # the library comes without types
    """transformers' trainer, whose checkpoints may have been written by another number of devices.

    What overrides the library's own methods is private there, since it knows no such checkpoints.
    """

    def create_optimizer(self, model: torch.nn.Module | None = None) -> torch.optim.Optimizer:
        """For the shares: the base model may have been asked something before."""
        let_go(self.model)
        return super().create_optimizer(model)

    def save_model(self, output_dir: str | None = None, **options: Any) -> None:
        """Whole weights are for the artifact; a checkpoint has them in shares, beside the optimizer's."""
        if not is_sharded(self.model):
            super().save_model(output_dir, **options)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if not is_sharded(self.model):
            super()._save_optimizer_and_scheduler(output_dir)
            return
        states = {MODEL: get_model_state_dict(self.model), OPTIMIZER: self._optimizer_state()}
        try:
            distributed.save(states, checkpoint_id=Path(output_dir) / SHARES)
        except CheckpointException as error:
            # It says which processes failed, and is none of Python's exceptions: what they failed with is.
            raise next(iter(error.failures.values()))[0] from error
        if self.args.should_save:
            torch.save(self.lr_scheduler.state_dict(), Path(output_dir) / SCHEDULER_NAME)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: torch.nn.Module | None = None) -> None:
        checkpoint = Path(resume_from_checkpoint)
        let_go(self.model)
        if (checkpoint / SHARES).exists():
            states = {MODEL: get_model_state_dict(self.model)}
            _read(states, checkpoint)
            set_model_state_dict(self.model, states[MODEL])
        elif is_sharded(self.model):
            for file in sorted(checkpoint.glob("*.safetensors")):
                _divide(self.model, load_file(file), checkpoint)
        else:
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        shares = checkpoint is not None and (Path(checkpoint) / SHARES).exists()
        if checkpoint is None or not (shares or is_sharded(self.model)):
            super()._load_optimizer_and_scheduler(checkpoint)
            return
        if shares:
            states = {OPTIMIZER: self._optimizer_state()}
            _read(states, Path(checkpoint))
            set_optimizer_state_dict(self.model, self.optimizer.optimizer, states[OPTIMIZER])
        else:
            let_go(self.model)
            whole = torch.load(Path(checkpoint) / OPTIMIZER_NAME, map_location="cpu", mmap=True, weights_only=True)
            set_optimizer_state_dict(self.model, self.optimizer.optimizer, self._by_name(whole), options=WHOLE)
        self.lr_scheduler.load_state_dict(torch.load(Path(checkpoint) / SCHEDULER_NAME, weights_only=True))

    def _optimizer_state(self) -> dict[str, Any]:
        let_go(self.model)
        found: dict[str, Any] = get_optimizer_state_dict(self.model, self.optimizer.optimizer)
        return found

    def _by_name(self, state: dict[str, Any]) -> dict[str, Any]:
        """An optimizer's own state, where weights have numbers, with their names in place of these."""
        names = {id(weights): name for name, weights in self.model.named_parameters()}
        groups = self.optimizer.param_groups
        ordered = [names[id(weights)] for group in groups for weights in group["params"]]
        return {
            "state": {ordered[number]: kept for number, kept in state["state"].items()},
            "param_groups": [
                group | {"params": [ordered[number] for number in group["params"]]} for group in state["param_groups"]
            ],
        }


def _divide(model: torch.nn.Module, whole: dict[str, torch.Tensor], checkpoint: Path) -> None:
    """Keep this process's share of weights. Raises StageError (CONFIG_INVALID) for those that the model has not.

    transformers writes the experts of some mixtures under other names than it trains them.
    """
    unknown = set_model_state_dict(model, whole, options=WHOLE).unexpected_keys
    if unknown:
        raise StageError(
            Outcome.CONFIG_INVALID,
            f"The weights of {checkpoint.name} can't be divided among devices: it calls {len(unknown)} of them "
            f"otherwise than the model does ({unknown[0]}). Set training.sharding to none to go on from it.",
        )


def _read(states: dict[str, Any], checkpoint: Path) -> None:
    """Fill what this process holds from what all of them wrote."""
    distributed.load(states, checkpoint_id=checkpoint / SHARES, no_dist=not is_initialized())
