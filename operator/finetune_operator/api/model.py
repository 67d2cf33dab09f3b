"""The manifest's `model`, and the credentials that it and `dataset` name."""

from finetune_operator.api.pods import LocalObject
from finetune_operator.api.rules import ApiModel, Rule
from finetune_operator.api.values import GitRevision, ModelUri


class Credentials(ApiModel):
    """Credentials, by reference."""

    secret_ref: LocalObject
    """A Secret with any of the keys HF_TOKEN, HF_ENDPOINT, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN,
    AWS_REGION and AWS_ENDPOINT_URL."""


class Model(ApiModel):
    """What to start from."""

    source: ModelUri
    """The base model: hf://ORG/NAME, s3://BUCKET/PREFIX or pvc://CLAIM/PATH (and file://PATH for `finetune run`)."""
    revision: GitRevision | None = None
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
        Rule(
            "!has(self.credentials) || !self.source.startsWith('pvc://')",
            "goes with an hf:// or s3:// source only: remove it, or choose such a source",
            lambda model: model.credentials is None or not model.source.startswith("pvc://"),
            "credentials",
        ),
    )
