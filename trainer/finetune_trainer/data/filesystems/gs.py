"""gs://: gcsfs, on aiohttp."""

import json
from typing import Any

from aiohttp import ClientError
from gcsfs.core import GCSFileSystem
from gcsfs.retry import HttpError
from google.auth.exceptions import GoogleAuthError

from finetune_trainer.contract.outcome import Outcome, StageError

ERRORS = (HttpError, ClientError, GoogleAuthError)
MODIFIED = "mtime"
_KEY = "GOOGLE_APPLICATION_CREDENTIALS_JSON"


def filesystem(owner: str, secrets: dict[str, str]) -> Any:
    """A gcsfs.GCSFileSystem. Raises StageError."""
    try:
        return GCSFileSystem(
            # Without one: what the pod's service account or the machine gives, else as anybody.
            token=json.loads(secrets[_KEY]) if _KEY in secrets else None,
            access="read_write",
            endpoint_url=secrets.get("STORAGE_EMULATOR_HOST"),
            skip_instance_cache=True,
            use_listings_cache=False,
        )
    except (ValueError, KeyError):
        # Not chained: what the library says of it may quote it.
        raise StageError(
            Outcome.CONFIG_INVALID,
            f"{_KEY} in the {owner}'s credentials is no key of a service account: it has to hold the JSON file that "
            "Google gave out for it.",
        ) from None


def status(error: BaseException) -> tuple[int, str]:
    """The HTTP status that an error speaks of."""
    if isinstance(error, HttpError):
        return int(error.code or 0), ""
    # What the token's own server refuses, and what gcsfs makes of 403.
    if isinstance(error, GoogleAuthError) or str(error).startswith("Forbidden:"):
        return 403, ""
    return 0, ""
