"""The manifest's `output`."""

from typing import Annotated

from finetune_trainer.contract.published import ModelFormat
from finetune_trainer.contract.schemes import listed, remote
from pydantic import Field

from finetune_operator.api.model import Credentials
from finetune_operator.api.pods import LocalObject
from finetune_operator.api.rules import ApiModel, Rule
from finetune_operator.api.values import OutputUri, distinct


class Sign(ApiModel):
    """The key that the artifact is signed with."""

    secret_ref: LocalObject
    """A Secret with SIGNING_KEY, a private key of an elliptic curve (P-256, P-384 or P-521) in PEM, and where that is
    encrypted SIGNING_PASSWORD."""


class Output(ApiModel):
    """Where the artifact goes."""

    destination: OutputUri | None = None
    """s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or abfs://CONTAINER/PREFIX: each revision's artifact lies in a directory
    of its own there, named like the revision, with manifest.json written last. hf://ORG/NAME: the repository is made,
    and private, unless it is there; each revision is a commit with a tag, named like the revision. oci://REGISTRY/REPO:
    each revision is a tag, named like it and written last. pvc://CLAIM/PATH: a directory of a claim of yours, which the
    pod that publishes mounts, and whoever reads it; only in a cluster. status.artifact.uri says where. It stays when
    the FineTuneJob is deleted. Left out: the artifact stays in the workspace."""
    credentials: Credentials | None = None
    """For the destination: they may write there. Nothing else gets them."""
    merge: bool = False
    """Publish the whole model, too, which the adapter makes of its base model: in DESTINATION/REVISION-merged, with a
    manifest of its own; on the hub in hf://ORG/NAME-merged. It is summed in float32, stored as the base model is, and
    held to the answers of both; the workspace needs room for another copy of the base model meanwhile. What DoRA and
    full fine-tuning publish is whole as it is."""
    formats: Annotated[
        list[ModelFormat],
        Field(max_length=8),
        Rule("self.all(a, self.exists_one(b, a == b))", "names a format twice", distinct),
    ] = []
    """gguf: publish the whole model as a GGUF file of 16-bit numbers, too, for llama.cpp, Ollama and LM Studio, with a
    Modelfile: in DESTINATION/REVISION-gguf, with a manifest of its own; on the hub in hf://ORG/NAME-gguf. llama.cpp's
    converter makes it, of what `merge` would publish, with or without that; a base model that it does not know is
    refused before training."""
    sign: Sign | None = None
    """Publish a signature beside the artifact: model.sig, as OpenSSF Model Signing has it. `finetune fetch
    --verify-key` verifies it. With another Secret the artifact is published again."""

    rules = (
        Rule(
            "!has(self.credentials) || has(self.destination)",
            "goes with output.destination: set it, or remove the credentials",
            lambda output: output.credentials is None or output.destination is not None,
            "credentials",
        ),
        Rule(
            "!has(self.credentials) || !has(self.destination) || !self.destination.startsWith('pvc://')",
            f"goes with {listed(remote('output'))} destinations only: remove it, or choose such a destination",
            lambda output: output.credentials is None or not (output.destination or "").startswith("pvc://"),
            "credentials",
        ),
        Rule(
            "!has(self.merge) || !self.merge || has(self.destination)",
            "goes with output.destination: set it, or remove merge",
            lambda output: not output.merge or output.destination is not None,
            "merge",
        ),
        Rule(
            "!has(self.formats) || self.formats.size() == 0 || has(self.destination)",
            "goes with output.destination: set it, or remove formats",
            lambda output: not output.formats or output.destination is not None,
            "formats",
        ),
        Rule(
            "!has(self.sign) || has(self.destination)",
            "goes with output.destination: set it, or remove sign",
            lambda output: output.sign is None or output.destination is not None,
            "sign",
        ),
    )
