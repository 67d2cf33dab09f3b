"""Who asks, in which namespace, and for how much.

`callers` knows those of a cluster, `finetune serve` whoever sits at a laptop.
"""

from dataclasses import dataclass
from typing import Protocol

from starlette.datastructures import Headers

from finetune_server.errors import Problem
from finetune_server.keys import Right
from finetune_server.limits import Limits

HOW = "send the key that you were given as Authorization: Bearer KEY"
# OpenAI's word for where somebody's things are; its client sends what it is given as project.
PROJECT = "OpenAI-Project"


class Account(Protocol):
    """Somebody with an account in a cluster, which says itself what they may do."""

    @property
    def token(self) -> str:
        """What they showed, and what is done for them is done with."""

    async def need(self, right: Right, namespace: str) -> None:
        """Raises Problem where they may not."""


@dataclass(frozen=True)
class Caller:
    """Somebody who is known. `name`: the key's entry, or the account. `namespace`: where everything of theirs is."""

    name: str
    namespace: str
    limits: Limits
    rights: frozenset[Right] = frozenset()
    account: Account | None = None

    async def need(self, right: Right) -> None:
        """Raises Problem where they may not."""
        if self.account:
            await self.account.need(right, self.namespace)
        elif right not in self.rights:
            raise Problem(
                403, f"This key has no right to {right}: ask for one whose entry has it among its rights.", code="right"
            )

    async def need_rows(self) -> None:
        """Raises Problem where they may not see rows: an account that may only look at jobs sees none with kubectl."""
        if self.account:
            await self.need(Right.WRITE)


def key_of(headers: Headers) -> str:
    """OpenAI's header, or Azure's; empty where neither has a key."""
    scheme, _, key = headers.get("authorization", "").partition(" ")
    found = key.strip() if scheme.lower() == "bearer" else ""
    return found or headers.get("api-key", "").strip()


def elsewhere(account: str | None, home: str) -> str:
    """What to do about a namespace that is not `home`: it was named in the path as `account`, or else in the header."""
    return f"the account in the path is {home}" if account else f"leave {PROJECT} out"


def no_key() -> Problem:
    """There is none where one is asked for."""
    return Problem(401, f"There is no key in the request: {HOW}.", code="invalid_api_key", client="api_key")


def unknown_key(nor: str = "") -> Problem:
    """There is one that opens nothing."""
    return Problem(401, f"The key is not known here{nor}: {HOW}.", code="invalid_api_key", client="api_key")
