"""s3://: s3fs, on botocore."""

from typing import Any

import aiohttp
import botocore.session
import s3fs
import s3fs.core
from botocore.exceptions import BotoCoreError, ClientError
from botocore.exceptions import ConnectionError as NotConnected

from finetune_trainer.contract.outcome import Outcome, StageError
from finetune_trainer.data import patience

# aiohttp's where a file breaks off.
ERRORS = (BotoCoreError, ClientError, aiohttp.ClientError)
MODIFIED = "LastModified"


def filesystem(owner: str, secrets: dict[str, str]) -> Any:
    """An s3fs.S3FileSystem. Raises StageError."""
    if not secrets.get("AWS_ENDPOINT_URL", "https://").startswith(("http://", "https://")):
        raise StageError(
            Outcome.CONFIG_INVALID,
            f"AWS_ENDPOINT_URL in the {owner}'s credentials is no URL: it has to begin with http:// or https://.",
        )
    given, patient = "AWS_ACCESS_KEY_ID" in secrets, patience.given()
    s3fs.core.set_custom_error_handler(_passes)
    found = s3fs.S3FileSystem(
        # Without keys: what the pod's service account or the machine gives, else as anybody.
        anon=not given and botocore.session.get_session().get_credentials() is None,
        key=secrets.get("AWS_ACCESS_KEY_ID"),
        secret=secrets.get("AWS_SECRET_ACCESS_KEY"),
        token=secrets.get("AWS_SESSION_TOKEN"),
        endpoint_url=secrets.get("AWS_ENDPOINT_URL"),
        # Once: s3fs tries again, and each of its tries would be botocore's five.
        config_kwargs={
            "connect_timeout": patient.silence,
            "read_timeout": patient.silence,
            "retries": {"mode": "standard", "total_max_attempts": 1},
        },
        client_kwargs={"region_name": secrets["AWS_REGION"]} if "AWS_REGION" in secrets else {},
        skip_instance_cache=True,
        use_listings_cache=False,
    )
    found.retries = patient.tries
    return found


def _passes(error: BaseException) -> bool:
    """Whether another try may end otherwise, beside what s3fs itself takes for such an error."""
    refused = isinstance(error, ClientError) and status(error)[0] in patience.PASSING
    return refused or isinstance(error, NotConnected)


def status(error: BaseException) -> tuple[int, str]:
    """The HTTP status and the code that an error speaks of."""
    # s3fs wraps what the server said.
    found = error if isinstance(error, ClientError) else error.__cause__
    if not isinstance(found, ClientError):
        return 0, ""
    answer = found.response
    return answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0), answer.get("Error", {}).get("Code", "")
