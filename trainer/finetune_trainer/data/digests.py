"""What an artifact's digest covers, and how it is made. No torch: whoever fetches an artifact verifies it, too.

Digest: `sha256:` and the SHA-256 of what coreutils print for the files beside those that tell of them:

    find * -type f ! -path artifact.json ! -path provenance.json ! -path bom.json ! -path model.sig |
        LC_ALL=C sort | xargs sha256sum | sha256sum
"""

import hashlib
from pathlib import Path

from finetune_trainer.contract.config import ARTIFACT, BOM, PROVENANCE, SIGNATURE

BESIDE = (ARTIFACT, PROVENANCE, BOM, SIGNATURE)


def files(artifact: Path) -> list[Path]:
    """The files that the digest covers, in its order."""
    beside = [artifact / name for name in BESIDE]
    found = (path for path in artifact.rglob("*") if path.is_file() and path not in beside)
    return sorted(found, key=lambda path: path.relative_to(artifact).as_posix().encode())


def digest(artifact: Path) -> str:
    """The digest of a directory (the formula stands at the head of this module)."""
    total = hashlib.sha256()
    for path in files(artifact):
        total.update(f"{of_file(path)}  {path.relative_to(artifact).as_posix()}\n".encode())
    return f"sha256:{total.hexdigest()}"


def of_file(path: Path) -> str:
    """A file's SHA-256 in hex digits."""
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
