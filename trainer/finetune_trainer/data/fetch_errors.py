"""What the hub's and the bucket's errors mean to the user.

Called by `fetch`, around everything that goes over the network.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from finetune_trainer.contract.outcome import DISK_FULL, Outcome, StageError
from finetune_trainer.contract.redaction import redacted
from finetune_trainer.contract.schemes import scheme_of
from finetune_trainer.data import bucket

# Codes that say less with their HTTP status than they mean (versitygw's 404 for a key that it doesn't know).
DENIED_CODES = ("InvalidAccessKeyId", "XAdminUserNotFound")
ABSENT_CODES = ("NoSuchBucket", "NoSuchKey", "InvalidBucketName")
TOO_MANY = 429


@dataclass(frozen=True)
class Access:
    """What is read or written, for whom (model, dataset or output), and with what credentials."""

    uri: str
    owner: str
    secrets: dict[str, str] = field(repr=False)

    @property
    def _key(self) -> str:
        """The one that lets in, or would."""
        scheme = scheme_of(self.uri)
        entry = scheme.entry if scheme else ()
        return next((key for key in entry if key in self.secrets), next(iter(entry), "key"))

    @property
    def advice(self) -> str:
        """What to do about a refusal."""
        if self.uri.startswith("https://"):
            return "it can be had only by those who log in, which https:// can't; put it into a bucket, for example"
        if self._key in self.secrets:
            return f"the {self._key} given for the {self.owner} has no right to it: see the Secret in its credentials"
        return (
            f"no {self._key} is given: name a Secret that holds one in the {self.owner}'s credentials (`finetune run` "
            "takes it from the environment)"
        )


@contextmanager
def explained(access: Access) -> Iterator[None]:
    """Turn the libraries' errors into sentences that name the URI; those of our own disk are `stage`'s to explain."""
    try:
        yield
    except _errors(access) as error:
        if isinstance(error, OSError) and _of_this_machine(error):
            raise
        raise _explain(access, error) from error


def _errors(access: Access) -> tuple[type[Exception], ...]:
    """What libraries raise where the other side is to blame."""
    asked = bucket.imported(access.uri)
    return (OSError, httpx.HTTPError, HFValidationError, *(asked.ERRORS if asked else ()))


def _of_this_machine(error: OSError) -> bool:
    """Whether it is about our own disk: adlfs names objects where others name files, and those here are absolute."""
    return error.errno in DISK_FULL or Path(error.filename or "").is_absolute()


def _explain(access: Access, error: Exception) -> StageError:
    uri = access.uri
    # The more special error first: the hub's are each other's subclasses.
    match error:
        case GatedRepoError():
            return StageError(Outcome.ACCESS_DENIED, f"{uri} is gated: accept its terms on the hub; {access.advice}.")
        case RepositoryNotFoundError():
            return StageError(Outcome.NOT_FOUND, f"{uri} does not exist, or is private and {access.advice}.")
        case RevisionNotFoundError():
            where = "model.revision" if access.owner == "model" else "what follows the @"
            return StageError(Outcome.NOT_FOUND, f"{uri} has no such revision: see {where}.")
        case LocalEntryNotFoundError():
            # The hub's client looked for a local copy because the hub gave no answer that it knows.
            return _by_status(access, error.__cause__ or error)
        case EntryNotFoundError() | FileNotFoundError() | HFValidationError():
            return StageError(Outcome.NOT_FOUND, f"{uri} does not exist.")
    return _by_status(access, error)


def _by_status(access: Access, error: BaseException) -> StageError:
    status, code = _status(access, error)
    if status in (401, 403) or code in DENIED_CODES:
        return StageError(Outcome.ACCESS_DENIED, f"{access.uri} was refused: {access.advice}.")
    if status == 404 or code in ABSENT_CODES:
        return StageError(Outcome.NOT_FOUND, f"{access.uri} does not exist.")
    return _unreachable(access.uri, status, error)


def _status(access: Access, error: BaseException) -> tuple[int, str]:
    """The HTTP status and the code that an error speaks of."""
    if isinstance(error, HfHubHTTPError | httpx.HTTPStatusError):
        return error.response.status_code, ""
    if isinstance(error, PermissionError):
        return 403, ""
    asked = bucket.imported(access.uri)
    return asked.status(error) if asked else (0, "")


def _unreachable(uri: str, status: int, error: BaseException) -> StageError:
    if status == TOO_MANY:
        why = "its server says that it is asked too often (429). Try again later, or have its limit raised"
    else:
        lines = redacted(str(error)).strip().splitlines()
        said = lines[0].rstrip(".") if lines else type(error).__name__
        if status and str(status) not in said:
            said = f"{said} ({status})"
        why = f"{said}. See whether its server is well and answers here, and try again"
    return StageError(Outcome.UNAVAILABLE, f"{uri} could not be reached: {why}.")
