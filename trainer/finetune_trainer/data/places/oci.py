"""A tag of an OCI repository, called like the revision: a model artifact in CNCF ModelPack's form, a layer a file.

The tag is written last, and stands for all or nothing. A registry has no conditional write: a tag that another
FineTuneJob's artifact has is refused by what its annotation says.
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from finetune_trainer.contract.outcome import Outcome, StageError
from finetune_trainer.contract.published import MANIFEST, Claim, Manifest, written
from finetune_trainer.contract.schemes import within
from finetune_trainer.data import digests
from finetune_trainer.data.places.claims import refuse_another
from finetune_trainer.data.registry import MANIFEST_TYPE, Repository

# REGISTRY[:PORT]/REPO:TAG/FILE.
_FILE_OF = re.compile("([^/]+(?:/[^/:@]+)+(?::[^/]+|@sha256:[0-9a-f]{64}))/(.+)")
# https://github.com/modelpack/model-spec
_ARTIFACT_TYPE = "application/vnd.cncf.model.manifest.v1+json"
_CONFIG_TYPE = "application/vnd.cncf.model.config.v1+json"
_FILE_PATH = "org.cncf.model.filepath"
# What oras calls a layer's file, and says of one that is a directory in an archive.
_TITLE, _UNPACKED = "org.opencontainers.image.title", "io.deis.oras.content.unpack"
_LAYERS = {
    ".safetensors": "application/vnd.cncf.model.weight.v1.raw",
    ".json": "application/vnd.cncf.model.weight.config.v1.raw",
    ".md": "application/vnd.cncf.model.doc.v1.raw",
}
_OTHERS = "application/vnd.cncf.model.doc.v1.raw"
_CLAIM = "dev.finetune.claim"


def at(destination: str, revision: str, suffix: str, owner: str, secrets: dict[str, str]) -> "Tag":
    """The place of a revision."""
    return found(f"{destination.rstrip('/')}:{revision}{suffix}", owner, secrets)


def found(uri: str, owner: str, secrets: dict[str, str]) -> "Tag":
    """The place that has this address. All that is read is of what the tag stands for now."""
    name, tag = _parts(within(uri))
    repository = Repository(name, secrets)
    return Tag(repository, uri, tag, repository.manifest(tag) or {})


def _parts(address: str) -> tuple[str, str]:
    """REGISTRY/REPO and what is behind the : or the @."""
    if "@" in address:
        name, _, digest = address.partition("@")
        return name, digest
    folder, _, last = address.rpartition("/")
    name, _, tag = last.partition(":")
    return f"{folder}/{name}", tag or "latest"


def file_of(uri: str) -> tuple[str, str]:
    """The address of the tag and the path of the file in oci://REGISTRY/REPO:TAG/FILE. Raises FileNotFoundError."""
    parts = _FILE_OF.fullmatch(uri.removeprefix("oci://"))
    if parts is None:
        raise FileNotFoundError(uri)
    return f"oci://{parts[1]}", parts[2]


@dataclass(frozen=True)
class Tag:
    """`manifest`: what the tag stands for, empty where there is none."""

    repository: Repository
    uri: str
    tag: str
    manifest: dict[str, Any]

    def layers(self) -> dict[str, str]:
        """The digest of each file's blob."""
        named = ((_name(layer.get("annotations") or {}), layer) for layer in self.manifest.get("layers", []))
        return {name: layer["digest"] for name, layer in named if name}

    def claim(self, claim: Claim) -> None:
        """See that nothing of another's has the tag. Raises StageError where something has."""
        if not self.manifest:
            return
        there = self.manifest.get("annotations", {}).get(_CLAIM)
        if there is None:
            raise StageError(
                Outcome.CONFIG_INVALID,
                f"{self.uri} is something that no FineTuneJob published: choose another output.destination.",
            )
        refuse_another(self.uri, claim, there.encode())

    def read(self, name: str) -> bytes:
        """What a file holds. Raises FileNotFoundError."""
        if name not in self.layers():
            raise FileNotFoundError(name)
        return self.repository.read(self.layers()[name])

    def get(self, name: str, local: Path) -> None:
        """Bring a file."""
        self.repository.get(self.layers()[name], local)

    def bring(self, name: str, local: Path) -> Path:
        """Have a file at `local`, whole or not at all. Raises StageError where it is not what the manifest says."""
        digest = self.layers()[name]
        if verified(local, digest):
            return local
        local.parent.mkdir(parents=True, exist_ok=True)
        partial = local.with_name(f"{local.name}.partial")
        self.get(name, partial)
        if not verified(partial, digest):
            partial.unlink()
            raise StageError(Outcome.DATA_INVALID, f"{self.uri} holds {name} otherwise than its manifest says.")
        return partial.rename(local)

    def write(self, claim: Claim, files: Mapping[str, Path], manifest: Manifest, told: Callable[[int], None]) -> None:
        """Have these files there, then the tag stand for them and no others."""
        layers = []
        for done, (name, path) in enumerate(files.items()):
            told(done)
            digest = f"sha256:{manifest.files[name]}"
            self.repository.put(digest, path)
            layers.append(_layer(name, digest, path.stat().st_size))
        layers.append(self._put(MANIFEST, written(manifest)))
        config = {
            "descriptor": {"name": manifest.name, "version": manifest.revision},
            "config": {},
            "modelfs": {"type": "layers", "diffIds": [layer["digest"] for layer in layers]},
        }
        document = {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "artifactType": _ARTIFACT_TYPE,
            "config": self._put("", json.dumps(config).encode()) | {"mediaType": _CONFIG_TYPE},
            "layers": layers,
            "annotations": {_CLAIM: claim.model_dump_json(by_alias=True)},
        }
        # What has come there meanwhile.
        replace(self, manifest=self.repository.manifest(self.tag) or {}).claim(claim)
        self.repository.tag(self.tag, json.dumps(document).encode())

    def _put(self, name: str, content: bytes) -> dict[str, Any]:
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        self.repository.put(digest, content)
        return _layer(name, digest, len(content))


def _name(annotations: Mapping[str, str]) -> str | None:
    """The path of a layer's file; None where a layer has many."""
    if annotations.get(_UNPACKED) == "true":
        return None
    return annotations.get(_FILE_PATH) or annotations.get(_TITLE)


def _layer(name: str, digest: str, size: int) -> dict[str, Any]:
    named = {"annotations": {_FILE_PATH: name}} if name else {}
    return {"mediaType": _LAYERS.get(Path(name).suffix, _OTHERS), "digest": digest, "size": size, **named}


def verified(local: Path, digest: str) -> bool:
    """Whether a file is the blob of this digest."""
    return local.exists() and f"sha256:{digests.of_file(local)}" == digest
