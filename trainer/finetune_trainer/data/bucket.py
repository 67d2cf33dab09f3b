"""Buckets and what is needed to ask them: the credentials of whoever it is asked for, and a file system made with them.

`fetch` reads by it, `places` publish.
"""

import os
import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any, Protocol, cast

from finetune_trainer.contract.outcome import Outcome, StageError
from finetune_trainer.contract.schemes import CREDENTIAL_KEYS, scheme_of


class Library(Protocol):
    """A module of `filesystems`. `MODIFIED`: where an object's listing says when it was written."""

    ERRORS: tuple[type[Exception], ...]
    MODIFIED: str

    def filesystem(self, owner: str, secrets: dict[str, str]) -> Any:
        """The fsspec file system. Raises StageError."""

    def status(self, error: BaseException) -> tuple[int, str]:
        """The HTTP status and the code that an error speaks of; zero where it speaks of none."""


def credentials(owner: str, environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The credentials for model, dataset or output: FINETUNE_<OWNER>_<KEY>, else the plain key."""
    found = {key: environment.get(f"FINETUNE_{owner.upper()}_{key}") or environment.get(key) for key in CREDENTIAL_KEYS}
    return {key: value for key, value in found.items() if value}


def filesystem(uri: str, owner: str, secrets: dict[str, str]) -> Any:
    """The fsspec file system that has an address. Raises StageError."""
    return library(uri).filesystem(owner, secrets)


def library(uri: str) -> Library:
    """What asks for an address. Raises StageError where it is not installed."""
    scheme = scheme_of(uri)
    if scheme is None:
        raise StageError(Outcome.CONFIG_INVALID, f"{uri} is no address that is known here.")
    # Half a second to import, which only a bucket is worth.
    try:
        return cast(Library, import_module(_module(uri)))
    except ModuleNotFoundError as error:
        raise StageError(
            Outcome.CONFIG_INVALID,
            f"{uri} needs {scheme.library}, which is not installed: build the trainer's image with the extra "
            f"{scheme.extra}, or on a laptop pip install 'finetune-operator[{scheme.extra}]'.",
        ) from error


def imported(uri: str) -> Library | None:
    """What asked for an address, if it did."""
    return cast(Library | None, sys.modules.get(_module(uri)))


def _module(uri: str) -> str:
    return f"finetune_trainer.data.filesystems.{uri.partition('://')[0]}"
