"""The manifest's `dataset`."""

from typing import Annotated

from finetune_trainer.config import Format
from pydantic import Field

from finetune_operator.api.model import Credentials
from finetune_operator.api.rules import ApiModel, Rule
from finetune_operator.api.values import DataUri, Fraction


class Train(ApiModel):
    """The rows to train on."""

    source: DataUri
    """hf://datasets/ORG/NAME/FILE, s3://BUCKET/KEY, pvc://CLAIM/PATH or configmap://NAME/KEY (and file://PATH for
    `finetune run`). JSON Lines, JSON, CSV or Parquet."""


class Split(ApiModel):
    """A split: rows of its own, or a fraction of train."""

    source: DataUri | None = None
    """Rows of its own, in the same places and formats as train."""
    fraction: Fraction | None = None
    """The fraction of train's rows that is set aside, chosen by the seed."""

    rules = (
        Rule(
            "has(self.source) != has(self.fraction)",
            "needs either source or fraction, and not both",
            lambda split: (split.source is None) != (split.fraction is None),
        ),
    )


class Dataset(ApiModel):
    """What to learn from."""

    train: Train
    """The rows to train on."""
    validation: Split = Split(fraction=0.1)
    """The rows whose loss is measured while training. Left out: a tenth of train."""
    test: Split = Split(fraction=0.1)
    """Rows that are set aside and never trained on: with them the result is evaluated before it is promoted. Left out:
    a tenth of train."""
    format: Format = Format.AUTO
    """How the rows are written. auto recognises it from the columns."""
    columns: Annotated[dict[str, str], Field(max_length=16)] = {}
    """The format's column: the user's column. For example {prompt: question, completion: answer}."""
    system_prompt: Annotated[str, Field(min_length=1)] | None = None
    """A system message for rows that have none."""
    credentials: Credentials | None = None
    """For a private dataset."""

    rules = (
        Rule(
            "(has(self.test.fraction) ? self.test.fraction : 0.0) + "
            "(has(self.validation.fraction) ? self.validation.fraction : 0.0) < 1.0",
            "the fractions of validation and test leave no row to train on: together they must stay below 1",
            lambda dataset: sum(split.fraction or 0 for split in (dataset.validation, dataset.test)) < 1,
            "test",
        ),
    )
