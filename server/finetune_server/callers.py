"""Who asks, in which namespace, and for how much: somebody with a key of ours, or with an account in the cluster.

`app` asks at each request, before anything else is looked at.
"""

import re
from dataclasses import dataclass

from finetune_operator.api.values import SUBDOMAIN
from starlette.datastructures import Headers

from finetune_server.accounts import Account, Accounts
from finetune_server.errors import Problem
from finetune_server.keys import Keys, Right
from finetune_server.limits import Limits

_HOW = "send the key that you were given as Authorization: Bearer KEY (OpenAI's client: api_key)"
# OpenAI's word for where somebody's things are; its client sends what it is given as project.
_PROJECT = "OpenAI-Project"


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


class Callers:
    """All who may come. `accounts` is None where those of the cluster are not let in."""

    def __init__(self, keys: Keys, accounts: Accounts | None, limits: Limits) -> None:
        self._keys, self._accounts, self._limits = keys, accounts, limits

    async def find(self, headers: Headers, namespace: str | None = None) -> Caller:
        """Whose key, or token, a request has; `namespace` is what its path names. Raises Problem."""
        key, asked = _key(headers), namespace or headers.get(_PROJECT)
        if found := self._keys.find(key):
            name, entry = found
            if asked not in (None, entry.namespace):
                raise Problem(
                    403,
                    f"This key opens namespace {entry.namespace}, and not {asked}: leave {_PROJECT} out.",
                    code="namespace",
                )
            return Caller(name, entry.namespace, entry.limited(self._limits), entry.rights)
        account = await self._accounts.find(key) if self._accounts else None
        if account is None:
            nor = ", and no token of the cluster's" if self._accounts else ""
            raise Problem(401, f"The key is not known here{nor}: {_HOW}.", code="invalid_api_key")
        where = asked or account.home
        if len(where) > 63 or not re.fullmatch(SUBDOMAIN, where):
            raise Problem(400, f"{where[:80]!r} is no name of a namespace.", code="namespace")
        return Caller(account.name, where, self._limits, account=account)


def _key(headers: Headers) -> str:
    """OpenAI's header, or Azure's. Raises Problem."""
    scheme, _, key = headers.get("authorization", "").partition(" ")
    found = key.strip() if scheme.lower() == "bearer" else ""
    found = found or headers.get("api-key", "").strip()
    if not found:
        raise Problem(401, f"There is no key in the request: {_HOW}.", code="invalid_api_key")
    return found
