"""What a client is told when something is refused: a status, and a sentence in OpenAI's shape.

Raised anywhere in the server; `app` turns it into the answer.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


class Problem(Exception):
    """A request that can't be answered. `param`: the parameter that is wrong; `code`: one word for programs.

    `headers`: what the answer has beside its body, such as when to try again. `client`: what OpenAI's client calls what
    is to be given, for those who come with it; the page has no such words.
    """

    def __init__(
        self,
        status: int,
        message: str,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
        client: str = "",
    ) -> None:
        super().__init__(message)
        self.client = client
        self.status, self.message, self.param, self.code = status, message, param, code
        self.headers = dict(headers or {})

    def document(self) -> dict[str, Any]:
        """The answer's body, as OpenAI's client reads it."""
        kind = "server_error" if self.status >= 500 else _TYPES.get(self.status, "invalid_request_error")
        message = _with_client(self.message, self.client) if self.client else self.message
        return {"error": {"message": message, "type": kind, "param": self.param, "code": self.code}}


def missing(kind: str, name: str, param: str | None = None) -> Problem:
    """There is no such object, or it is another namespace's: the answer is the same. None has an empty name."""
    said = f"No such {kind}: {name}." if name else f"The name of the {kind} is empty: give one."
    return Problem(404, said, param, "not_found")


def _with_client(message: str, client: str) -> str:
    return f"{message.removesuffix('.')} (OpenAI's client: {client})."


def on_the_page(message: str) -> str:
    """What an answer of a route says, without what OpenAI's client calls it."""
    return re.sub(r" \(OpenAI's client: \w+\)\.$", ".", message)


def invalid(error: ValidationError) -> Problem:
    """Parameters that are wrong, each with its name; `param` is the first one's."""
    errors = error.errors()
    return Problem(400, " ".join(map(_sentence, errors)), _path(errors[0]["loc"]) or None)


def _sentence(error: ErrorDetails) -> str:
    name = _path(error["loc"]) or "The request"
    match error["type"]:
        case "json_invalid":
            return f"The request's body is not JSON: {error['ctx']['error']}."
        case "missing":
            return f"{name} is required."
        case "extra_forbidden":
            return f"{name} is not known here, and nothing is ignored: remove it."
    said = error["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    return f"{name} {said[:1].lower()}{said[1:]}."


def _path(location: Sequence[int | str]) -> str:
    return ".".join(_parts(location))


def _parts(location: Iterable[int | str]) -> Iterable[str]:
    return (str(part) for part in location)
