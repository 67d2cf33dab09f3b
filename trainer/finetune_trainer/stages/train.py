"""train: rows and a base model become an adapter, or a whole model.

Called by the program's `train` command, in one process or, for several devices, in each of torchrun's. Everything it
reads lies in the workspace: no network, no credential. Killed at any moment, the next run goes on from the last
checkpoint and ends with the same weights.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from transformers import AutoConfig, TrainingArguments, set_seed

from finetune_trainer.contract.config import RunConfig, Workspace
from finetune_trainer.contract.outcome import StageError
from finetune_trainer.contract.report import Plan, PrepareResult, TrainResult, Usage
from finetune_trainer.server import Reporter
from finetune_trainer.training import failures, fitting, flat, machine, model, rows, schedule
from finetune_trainer.training.attempts import Attempt
from finetune_trainer.training.checkpoints import Checkpoints, elapsed
from finetune_trainer.training.fitting import Fitting
from finetune_trainer.training.flat_trainer import FlatTrainer
from finetune_trainer.training.follow import Follow, StopRequest, diverged, interrupted, stop_request
from finetune_trainer.training.machine import Machine
from finetune_trainer.training.publish import metrics, publish
from finetune_trainer.training.rows import Splits


def train(config: RunConfig, workspace: Workspace, reporter: Reporter) -> TrainResult:
    """Train what `config` asks for, as prepare planned it, and publish the artifact.

    Raises StageError; SIGTERM and SIGINT make it INTERRUPTED, with a checkpoint of the step that was under way.
    """
    prepared = PrepareResult.model_validate_json(workspace.prepared.read_text())
    found = machine.look(workspace.precision)
    splits = rows.load(workspace)
    fitted = Fitting(config, workspace, fitting.training(config, workspace, prepared.plan, splits, found))
    attempt = fitted.begin()
    reporter.update(notice=attempt.notice)
    with stop_request() as stop, _explained(workspace):
        with fitted.told(attempt):
            trainer, follow = _build(config, workspace, prepared, splits, attempt, found, reporter, stop)
            _run(trainer, follow, config, workspace)
        if trainer.is_world_process_zero():
            _publish(trainer, follow, config, workspace, prepared, found, attempt.notice)
        trainer.accelerator.wait_for_everyone()
    return TrainResult.model_validate_json(workspace.trained.read_text())


def _build(
    config: RunConfig,
    workspace: Workspace,
    prepared: PrepareResult,
    splits: Splits,
    attempt: Attempt,
    found: Machine,
    reporter: Reporter,
    stop: StopRequest,
) -> tuple[FlatTrainer, Follow]:
    """Load everything into a trainer that is ready to run."""
    plan, checkpoints = prepared.plan, Checkpoints(workspace.checkpoints)
    reporter.update(activity=f"loading {config.model.source.uri}", total_steps=plan.total_steps)
    settings = _settings(config, plan, found, checkpoints, attempt.recompute)
    with settings.main_process_first():
        if settings.process_index == 0:
            checkpoints.clean()
    lengths = rows.lengths(splits.train)
    order = schedule.order(len(lengths), plan.batch_size * plan.total_steps, config.training.seed)
    dtype = model.weights_dtype(config.training, found.bf16)
    base, tokenizer = model.load(workspace.base_model(config), config.model, dtype, config.training.adapter.type)
    tokens_per_pass = attempt.tokens if flat.attends_to_each_row(base) else None
    stop.check()
    set_seed(config.training.seed)
    validating = schedule.validate_every(plan.total_steps, plan.batch_size, prepared.dataset.rows.validation)
    follow = Follow(
        reporter,
        checkpoints,
        stop,
        plan.learning_rate,
        validating if splits.validation is not None else None,
        elapsed(checkpoints.latest()),
    )
    trainer = FlatTrainer(
        tokens_per_pass,
        model=model.with_adapter(base, config.training),
        args=settings,
        train_dataset=splits.train.select(order),
        eval_dataset=splits.validation,
        processing_class=tokenizer,
        callbacks=[follow],
    )
    follow.steps_per_epoch = len(lengths) / plan.batch_size
    return trainer, follow


def _settings(
    config: RunConfig, plan: Plan, found: Machine, checkpoints: Checkpoints, recompute: bool
) -> TrainingArguments:
    """The plan in the library's words. Saving and validating are decided by `Follow`, after each step."""
    return TrainingArguments(
        output_dir=str(checkpoints.staging),
        max_steps=plan.total_steps,
        # All rows of a step at once: `FlatTrainer` makes passes of them.
        per_device_train_batch_size=schedule.share(plan.batch_size, found.processes),
        per_device_eval_batch_size=plan.batch_size,
        remove_unused_columns=False,
        learning_rate=plan.learning_rate,
        seed=config.training.seed,
        train_sampling_strategy="sequential",
        bf16=found.bf16,
        use_cpu=found.accelerators == 0,
        gradient_checkpointing=recompute,
        # The other kind needs inputs with gradients, which frozen embeddings don't give.
        gradient_checkpointing_kwargs={"use_reentrant": False},
        dataloader_pin_memory=found.accelerators > 0,
        ddp_find_unused_parameters=False,
        logging_steps=schedule.log_every(plan.total_steps),
        logging_first_step=True,
        # A loss that is no number has to be seen, not averaged away.
        logging_nan_inf_filter=False,
        include_num_input_tokens_seen="all",
        eval_strategy="no",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )


def _run(trainer: FlatTrainer, follow: Follow, config: RunConfig, workspace: Workspace) -> None:
    """Train to the last step, from the last checkpoint when there is one."""
    follow.stop.check()
    checkpoint = follow.checkpoints.latest()
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    if trainer.state.global_step < trainer.state.max_steps:
        # Whichever process was asked: what ends early is no model yet.
        raise interrupted()
    if not all(bool(weights.isfinite().all()) for weights in trainer.model.parameters() if weights.requires_grad):
        raise diverged(trainer.state.global_step, float("nan"), follow.learning_rate)


def _publish(
    trainer: FlatTrainer,
    follow: Follow,
    config: RunConfig,
    workspace: Workspace,
    prepared: PrepareResult,
    found: Machine,
    notice: str,
) -> None:
    """Publish, then give back the room that checkpoints took."""
    follow.reporter.update(activity="writing the artifact")
    base = workspace.base_model(config)
    stored = AutoConfig.from_pretrained(base, local_files_only=True, trust_remote_code=config.model.trust_remote_code)
    usage = Usage(
        trained_tokens=trainer.state.num_input_tokens_seen,
        seconds=follow.seconds,
        accelerator_seconds=follow.seconds * found.accelerators,
    )
    publish(
        trainer.accelerator.unwrap_model(trainer.model),
        trainer.processing_class,
        config,
        workspace,
        prepared,
        stored.dtype or torch.float32,
        usage,
        metrics(trainer.state.log_history, follow.steps_per_epoch),
        notice,
    )
    shutil.rmtree(workspace.checkpoints)


@contextmanager
def _explained(workspace: Workspace) -> Iterator[None]:
    """Turn the errors of the libraries' writers that a user can mend into StageErrors."""
    try:
        yield
    except StageError:
        raise
    except Exception as error:
        # Libraries' writers have no kind of error in common: that of tokenizers raises a bare one.
        if not failures.is_full(error, workspace.root):
            raise
        raise failures.workspace_full(workspace.root, shutil.disk_usage(workspace.root).total) from error
