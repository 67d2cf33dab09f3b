"""https://: one file on a web server, asked by httpx. There is no listing of others, and nobody logs in."""

from collections.abc import Callable
from typing import Any

import httpx

from finetune_trainer.contract.outcome import Outcome, StageError
from finetune_trainer.data import patience

ERRORS = (httpx.HTTPError,)
# No listing has it.
MODIFIED = ""
_PIECE = 2**20


def filesystem(owner: str, secrets: dict[str, str]) -> Any:
    """What of an fsspec file system a single file takes."""
    return _Server()


def status(error: BaseException) -> tuple[int, str]:
    """The HTTP status that an error speaks of."""
    return (error.response.status_code if isinstance(error, httpx.HTTPStatusError) else 0), ""


class _Server:
    @patience.persistent
    def get_file(self, path: str, local: str) -> None:
        """Bring HOST/PATH. Raises StageError where it leads to what is not encrypted."""
        with (
            httpx.Client(
                timeout=patience.given().timeout, follow_redirects=True, event_hooks=_hooks(f"https://{path}")
            ) as client,
            # Compressed files are read by their ending, and not by what a server says of how it sends them.
            client.stream("GET", f"https://{path}", headers={"Accept-Encoding": "identity"}) as answer,
            open(local, "wb") as file,
        ):
            for piece in answer.raise_for_status().iter_raw(_PIECE):
                file.write(piece)


def _hooks(uri: str) -> dict[str, list[Callable[..., Any]]]:
    """Before each request, redirected or not: none goes to a server that proves nothing."""

    def encrypted(request: httpx.Request) -> None:
        if request.url.scheme != "https":
            raise StageError(
                Outcome.ACCESS_DENIED,
                f"{uri} leads to http://{request.url.host}, which is not encrypted: name where the file lies.",
            )

    return {"request": [encrypted]}
