"""Where artifacts are published, each kind in a module of its own: claimed first, and whole once a manifest is there.

Used by the stage publish and by `published`, which brings artifacts back.
"""

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

from finetune_trainer.contract.published import Claim, Manifest


class Place(Protocol):
    """Where a revision's artifact lies. Its methods raise StageError, or what `fetch_errors` explains."""

    uri: str

    def claim(self, claim: Claim) -> None:
        """Make it ours, unless it is. Raises StageError where it is another's."""

    def read(self, name: str) -> bytes:
        """What a file there holds. Raises FileNotFoundError."""

    def get(self, name: str, local: Path) -> None:
        """Bring a file."""

    def write(self, claim: Claim, files: Mapping[str, Path], manifest: Manifest, told: Callable[[int], None]) -> None:
        """Have these files there, the manifest last, and none of another artifact. `claim`: for places where it is
        a part of what is written; `told`: how many are done.
        """


# The module of this package for each scheme that an artifact can be published to.
_MODULES = {"hf": "hub", "s3": "bucket", "gs": "bucket", "abfs": "bucket", "pvc": "bucket", "oci": "oci"}


class _Module(Protocol):
    def at(self, destination: str, revision: str, suffix: str, owner: str, secrets: dict[str, str]) -> Place: ...

    def found(self, uri: str, owner: str, secrets: dict[str, str]) -> Place: ...


def published_to(uri: str) -> bool:
    """Whether an artifact can be published to such an address."""
    return uri.partition("://")[0] in _MODULES


def at(destination: str, revision: str, suffix: str, owner: str, secrets: dict[str, str]) -> Place:
    """The place of a revision, or of what lies beside it, called like it and this suffix."""
    return _module(destination).at(destination, revision, suffix, owner, secrets)


def found(uri: str, owner: str, secrets: dict[str, str]) -> Place:
    """The place that has this address."""
    return _module(uri).found(uri, owner, secrets)


def _module(uri: str) -> _Module:
    return cast(_Module, import_module(f"{__name__}.{_MODULES[uri.partition('://')[0]]}"))
