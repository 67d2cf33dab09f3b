"""Who asks `finetune-api`: somebody with a key of ours, or with an account in the cluster.

`app` asks at each request, before anything else is looked at.
"""

import re

from finetune_operator.api.values import SUBDOMAIN
from starlette.datastructures import Headers

from finetune_server.accounts import Accounts
from finetune_server.caller import PROJECT, Caller, elsewhere, key_of, no_key, unknown_key
from finetune_server.errors import Problem
from finetune_server.keys import Keys
from finetune_server.limits import Limits


class ClusterCallers:
    """All who may come. `accounts` is None where those of the cluster are not let in."""

    def __init__(self, keys: Keys, accounts: Accounts | None, limits: Limits) -> None:
        self._keys, self._accounts, self._limits = keys, accounts, limits

    async def find(self, headers: Headers, namespace: str | None = None) -> Caller:
        """Whose key, or token, a request has; `namespace` is what its path names. Raises Problem."""
        key, asked = key_of(headers), namespace or headers.get(PROJECT)
        if not key:
            raise no_key()
        if found := self._keys.find(key):
            name, entry = found
            home = entry.namespace
            if asked not in (None, home):
                sentence = f"This key opens namespace {home}, and not {asked}: {elsewhere(namespace, home)}."
                raise Problem(403, sentence, code="namespace")
            return Caller(name, home, entry.limited(self._limits), entry.rights)
        account = await self._accounts.find(key) if self._accounts else None
        if account is None:
            raise unknown_key(", and no token of the cluster's" if self._accounts else "")
        where = asked or account.home
        if len(where) > 63 or not re.fullmatch(SUBDOMAIN, where):
            raise Problem(400, f"{where[:80]!r} is no name of a namespace.", code="namespace")
        return Caller(account.name, where, self._limits, account=account)
