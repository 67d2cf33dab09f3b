"""The manifest's `model`, and the credentials that it and `dataset` name."""

from typing import ClassVar

from finetune_trainer.contract.schemes import listed, remote

from finetune_operator.api.pods import LocalObject
from finetune_operator.api.rules import ApiModel, Rule
from finetune_operator.api.values import GitRevision, ModelUri


class Credentials(ApiModel):
    """Credentials, by reference."""

    secret_ref: LocalObject
    """A Secret with the keys that the address's scheme takes: for hf:// HF_TOKEN and HF_ENDPOINT, for s3://
    AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_REGION and AWS_ENDPOINT_URL, for gs://
    GOOGLE_APPLICATION_CREDENTIALS_JSON and STORAGE_EMULATOR_HOST, for abfs:// AZURE_STORAGE_CONNECTION_STRING or
    AZURE_STORAGE_ACCOUNT_NAME with AZURE_STORAGE_ACCOUNT_KEY, with AZURE_STORAGE_SAS_TOKEN, or with
    AZURE_STORAGE_TENANT_ID, AZURE_STORAGE_CLIENT_ID and AZURE_STORAGE_CLIENT_SECRET, for oci://
    REGISTRY_USERNAME and REGISTRY_PASSWORD, and REGISTRY_PLAIN_HTTP: "true" for a registry without TLS."""


class Model(ApiModel):
    """What to start from."""

    source: ModelUri
    """The base model: hf://ORG/NAME, s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, abfs://CONTAINER/PREFIX,
    oci://REGISTRY/REPO:TAG or pvc://CLAIM/PATH (and file://PATH for `finetune run`).

    ftj://NAME goes on from another FineTuneJob of the namespace: from the revision that it serves, or else the newest
    that it has trained, found once and told in status.model.lineage; ftj://NAME/REVISION from that one. It is waited
    for. A copy of its model, with the adapter merged, is the base model then."""
    revision: GitRevision | None = None
    """A branch, tag or commit of an hf:// model. It is resolved to a commit when the data is prepared, and
    status.model.commit records which. Left out: main."""
    credentials: Credentials | None = None
    """For a gated or private model."""
    trust_remote_code: bool = False
    """Run the Python code that comes with the model. Off: such a model is refused."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.revision) || self.source.startsWith('hf://')",
            "goes with an hf:// source only: remove it, or choose such a source",
            lambda model: model.revision is None or model.source.startswith("hf://"),
            "revision",
        ),
        Rule(
            "!has(self.credentials) || !(self.source.startsWith('pvc://') || self.source.startsWith('ftj://'))",
            f"goes with {listed(remote('model'))} sources only: remove it, or choose such a source",
            lambda model: model.credentials is None or not model.source.startswith(("pvc://", "ftj://")),
            "credentials",
        ),
    )


class ApiKey(ApiModel):
    """The key of an OpenAI-compatible endpoint, by reference."""

    secret_ref: LocalObject
    """A Secret with the key OPENAI_API_KEY."""
