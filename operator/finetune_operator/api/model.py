"""The manifest's `model`, and the credentials that it and `dataset` name."""

from typing import Annotated

from pydantic import Field

from finetune_operator.api.pods import LocalObject
from finetune_operator.api.rules import ApiModel, Rule
from finetune_operator.api.values import ModelUri


class Credentials(ApiModel):
    """Credentials, by reference."""

    secret_ref: LocalObject
    """A Secret with any of the keys HF_TOKEN, HF_ENDPOINT, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN,
    AWS_REGION and AWS_ENDPOINT_URL."""


class Model(ApiModel):
    """What to start from."""

    source: ModelUri
    """The base model: hf://ORG/NAME, s3://BUCKET/PREFIX or pvc://CLAIM/PATH (and file://PATH for `finetune run`)."""
    revision: Annotated[str, Field(min_length=1, max_length=255)] | None = None
    """A branch, tag or commit of an hf:// model. It is resolved to a commit when the data is prepared, and
    status.model.commit records which. Left out: main."""
    credentials: Credentials | None = None
    """For a gated or private model."""
    trust_remote_code: bool = False
    """Run the Python code that comes with the model. Off: such a model is refused."""

    rules = (
        Rule(
            "!has(self.revision) || self.source.startsWith('hf://')",
            "goes with an hf:// source only: remove it, or choose such a source",
            lambda model: model.revision is None or model.source.startswith("hf://"),
            "revision",
        ),
    )
