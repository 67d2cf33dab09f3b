"""train: rows and a base model become an adapter, or a whole model.

Called by the program's `train` command, in one process or, for several devices, in each of torchrun's. Everything it
reads lies in the workspace: no network, no credential. Killed at any moment, the next run goes on from the last
checkpoint and ends with the same weights.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoConfig, PreTrainedModel, TrainingArguments, set_seed

from finetune_trainer.contract.config import AdapterType, RunConfig, TrackingConfig, Workspace
from finetune_trainer.contract.outcome import Outcome, StageError
from finetune_trainer.contract.report import Plan, PrepareResult, TrainResult, Usage
from finetune_trainer.server import Reporter
from finetune_trainer.training import (
    compiling,
    failures,
    flat,
    machine,
    methods,
    model,
    rows,
    schedule,
    trackers,
    weights,
)
from finetune_trainer.training.candidates import Candidates
from finetune_trainer.training.checkpoints import Checkpoints, elapsed
from finetune_trainer.training.flat_trainer import FlatTrainer
from finetune_trainer.training.follow import (
    Follow,
    StopRequest,
    Validation,
    diverged,
    interrupted,
    owes_validation,
    stop_request,
)
from finetune_trainer.training.given import Given
from finetune_trainer.training.machine import Machine
from finetune_trainer.training.publish import Publication, metrics
from finetune_trainer.training.track import Track


@dataclass(frozen=True)
class Beside:
    """What train is told that no weight depends on.

    `keep`: how many of the weights that did best on the validation rows outlast training, the artifact's included.
    `tracking`: where it is followed from outside.
    """

    keep: int = 1
    tracking: TrackingConfig | None = None


NOTHING = Beside()


@dataclass(frozen=True)
class _Work:
    """A training that is ready to run, and who follows it."""

    trainer: FlatTrainer
    follow: Follow
    track: Track | None


def train(config: RunConfig, workspace: Workspace, reporter: Reporter, beside: Beside = NOTHING) -> TrainResult:
    """Train what `config` asks for, as prepare planned it, and publish the artifact.

    Raises StageError; SIGTERM and SIGINT make it INTERRUPTED, with a checkpoint of the step that was under way.
    """
    prepared = PrepareResult.model_validate_json(workspace.prepared.read_text())
    found = machine.look(workspace.precision)
    with stop_request() as stop, _explained(config, workspace, prepared.plan):
        work = _build(config, workspace, prepared, found, reporter, stop, beside)
        with _told_of_failure(work.track):
            _run(work.trainer, work.follow)
        if work.trainer.is_world_process_zero():
            _publish(work, config, workspace, prepared, found)
        work.trainer.accelerator.wait_for_everyone()
    return TrainResult.model_validate_json(workspace.trained.read_text())


def _build(
    config: RunConfig,
    workspace: Workspace,
    prepared: PrepareResult,
    found: Machine,
    reporter: Reporter,
    stop: StopRequest,
    beside: Beside,
) -> _Work:
    """Load everything into a trainer that is ready to run."""
    plan, checkpoints = prepared.plan, Checkpoints(workspace.checkpoints)
    candidates = Candidates(workspace.best, beside.keep)
    reporter.update(activity=f"loading {config.model.source.uri}", total_steps=plan.total_steps)
    settings = _settings(config, plan, found, checkpoints, prepared.model.parameters)
    with settings.main_process_first(local=False):
        if settings.process_index == 0:
            checkpoints.clean()
            candidates.clean()
    splits = rows.load(workspace)
    lengths = rows.lengths(splits.train)
    order = schedule.order(len(lengths), plan.batch_size * plan.total_steps, config.training.seed)
    dtype = model.weights_dtype(config.training, found.bf16)
    base, tokenizer = model.load(workspace.base_model(config), config.model, dtype)
    tokens_per_pass = plan.tokens_per_pass if flat.attends_to_each_row(base) else None
    stop.check()
    learner = _learner(base, config, prepared, found, workspace, bool(tokens_per_pass), reporter)
    validation = None
    if splits.validation is not None:
        every = schedule.validate_every(plan.total_steps, plan.batch_size, prepared.dataset.rows.validation)
        validation = Validation(every, candidates, _writer(learner, config, workspace, prepared))
    last = checkpoints.latest()
    settings.eval_on_start = owes_validation(last, validation)
    follow = Follow(reporter, checkpoints, stop, plan.learning_rate, validation, elapsed(last))
    track = None
    if beside.tracking and settings.process_index == 0:
        run = trackers.run_of(config, prepared, workspace)
        track = Track(beside.tracking, trackers.tracker(beside.tracking, run, workspace), reporter)
    given = Given(
        config.training,
        learner,
        tokenizer,
        splits,
        order,
        tokens_per_pass,
        settings,
        follow,
        track,
        workspace.checkpoints,
    )
    trainer = methods.RECIPES[config.training.method].trainer(given)
    follow.steps_per_epoch = len(lengths) / plan.batch_size
    if track:
        track.steps_per_epoch = follow.steps_per_epoch
    return _Work(trainer, follow, track)


def _learner(
    base: PreTrainedModel,
    config: RunConfig,
    prepared: PrepareResult,
    found: Machine,
    workspace: Workspace,
    flattened: bool,
    reporter: Reporter,
) -> PreTrainedModel | PeftModel:
    """The model as it is trained. The adapter's first weights depend on the seed alone."""
    set_seed(config.training.seed)
    learner = model.with_adapter(base, config.training)
    if found.bf16:
        model.leave_inputs_to_autocast(learner)
    if flattened and compiling.worthwhile(workspace.compiled, _operations(config, prepared), found.accelerators):
        reporter.update(activity="compiling the model")
        compiling.compile_layers(learner, found.bf16)
    return learner


