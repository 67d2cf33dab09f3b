"""The run config of a revision: the manifest's fields that the weights depend on, with mounted sources as paths.

`workspace.record_map` ships it to the stage pods; the local backend writes the same document beside its state.
"""

from finetune_trainer.contract.config import (
    AdapterConfig,
    DatasetConfig,
    DpoConfig,
    KtoConfig,
    ModelConfig,
    Origin,
    RewardConfig,
    RunConfig,
    Source,
    SplitConfig,
    SweepConfig,
    TrainingConfig,
)

from finetune_operator.api.dataset import Dataset, Split
from finetune_operator.api.methods import Dpo
from finetune_operator.api.sweep import Sweep
from finetune_operator.api.training import Training
from finetune_operator.api.v1alpha1 import FineTuneJobSpec
from finetune_operator.pods.sources import source


def run_config(name: str, revision: str, spec: FineTuneJobSpec, origin: Origin | None = None) -> RunConfig:
    """What prepare and train are told. A relative file:// path stays relative: the local backend makes it absolute.

    `origin`: what a source ftj:// was found to be.
    """
    return RunConfig(
        name=name,
        revision=revision,
        model=ModelConfig(
            source=Source(uri=origin.lineage[0]) if origin else source(spec.model.source),
            revision=spec.model.revision,
            trust_remote_code=spec.model.trust_remote_code,
            origin=origin,
            cache=source(spec.workspace.cache) if spec.workspace.cache and origin is None else None,
        ),
        dataset=_dataset(spec.dataset),
        training=training_config(spec.training),
    )


def data_uris(dataset: Dataset) -> list[str]:
    """The URIs of every split that has rows of its own."""
    splits = (dataset.train, dataset.validation, dataset.test)
    return [split.source for split in splits if split is not None and split.source is not None]


def _dataset(dataset: Dataset) -> DatasetConfig:
    return DatasetConfig(
        train=source(dataset.train.source, dataset.train.checksum),
        validation=_split(dataset.validation),
        test=_split(dataset.test),
        format=dataset.format,
        columns=dataset.columns,
        system_prompt=dataset.system_prompt,
    )


def _split(split: Split | None) -> SplitConfig | None:
    if split is None:
        return None
    rows = source(split.source, split.checksum) if split.source else None
    return SplitConfig(source=rows, fraction=split.fraction)


def training_config(training: Training) -> TrainingConfig:
    """How it is trained."""
    adapter = training.adapter
    return TrainingConfig(
        method=training.method,
        dpo=training.dpo and _dpo(training.dpo),
        kto=training.kto and KtoConfig(**training.kto.model_dump()),
        reward=training.reward and RewardConfig(**training.reward.model_dump()),
        adapter=AdapterConfig(
            type=adapter.type,
            rank=adapter.rank,
            alpha=adapter.alpha,
            dropout=adapter.dropout,
            use_rslora=adapter.use_rslora,
            loraplus_lr_ratio=adapter.loraplus_lr_ratio,
            target_modules=tuple(adapter.target_modules),
            modules_to_save=tuple(adapter.modules_to_save or ()),
        ),
        epochs=training.epochs,
        max_steps=training.max_steps,
        learning_rate=training.learning_rate,
        batch_size=training.batch_size,
        max_length=training.max_length,
        sweep=training.sweep and sweep_config(training.sweep),
        seed=training.seed,
    )


def sweep_config(sweep: Sweep) -> SweepConfig:
    """What is tried."""
    return SweepConfig(
        parameters=sweep.parameters.given, max_trials=sweep.max_trials, early_stopping=sweep.early_stopping
    )


def _dpo(dpo: Dpo) -> DpoConfig:
    return DpoConfig(
        beta=dpo.beta,
        loss_type=tuple(dpo.loss_type),
        loss_weights=None if dpo.loss_weights is None else tuple(dpo.loss_weights),
        label_smoothing=dpo.label_smoothing,
    )
