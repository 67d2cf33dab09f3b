"""The manifest's `dataset`."""

from typing import Annotated

from finetune_trainer.contract.config import Format, OnSensitive
from finetune_trainer.contract.schemes import keyed, listed
from pydantic import Field

from finetune_operator.api.model import Credentials
from finetune_operator.api.rules import ApiModel, Rule
from finetune_operator.api.values import Checksum, DataUri, Fraction, distinct

_ONE_FILE = Rule(
    "!has(self.checksum) || !has(self.source) || !self.source.matches('[*][^/]*$')",
    "is of one file: remove it, or name the file without *",
    lambda rows: rows.checksum is None or rows.source is None or "*" not in rows.source.rpartition("/")[2],
    "checksum",
)


class TrainSplit(ApiModel):
    """The rows to train on."""

    source: DataUri
    """hf://datasets/ORG/NAME/FILE, s3://BUCKET/KEY, gs://BUCKET/KEY, abfs://CONTAINER/KEY,
    oci://REGISTRY/REPO:TAG/FILE, https://HOST/PATH, pvc://CLAIM/PATH or configmap://NAME/KEY (and file://PATH for
    `finetune run`). Its ending says how it is written:
    .jsonl, .json (a list, or an object that holds one), .csv, .tsv, .parquet or .arrow, and those of text may have .gz
    or .zst behind them. A * in the file's name stands for anything: all files of such a name are read, in the order of
    their names, but for https://, where there is one."""
    checksum: Checksum | None = None
    """sha256: and what sha256sum prints for the file: any other content is refused. Left out: whatever is there when
    the data is prepared is trained on, and status.dataset.digest says what that was."""

    rules = (_ONE_FILE,)


class Split(ApiModel):
    """A split: rows of its own, or a fraction of train."""

    source: DataUri | None = None
    """Rows of its own, in the same places and formats as train."""
    checksum: Checksum | None = None
    """Of the file, as of train's."""
    fraction: Fraction | None = None
    """The fraction of train's rows that is set aside, chosen by the seed."""

    rules = (
        Rule(
            "has(self.source) != has(self.fraction)",
            "needs either source or fraction, and not both",
            lambda split: (split.source is None) != (split.fraction is None),
        ),
        Rule(
            "!has(self.checksum) || has(self.source)",
            "goes with a source: remove it",
            lambda split: split.checksum is None or split.source is not None,
            "checksum",
        ),
        _ONE_FILE,
    )


class Dataset(ApiModel):
    """What to learn from."""

    train: TrainSplit
    """The rows to train on."""
    validation: Split = Split(fraction=0.1)
    """The rows whose loss is measured while training. Left out: a tenth of train."""
    test: Split = Split(fraction=0.1)
    """Rows that are set aside and never trained on: with them the result is evaluated before it is promoted. Left out:
    a tenth of train."""
    format: Format = Format.AUTO
    """How the rows are written. auto recognises it from the columns. Of a chat every message of the assistant is
    learned, but for those with weight 0."""
    columns: Annotated[
        dict[str, Annotated[str, Field(min_length=1, max_length=255)]],
        Field(max_length=16),
        Rule(
            "self.all(a, self.exists_one(b, self[a] == self[b]))",
            "names one of your columns twice: each of the format's columns needs its own",
            lambda columns: distinct(list(columns.values())),
        ),
    ] = {}
    """The format's column: the user's column. For example {prompt: question, completion: answer}."""
    system_prompt: Annotated[str, Field(min_length=1, max_length=65536)] | None = None
    """A system message for rows that have none, of at most 65,536 characters."""
    on_sensitive: OnSensitive = OnSensitive.WARN
    """What becomes of rows that seem to hold secrets (keys, tokens, passwords) or personal data (e-mail addresses,
    phone numbers, payment cards, IBANs, national identity numbers), counted with the first places: warn tells them in
    DataReady, fail refuses the dataset, ignore does not look for them. It is decided when the rows are prepared."""
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
        Rule(
            "!has(self.systemPrompt) || self.format != 'text'",
            "goes with rows that are messages or prompts, not with format text: remove it",
            lambda dataset: dataset.system_prompt is None or dataset.format != Format.TEXT,
            "systemPrompt",
        ),
        Rule(
            "!has(self.credentials) || [self.train.source, "
            "has(self.validation.source) ? self.validation.source : '', has(self.test.source) ? self.test.source : '']"
            f".exists(source, source.matches('^({'|'.join(keyed('dataset'))}|file://)'))",
            f"goes with {listed(keyed('dataset'))} sources only: remove it, or choose such a source",
            lambda dataset: (
                dataset.credentials is None
                or any(
                    (split.source or "").startswith((*keyed("dataset"), "file://"))
                    for split in (dataset.train, dataset.validation, dataset.test)
                )
            ),
            "credentials",
        ),
    )