def _operations(config: RunConfig, prepared: PrepareResult) -> float:
    whole = config.training.adapter.type == AdapterType.NONE
    each = compiling.TRAINED if whole else compiling.FROZEN
    return each * prepared.model.parameters * prepared.plan.estimated_trained_tokens


def _settings(
    config: RunConfig, plan: Plan, found: Machine, checkpoints: Checkpoints, parameters: int
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
        gradient_checkpointing=model.recompute_activations(parameters, found.accelerators),
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


def _run(trainer: FlatTrainer, follow: Follow) -> None:
    """Train to the last step, from the last checkpoint when there is one."""
    follow.stop.check()
    checkpoint = follow.checkpoints.latest()
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    if trainer.state.global_step < trainer.state.max_steps:
        # Whichever process was asked: what ends early is no model yet.
        raise (
            interrupted() if follow.stop.made or not machine.has_peers() else failures.peer_lost("it was asked to stop")
        )
    if not all(bool(weights.isfinite().all()) for weights in trainer.model.parameters() if weights.requires_grad):
        raise diverged(trainer.state.global_step, float("nan"), follow.learning_rate)


@contextmanager
def _told_of_failure(track: Track | None) -> Iterator[None]:
    """A training that ended for good is not left as one that runs."""
    try:
        yield
    except StageError as error:
        if track and error.outcome != Outcome.INTERRUPTED:
            track.failed()
        raise


def _publish(work: _Work, config: RunConfig, workspace: Workspace, prepared: PrepareResult, found: Machine) -> None:
    """Publish, then give back the room that checkpoints took."""
    trainer, follow = work.trainer, work.follow
    follow.reporter.update(activity="writing the artifact")
    usage = Usage(
        trained_tokens=trainer.state.num_input_tokens_seen,
        seconds=follow.seconds,
        accelerator_seconds=follow.seconds * found.accelerators,
    )
    publication = Publication(
        trainer.accelerator.unwrap_model(trainer.model),
        trainer.processing_class,
        config,
        workspace,
        prepared,
        _stored(config, workspace),
        usage,
        metrics(trainer.state.log_history, follow.steps_per_epoch),
        work.track and work.track.report,
    )
    publication.publish(follow.validation.candidates.ranked() if follow.validation else ())
    shutil.rmtree(workspace.checkpoints)


def _writer(
    learner: PreTrainedModel | PeftModel, config: RunConfig, workspace: Workspace, prepared: PrepareResult
) -> Callable[[Path], None]:
    """Writes the weights as they are by then."""
    told = {"base": config.model.name, "commit": prepared.model.commit, "dtype": _stored(config, workspace)}
    return partial(weights.save, learner, **told)


def _stored(config: RunConfig, workspace: Workspace) -> torch.dtype:
    """The type in which the base model's weights lie on the disk."""
    base, trusted = workspace.base_model(config), config.model.trust_remote_code
    stored = AutoConfig.from_pretrained(base, local_files_only=True, trust_remote_code=trusted)
    return stored.dtype or torch.float32


@contextmanager
def _explained(config: RunConfig, workspace: Workspace, plan: Plan) -> Iterator[None]:
    """Turn the libraries' errors that a user can mend into StageErrors."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        device = torch.cuda.get_device_properties(torch.cuda.current_device())
        raise failures.out_of_memory(
            config, plan.tokens_per_pass, plan.max_length, device.name, device.total_memory
        ) from error
    except StageError:
        raise
    except Exception as error:
        if machine.lost_peer(error):
            raise failures.peer_lost(str(error).strip().splitlines()[-1]) from error
        # Libraries' writers have no kind of error in common: that of tokenizers raises a bare one.
        if not failures.is_full(error, workspace.root):
            raise
        raise failures.workspace_full(workspace.root, shutil.disk_usage(workspace.root).total) from error
