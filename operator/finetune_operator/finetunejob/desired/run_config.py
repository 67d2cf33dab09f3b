"""The run config of a revision: the manifest's fields that the weights depend on, with mounted sources as paths.

`workspace.config_map` ships it to the stage pods; the local backend writes the same document beside its state.
"""

from pathlib import Path

from finetune_trainer.contract.config import (
    AdapterConfig,
    DatasetConfig,
    DpoConfig,
    KtoConfig,
    ModelConfig,
    RunConfig,
    Source,
    SplitConfig,
    TrainingConfig,
)

from finetune_operator.api.dataset import Dataset, Split
from finetune_operator.api.methods import Dpo
from finetune_operator.api.training import Training
from finetune_operator.api.v1alpha1 import FineTuneJobSpec

CLAIMS = Path("/mnt/claims")
CONFIG_MAPS = Path("/mnt/configmaps")
_CLAIM, _CONFIG_MAP, _FILE = "pvc://", "configmap://", "file://"


def run_config(name: str, revision: str, spec: FineTuneJobSpec) -> RunConfig:
    """What prepare and train are told. A relative file:// path stays relative: the local backend makes it absolute."""
    return RunConfig(
        name=name,
        revision=revision,
        model=ModelConfig(
            source=source(spec.model.source),
            revision=spec.model.revision,
            trust_remote_code=spec.model.trust_remote_code,
        ),
        dataset=_dataset(spec.dataset),
        training=_training(spec.training),
    )


def source(uri: str) -> Source:
    """The URI, and the path where pods (or the local machine) have it; no path for what prepare has to fetch."""
    return Source(uri=uri, path=_path(uri))


def claim_of(uri: str) -> str | None:
    """The user's PersistentVolumeClaim in a pvc:// URI."""
    return uri.removeprefix(_CLAIM).partition("/")[0] if uri.startswith(_CLAIM) else None


def config_map_of(uri: str) -> str | None:
    """The user's ConfigMap in a configmap:// URI."""
    return uri.removeprefix(_CONFIG_MAP).partition("/")[0] if uri.startswith(_CONFIG_MAP) else None


def data_uris(dataset: Dataset) -> list[str]:
    """The URIs of every split that has rows of its own."""
    splits = (dataset.train, dataset.validation, dataset.test)
    return [split.source for split in splits if split is not None and split.source is not None]


def _path(uri: str) -> Path | None:
    for scheme, root in ((_CLAIM, CLAIMS), (_CONFIG_MAP, CONFIG_MAPS), (_FILE, Path())):
        if uri.startswith(scheme):
            return root / uri.removeprefix(scheme)
    return None


def _dataset(dataset: Dataset) -> DatasetConfig:
    return DatasetConfig(
        train=source(dataset.train.source),
        validation=_split(dataset.validation),
        test=_split(dataset.test),
        format=dataset.format,
        columns=dataset.columns,
        system_prompt=dataset.system_prompt,
    )


def _split(split: Split | None) -> SplitConfig | None:
    if split is None:
        return None
    return SplitConfig(source=source(split.source) if split.source else None, fraction=split.fraction)


def _training(training: Training) -> TrainingConfig:
    adapter = training.adapter
    return TrainingConfig(
        method=training.method,
        dpo=training.dpo and _dpo(training.dpo),
        kto=training.kto and KtoConfig(**training.kto.model_dump()),
        adapter=AdapterConfig(
            type=adapter.type,
            rank=adapter.rank,
            alpha=adapter.alpha,
            dropout=adapter.dropout,
            target_modules=tuple(adapter.target_modules),
        ),
        epochs=training.epochs,
        max_steps=training.max_steps,
        learning_rate=training.learning_rate,
        batch_size=training.batch_size,
        max_length=training.max_length,
        seed=training.seed,
    )


def _dpo(dpo: Dpo) -> DpoConfig:
    return DpoConfig(
        beta=dpo.beta,
        loss_type=tuple(dpo.loss_type),
        loss_weights=None if dpo.loss_weights is None else tuple(dpo.loss_weights),
        label_smoothing=dpo.label_smoothing,
    )
