"""Everything that a training is made of, loaded and put together. Called by `train`, in each of its processes."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from peft import PeftModel
from transformers import AutoConfig, PreTrainedModel, PreTrainedTokenizerBase, TrainingArguments, set_seed

from finetune_trainer.contract.config import AdapterType, RunConfig, Sharding, TrackingConfig, Workspace
from finetune_trainer.contract.results import PrepareResult
from finetune_trainer.server import Reporter
from finetune_trainer.training import compiling, flat, methods, model, schedule, sharding, trackers, weights
from finetune_trainer.training.attempts import Attempt
from finetune_trainer.training.budget import BudgetMeter
from finetune_trainer.training.candidates import Candidates
from finetune_trainer.training.checkpoints import Checkpoints, elapsed
from finetune_trainer.training.flat_trainer import FlatTrainer
from finetune_trainer.training.follow import Follow, StopRequest, Validation, anywhere, owes_validation
from finetune_trainer.training.given import Given
from finetune_trainer.training.machine import Machine, collective_seconds
from finetune_trainer.training.rivals import Rivals
from finetune_trainer.training.rows import Splits
from finetune_trainer.training.track import Track


@dataclass(frozen=True)
class Beside:
    """What train is told that no weight depends on.

    `keep`: how many of the weights that did best on the validation rows outlast training, the artifact's included.
    `tracking`: where it is followed from outside. `sharding`: whether weights are divided among devices. `budget`:
    hours of accelerators that it may take, or of machines without any. `rivals`: the other trials of its sweep, which
    may end it early. `kept`: called for each checkpoint that is complete.
    """

    keep: int = 1
    tracking: TrackingConfig | None = None
    sharding: Sharding = Sharding.AUTO
    budget: float | None = None
    rivals: Rivals | None = None
    kept: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class Work:
    """A training that is ready to run, and who follows it.

    `stored`: the type of the base model's weights on the disk. `writer` makes what writes the weights; every process
    has a part in it.
    """

    trainer: FlatTrainer
    follow: Follow
    track: Track | None
    stored: torch.dtype
    writer: Callable[[], weights.Write]


@dataclass(frozen=True)
class Task:
    """What is to be trained, on what, in which passes, and who is told of it and may stop it.

    `sharded`: one device can't hold the weights, or need not; it is so if any process says so.
    """

    config: RunConfig
    workspace: Workspace
    prepared: PrepareResult
    splits: Splits
    machine: Machine
    attempt: Attempt
    sharded: bool
    budget: BudgetMeter
    beside: Beside
    reporter: Reporter
    stop: StopRequest

    def build(self) -> Work:
        """Load everything into a trainer that is ready to run."""
        plan, checkpoints = self.prepared.plan, Checkpoints(self.workspace.checkpoints, self.beside.kept)
        candidates = Candidates(self.workspace.best, self.beside.keep)
        self.reporter.update(activity=f"loading {self.config.model.source.uri}", total_steps=plan.total_steps)
        settings = self._settings()
        with settings.main_process_first(local=False):
            if settings.process_index == 0:
                checkpoints.clean()
                candidates.clean()
        (sharded,) = anywhere(settings, self.sharded)
        base, tokenizer = self._base(sharded)
        tokens_per_pass = self.attempt.tokens if flat.attends_to_each_row(base) else None
        self.stop.check()
        learner = self._learner(base, flattened=tokens_per_pass is not None)
        stored, last = self._stored(), checkpoints.latest()
        writer = partial(weights.writer, learner, self.config.model.name, self.prepared.model.commit, stored)
        validation = self._validation(candidates, writer)
        settings.eval_on_start = owes_validation(last, validation)
        count = len(self.splits.train)
        steps_per_epoch = count / plan.batch_size
        follow = Follow(self.reporter, checkpoints, self.stop, plan.learning_rate, validation, elapsed(last))
        track = self._track() if settings.process_index == 0 else None
        follow.budget = self.budget
        for each in (follow, track):
            if each:
                each.steps_per_epoch = steps_per_epoch
        given = Given(
            self.config.training,
            learner,
            tokenizer,
            self.splits,
            schedule.order(count, plan.batch_size * plan.total_steps, self.config.training.seed),
            tokens_per_pass,
            settings,
            follow,
            track,
            self.workspace.checkpoints,
        )
        return Work(methods.RECIPES[self.config.training.method].trainer(given), follow, track, stored, writer)

    def _base(self, sharded: bool) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        training, found = self.config.training, self.machine
        dtype = model.weights_dtype(training, found.bf16)
        shares = sharding.loading(found.processes, found.bf16) if sharded else None
        writes = training.method.writes
        # A fresh head depends on the seed alone, as an adapter does.
        set_seed(training.seed)
        path = self.workspace.base_model(self.config)
        return model.load(path, self.config.model, dtype, training.adapter.type, shares, writes)

    def _learner(self, base: PreTrainedModel, flattened: bool) -> PreTrainedModel | PeftModel:
        """The model as it is trained. The adapter's first weights depend on the seed alone."""
        set_seed(self.config.training.seed)
        learner = model.with_adapter(base, self.config.training)
        model.use_one_product(learner)
        if self.machine.bf16:
            model.leave_inputs_to_autocast(learner)
        flattened = flattened and not sharding.is_sharded(learner)
        if flattened and compiling.worthwhile(self.workspace.compiled, self._operations, self.machine.accelerators):
            self.reporter.update(activity="compiling the model")
            compiling.compile_layers(learner, self.machine.bf16)
        return learner

    @property
    def _operations(self) -> float:
        """How many the plan comes to; none that can be compiled where weights are in four bits."""
        each = {AdapterType.NONE: compiling.TRAINED, AdapterType.QLORA: 0}
        kind = self.config.training.adapter.type
        tokens = self.prepared.plan.estimated_trained_tokens
        return each.get(kind, compiling.FROZEN) * self.prepared.model.parameters * tokens

    def _validation(self, candidates: Candidates, writer: Callable[[], weights.Write]) -> Validation | None:
        """How often the rows for it are looked at, and what writes the weights as they are by then."""
        if self.splits.validation is None:
            return None
        plan, count = self.prepared.plan, self.prepared.dataset.rows.validation
        every = schedule.validate_every(plan.total_steps, plan.batch_size, count)
        return Validation(every, candidates, writer, self.beside.rivals)

    def _track(self) -> Track | None:
        tracking = self.beside.tracking
        if tracking is None:
            return None
        run = trackers.run_of(tracking, self.config, self.prepared, self.workspace)
        return Track(tracking, trackers.tracker(tracking, run, self.workspace), self.reporter)

    def _stored(self) -> torch.dtype:
        base, trusted = self.workspace.base_model(self.config), self.config.model.trust_remote_code
        found = AutoConfig.from_pretrained(base, local_files_only=True, trust_remote_code=trusted)
        return found.dtype or torch.float32

    def _settings(self) -> TrainingArguments:
        """The plan in the library's words. Saving and validating are decided by `Follow`, after each step."""
        plan = self.prepared.plan
        return TrainingArguments(
            output_dir=str(Checkpoints(self.workspace.checkpoints).staging),
            max_steps=plan.total_steps,
            # All rows of a step at once: `FlatTrainer` makes passes of them.
            per_device_train_batch_size=schedule.share(plan.batch_size, self.machine.processes),
            per_device_eval_batch_size=plan.batch_size,
            remove_unused_columns=False,
            learning_rate=plan.learning_rate,
            seed=self.config.training.seed,
            train_sampling_strategy="sequential",
            bf16=self.machine.bf16,
            use_cpu=self.machine.accelerators == 0,
            gradient_checkpointing=self.attempt.recompute,
            # The other kind needs inputs with gradients, which frozen embeddings don't give.
            gradient_checkpointing_kwargs={"use_reentrant": False},
            dataloader_pin_memory=self.machine.accelerators > 0,
            ddp_find_unused_parameters=False,
            # accelerate takes MPI where torch has it, as Debian's does, and that gathers nothing.
            ddp_backend="gloo" if self.machine.processes > 1 and not self.machine.accelerators else None,
            ddp_timeout=collective_seconds(),
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
