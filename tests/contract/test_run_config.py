"""The run config between operator and trainer: whatever manifest is accepted, the trainer parses what is rendered."""

from pathlib import Path
from typing import Any

import pytest
from finetune_operator.api.load import load_manifest
from finetune_operator.api.v1alpha1 import FineTuneJob
from finetune_operator.finetunejob.desired.run_config import run_config
from finetune_operator.names import revision_of
from finetune_trainer.contract.config import RunConfig
from good_manifests import GOOD
from manifests import manifest
from paths import FINETUNEJOBS, ROOT


def parsed(job: FineTuneJob) -> RunConfig:
    """The run config as the trainer reads it from the file that the operator writes."""
    rendered = run_config(job.metadata.name, revision_of(job.spec), job.spec)
    return RunConfig.model_validate_json(rendered.model_dump_json(by_alias=True, exclude_none=True))


@pytest.mark.parametrize("path", FINETUNEJOBS, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_trainer_parses_every_example(path: Path) -> None:
    job = load_manifest(path)
    config = parsed(job)
    assert config.name == job.metadata.name
    assert config.model.source.uri == job.spec.model.source
    for field in ("epochs", "max_steps", "learning_rate", "batch_size", "max_length", "seed"):
        assert getattr(config.training, field) == getattr(job.spec.training, field)


@pytest.mark.parametrize("fields", GOOD.values(), ids=GOOD.keys())
def test_the_trainer_parses_what_the_api_server_accepts(fields: dict[str, Any]) -> None:
    job = FineTuneJob.model_validate(manifest(fields))
    assert parsed(job).dataset.train.uri == job.spec.dataset.train.source
