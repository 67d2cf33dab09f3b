"""A directory of a bucket or volume, DESTINATION/REVISION. Its claim is a conditional write; the manifest is last."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune_trainer.contract.published import CLAIM, MANIFEST, Claim, Manifest, written
from finetune_trainer.contract.schemes import within
from finetune_trainer.data import bucket
from finetune_trainer.data.places.claims import refuse_another


def at(destination: str, revision: str, suffix: str, owner: str, secrets: dict[str, str]) -> "Directory":
    """The place of a revision."""
    return found(f"{destination.rstrip('/')}/{revision}{suffix}", owner, secrets)


def found(uri: str, owner: str, secrets: dict[str, str]) -> "Directory":
    """The place that has this address."""
    return Directory(bucket.filesystem(uri, owner, secrets), uri)


@dataclass(frozen=True)
class Directory:
    """`filesystem` is fsspec's for the bucket, or what is like it for a volume."""

    filesystem: Any
    uri: str

    def claim(self, claim: Claim) -> None:
        """Make it ours, unless it is. Raises StageError where it is another's."""
        try:
            # Of two that come at once the server lets one through.
            self.filesystem.pipe_file(self._path(CLAIM), written(claim), mode="create")
        except FileExistsError:
            refuse_another(self.uri, claim, self.read(CLAIM))

    def read(self, name: str) -> bytes:
        """What an object holds. Raises FileNotFoundError."""
        return bytes(self.filesystem.cat_file(self._path(name)))

    def get(self, name: str, local: Path) -> None:
        """Bring an object."""
        self.filesystem.get_file(self._path(name), str(local))

    def write(self, claim: Claim, files: Mapping[str, Path], manifest: Manifest, told: Callable[[int], None]) -> None:
        """Have these files there, the manifest last. What another artifact left is removed, its manifest first."""
        self._clear()
        for done, (name, path) in enumerate(files.items()):
            told(done)
            self.filesystem.put_file(str(path), self._path(name))
        self.filesystem.pipe_file(self._path(MANIFEST), written(manifest))

    def _clear(self) -> None:
        try:
            there = Manifest.model_validate_json(self.read(MANIFEST))
        except FileNotFoundError:
            return
        self.filesystem.rm_file(self._path(MANIFEST))
        for name in there.files:
            self.filesystem.rm_file(self._path(name))

    def _path(self, name: str) -> str:
        return f"{within(self.uri)}/{name}"
