"""abfs://: adlfs, on Azure's own client."""

from typing import Any

from adlfs import AzureBlobFileSystem
from azure.core.exceptions import AzureError, ClientAuthenticationError, HttpResponseError

from finetune_trainer.contract.outcome import Outcome, StageError

ERRORS = (AzureError,)
MODIFIED = "last_modified"
_PREFIX = "AZURE_STORAGE_"


def filesystem(owner: str, secrets: dict[str, str]) -> Any:
    """An adlfs.AzureBlobFileSystem, whose arguments are called like the keys. Raises StageError."""
    given = {key.removeprefix(_PREFIX).lower(): value for key, value in secrets.items() if key.startswith(_PREFIX)}
    try:
        return AzureBlobFileSystem(
            # Without a key: what the pod's identity or the machine gives.
            anon=False,
            skip_instance_cache=True,
            use_listings_cache=False,
            **given,
        )
    except ValueError:
        # Not chained: what the library says of it may quote it.
        raise StageError(
            Outcome.CONFIG_INVALID,
            f"The {owner}'s credentials are none of a storage account: they have to hold "
            "AZURE_STORAGE_CONNECTION_STRING as Azure gives it out, or AZURE_STORAGE_ACCOUNT_NAME with a key, a SAS "
            "token or a service principal.",
        ) from None


def status(error: BaseException) -> tuple[int, str]:
    """The HTTP status that an error speaks of."""
    if isinstance(error, HttpResponseError) and error.status_code:
        return int(error.status_code), ""
    return (403 if isinstance(error, ClientAuthenticationError) else 0), ""
