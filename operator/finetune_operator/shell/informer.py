"""Follows the objects of one kind: lists them page by page, then watches, and keeps the store up to date.

`__main__` starts one for each kind of ours and for each kind that is made for them. Every few minutes everything is
listed anew, so that nothing depends on a watch that never errs.
"""

import asyncio
import logging
import random
import sys
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any

from finetune_operator.shell.cluster import Cluster
from finetune_operator.shell.errors import Absent, Gone, Unavailable
from finetune_operator.shell.resources import Key, NamespacedName
from finetune_operator.shell.store import Store
from finetune_operator.shell.workqueue import backoff

logger = logging.getLogger(__name__)


class Informer:
    """One kind, in one namespace or in all. `changed` is called with each of ours that there is news for.

    `turns`: shared by all, so that few list at a time. A page takes tens of megabytes while it is read.
    """

    def __init__(
        self,
        cluster: Cluster,
        store: Store,
        kind: str,
        namespace: str | None,
        changed: Callable[[Key], None],
        resync_seconds: float,
        turns: asyncio.Semaphore,
    ) -> None:
        self._cluster = cluster
        self._store = store
        self._kind = kind
        self._namespace = namespace
        self._changed = changed
        self._resync_seconds = resync_seconds
        self._turns = turns
        # Set once the store has everything there was when it started.
        self.listed = asyncio.Event()

    async def run(self) -> None:
        """List and watch until cancelled."""
        while True:
            try:
                version = await self._persist(self.list)
                async with asyncio.timeout(self._resync_seconds * random.uniform(0.75, 1.25)):  # noqa: S311 (no secret)
                    await self._watch(version)
            except TimeoutError:
                continue
            except Gone:
                await asyncio.sleep(backoff(1))
            except Absent:
                self._forget_all()
                await asyncio.sleep(self._resync_seconds)

    async def _persist(self, call: Callable[[], Awaitable[int]]) -> int:
        """Call until the API server can answer."""
        failures = 0
        while True:
            try:
                return await call()
            except Unavailable as error:
                failures += 1
                logger.warning("The API server can't tell of every %s now, trying again: %s", self._kind, error)
                await asyncio.sleep(max(backoff(failures), error.seconds))

    def _forget_all(self) -> None:
        """The cluster does not have the kind, or not any more: it may be installed one day."""
        for raw in self._store.drop_unseen(self._kind, self._namespace, [], sys.maxsize):
            self._tell(raw)
        self.listed.set()

    async def list(self) -> int:
        """Bring the store up to date with everything that there is; the version of that."""
        async with self._turns:
            return await self._list()

    async def _list(self) -> int:
        seen: list[NamespacedName] = []
        listed = 0
        async for page, version in self._cluster.list(self._kind, self._namespace):
            for raw in page:
                seen.append(NamespacedName(raw["metadata"]["namespace"], raw["metadata"]["name"]))
                self._put(raw)
            listed = version
            # Tens of megabytes, which need not stay while the next page is read.
            page.clear()
            # A page takes a while to read; others have something to do, too.
            await asyncio.sleep(0)
        for raw in self._store.drop_unseen(self._kind, self._namespace, seen, listed):
            self._tell(raw)
        self.listed.set()
        return listed

    async def _watch(self, version: int) -> None:
        """Go on from a version, through as many watches as it takes."""

        async def once() -> int:
            nonlocal version
            async with aclosing(self._cluster.watch(self._kind, self._namespace, version)) as events:
                async for kind, raw in events:
                    version = int(raw["metadata"]["resourceVersion"])
                    self._heed(kind, raw)
            return version

        while True:
            await self._persist(once)

    def _heed(self, event: str, raw: Mapping[str, Any]) -> None:
        match event:
            case "ADDED" | "MODIFIED":
                self._put(raw)
            case "DELETED":
                metadata = raw["metadata"]
                if self._store.drop(
                    self._kind, NamespacedName(metadata["namespace"], metadata["name"]), metadata["uid"]
                ):
                    self._tell(raw)

    def _put(self, raw: Mapping[str, Any]) -> None:
        if self._store.put(self._kind, raw):
            self._tell(raw)

    def _tell(self, raw: Mapping[str, Any]) -> None:
        if key := self._store.owner_of(self._kind, raw):
            self._changed(key)
