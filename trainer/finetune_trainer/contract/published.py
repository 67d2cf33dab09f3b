"""What lies beside a published artifact: whose the place is, and what makes it whole.

The stage publish writes both; whoever fetches an artifact reads the manifest.
"""

from collections.abc import Sequence
from enum import StrEnum
from pathlib import PurePosixPath

from finetune_trainer.contract.config import Contract
from finetune_trainer.contract.outcome import Outcome, StageError
from finetune_trainer.contract.results import ArtifactInfo

CLAIM, MANIFEST = "claim.json", "manifest.json"
# The whole model that an adapter makes lies beside the adapter, and so does each further format of it: REVISION-merged,
# REVISION-gguf.
MERGED = "merged"


class ModelFormat(StrEnum):
    """What else a whole model is published as. GGUF is what llama.cpp, Ollama and LM Studio load."""

    GGUF = "gguf"


class Claim(Contract):
    """The first thing written. `owner`: the FineTuneJob's uid, or where `finetune run` keeps its files."""

    owner: str
    name: str


class Manifest(Contract):
    """The last thing written. `files`: the SHA-256 of each in hex digits, by its path beside the manifest.

    `signed_by`: the SHA-256 of the public key that model.sig, one of them, is verified with; None where there is none.
    `merged_from`: the digest of the artifact that this whole model was made of. `base_model`: what an adapter is
    of, which is not published with it. `lineage`: what a base model that another FineTuneJob has trained goes back to,
    itself first.
    """

    name: str
    revision: str
    artifact: ArtifactInfo
    files: dict[str, str]
    signed_by: str | None = None
    merged_from: str | None = None
    base_model: str | None = None
    lineage: tuple[str, ...] = ()


def without_base(lineage: Sequence[str]) -> str:
    """What to know of an adapter whose base model another FineTuneJob has trained, and which alone was published."""
    before = f" (from {', from '.join(lineage[1:])})" if lineage[1:] else ""
    return (
        f"Its base model, {lineage[0]}{before}, is not published with it: set output.merge, and the whole model is "
        "published, too."
    )


def written(document: Claim | Manifest) -> bytes:
    """As it lies there."""
    return (document.model_dump_json(by_alias=True, indent=2) + "\n").encode()


def inside(name: str, uri: str) -> PurePosixPath:
    """A path of a manifest or an archive, which anybody may have written. Raises StageError where it leads out."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise StageError(Outcome.DATA_INVALID, f"{uri} names a file outside of the artifact: {name}.")
    return path
