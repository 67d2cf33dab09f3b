"""Who may look: a key, or a laptop's token, that a cookie brings back. Nothing of it is kept in the process.

The cookie is not seen by scripts and sent by no other site. Whoever changes something brings a word with it that is
made from the secret, and that no other page can know.
"""

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error
from hashlib import sha256
from typing import Protocol

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from finetune_server.errors import Problem
from finetune_server.ui.place import Place
from finetune_server.ui.render import ROOT

# What a browser says of where a request comes from; old ones say nothing.
_OWN = ("same-origin", "none", "")
# Everything comes from here, and nothing is written into the page that would run or paint.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
# A report has its styles within it, and no script.
REPORT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'; sandbox"
_HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


class Door(Protocol):
    """Lets people in by a secret."""

    @property
    def cookie(self) -> str:
        """The cookie's name."""

    @property
    def prompt(self) -> str:
        """What a person is asked for."""

    @property
    def by_address(self) -> bool:
        """Whether the secret may stand in the address (?token=…), as a program prints it."""

    @property
    def namespaces(self) -> bool:
        """Whether a secret may open several namespaces, of which its owner names one in a second line of it."""

    async def enter(self, app: Starlette, secret: str) -> Place:
        """What this secret opens. Raises Problem where that is nothing."""


def secret_of(door: Door, request: Request) -> str:
    """What the cookie has; empty where there is none."""
    try:
        return urlsafe_b64decode(request.cookies.get(door.cookie, "")).decode()
    except (Error, UnicodeDecodeError, ValueError):
        return ""


def keep(door: Door, request: Request, response: Response, secret: str) -> None:
    """Have the browser bring it from now on, until it is closed."""
    # TLS may end in front of this server.
    https = "https" in (request.url.scheme, request.headers.get("x-forwarded-proto"))
    value = urlsafe_b64encode(secret.encode()).decode()
    response.set_cookie(door.cookie, value, path=ROOT, httponly=True, samesite="strict", secure=https)


def forget(door: Door, response: Response) -> None:
    """Have the browser bring it no more."""
    response.delete_cookie(door.cookie, path=ROOT, httponly=True, samesite="strict")


def csrf(secret: str) -> str:
    """The word that a form brings with what it changes."""
    return hmac.new(secret.encode(), b"finetune-ui", sha256).hexdigest()


def own(request: Request) -> None:
    """Raises Problem for what another site's page sends."""
    if request.headers.get("sec-fetch-site", "") not in _OWN:
        raise Problem(403, "This came from another site's page, and is not done: open the page and do it there.")


def meant(request: Request, secret: str, word: object) -> None:
    """Raises Problem for what no form of ours sends."""
    own(request)
    if not hmac.compare_digest(str(word).encode(), csrf(secret).encode()):
        raise Problem(403, "The form is another login's, and nothing is done: reload the page and send it again.")


def guarded(response: Response, policy: str = POLICY) -> Response:
    """The answer, with what keeps a browser strict."""
    response.headers.update(_HEADERS | {"Content-Security-Policy": policy})
    return response
