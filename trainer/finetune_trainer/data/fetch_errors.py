"""What the hub's and the bucket's errors mean to the user.

Called by `fetch`, around everything that goes over the network.
"""

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx
from botocore.exceptions import BotoCoreError, ClientError
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from finetune_trainer.contract.outcome import Outcome, StageError

# Codes that say less with their HTTP status than they mean (versitygw's 404 for a key that it doesn't know).
DENIED_CODES = ("InvalidAccessKeyId", "XAdminUserNotFound")
# What follows the path of an address: a signed one's signature is there.
_SIGNATURE = re.compile(r"(?<=[\w/])\?[^\s'\"]+=[^\s'\"]*")
ABSENT_CODES = ("NoSuchBucket", "NoSuchKey", "InvalidBucketName")


@dataclass(frozen=True)
class Access:
    """What is read, and with what. `owner`: model or dataset; `key`: of the credentials; `given`: whether it was."""

    uri: str
    owner: str
    key: str
    given: bool

    @property
    def advice(self) -> str:
        """What to do about a refusal."""
        if self.given:
            return f"the {self.key} given for the {self.owner} has no right to it: see the Secret in its credentials"
        return (
            f"no {self.key} is given: name a Secret that holds one in the {self.owner}'s credentials (`finetune run` "
            "takes it from the environment)"
        )


@contextmanager
def explained(access: Access) -> Iterator[None]:
    """Turn the libraries' errors into sentences that name the URI; those of our own disk are `stage`'s to explain."""
    try:
        yield
    except (OSError, httpx.HTTPError, BotoCoreError, ClientError, HFValidationError) as error:
        if isinstance(error, OSError) and (error.errno in (errno.ENOSPC, errno.EDQUOT) or error.filename is not None):
            raise
        raise _explain(access, error) from error


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
    status, code = _status(error)
    if status in (401, 403) or code in DENIED_CODES:
        return StageError(Outcome.ACCESS_DENIED, f"{access.uri} was refused: {access.advice}.")
    if status == 404 or code in ABSENT_CODES:
        return StageError(Outcome.NOT_FOUND, f"{access.uri} does not exist.")
    return _unreachable(access.uri, error)


def _status(error: BaseException) -> tuple[int, str]:
    """The HTTP status and the code that an error speaks of."""
    if isinstance(error, HfHubHTTPError | httpx.HTTPStatusError):
        return error.response.status_code, ""
    if isinstance(error, ClientError):
        answer = error.response
        return answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0), answer.get("Error", {}).get("Code", "")
    if isinstance(error, PermissionError):
        return 403, ""
    # s3fs wraps what the server said.
    return _status(error.__cause__) if isinstance(error.__cause__, ClientError) else (0, "")


def _unreachable(uri: str, error: BaseException) -> StageError:
    lines = _SIGNATURE.sub("", str(error)).strip().splitlines()
    why = lines[0].rstrip(".") if lines else type(error).__name__
    return StageError(Outcome.UNAVAILABLE, f"{uri} could not be reached: {why}.")
