"""Which of several operators works: the one that holds the Lease. `__main__` wraps the queue's workers in `lead`.

client-go's rules: the leader renews its Lease every RETRY_PERIOD and ends once it could not for RENEW_DEADLINE; another
takes over a Lease that has not changed for LEASE_DURATION, by its own clock from when it saw the last change. One rule
is stricter: the leader reckons from before it sent the renewal, so that a slow answer can't stretch its term.

Why not `kubernetes.aio.leaderelection` (37.0): a request without an answer holds its renewal up for minutes, while the
work goes on beside a second leader; cancelled, it leaves the work running; work that fails is not noticed; it neither
releases the Lease nor counts transitions, writes local time as UTC, loses times whose microseconds are zero, and logs
each conflict with a traceback. What would be left after mending that is less than this module.
"""

import asyncio
import logging
import random
import socket
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from finetune_operator.shell import metrics
from finetune_operator.shell.cluster import Cluster
from finetune_operator.shell.errors import Refused, Unavailable
from finetune_operator.shell.resources import LEASE

logger = logging.getLogger(__name__)

# Seconds, client-go's.
LEASE_DURATION, RENEW_DEADLINE, RETRY_PERIOD = 15, 10.0, 2.0
# A request that hangs is given up early enough for a second one, by another connection, before the deadline.
ATTEMPT_TIMEOUT, RELEASE_TIMEOUT = 4.0, 2.0


class LeaseLost(Exception):
    """This operator leads no more, and must not go on."""


@dataclass(frozen=True)
class LeaseRecord:
    """What a Lease says, and since when, by this process's own clock, it is known to say so."""

    holder: str
    duration: float
    acquired: str | None
    renewed: str | None
    transitions: int
    since: float


def observe(spec: Mapping[str, Any], before: LeaseRecord | None, now: float) -> LeaseRecord:
    """A Lease's spec as it was read; any field may be missing."""
    found = LeaseRecord(
        holder=spec.get("holderIdentity") or "",
        duration=spec.get("leaseDurationSeconds") or LEASE_DURATION,
        acquired=spec.get("acquireTime"),
        renewed=spec.get("renewTime"),
        transitions=spec.get("leaseTransitions") or 0,
        since=now,
    )
    return before if before and before == replace(found, since=before.since) else found


def seconds_until_free(record: LeaseRecord | None, identity: str, now: float) -> float:
    """How long `identity` must leave the Lease alone; 0 when it may take or renew it."""
    if record is None or record.holder in ("", identity):
        return 0.0
    return max(0.0, record.since + record.duration - now)


def claim(record: LeaseRecord | None, identity: str, now: datetime) -> dict[str, Any]:
    """The spec with which `identity` takes or renews the Lease."""
    moment = now.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    spec = {"holderIdentity": identity, "leaseDurationSeconds": LEASE_DURATION, "renewTime": moment}
    if record is None:
        return spec | {"acquireTime": moment, "leaseTransitions": 0}
    if record.holder == identity:
        return spec | {"acquireTime": record.acquired, "leaseTransitions": record.transitions}
    return spec | {"acquireTime": moment, "leaseTransitions": record.transitions + 1}


def pause(spread: Callable[[], float] = random.random) -> float:
    """Seconds between two attempts: RETRY_PERIOD or up to half less, so that two operators don't keep step."""
    return RETRY_PERIOD * (1 - spread() / 2)


class Lease:
    """The Lease as one operator sees it."""

    def __init__(self, cluster: Cluster, namespace: str, name: str) -> None:
        self.ref = f"Lease {namespace}/{name}"
        # A container that is started again is another candidate: of its predecessor's writes it knows nothing.
        self.identity = f"{socket.gethostname()}_{uuid.uuid4()}"
        self.until = 0.0
        self._cluster = cluster
        self._metadata: dict[str, str] = {"namespace": namespace, "name": name}
        self._record: LeaseRecord | None = None

    @property
    def holder(self) -> str:
        """Who held it when it was last seen; empty for nobody."""
        return self._record.holder if self._record else ""

    @property
    def wait(self) -> float:
        """Seconds until it may be taken; 0 when it may be now."""
        return seconds_until_free(self._record, self.identity, time.monotonic())

    def held(self) -> bool:
        """Whether it is ours, and nobody else can have taken it yet."""
        return time.monotonic() < self.until

    async def rest(self, seconds: float) -> None:
        """Until another attempt is due: in so many seconds, or as soon as it may be taken."""
        await asyncio.sleep(min(seconds, self.wait or seconds))

    async def attempt(self) -> bool:
        """Take or renew it if that is allowed; whether it is ours now. Refused when the API server won't have it."""
        start = time.monotonic()
        try:
            async with asyncio.timeout(ATTEMPT_TIMEOUT):
                await self._look()
                taken = self.wait == 0 and await self._write(claim(self._record, self.identity, datetime.now(UTC)))
        except (Unavailable, TimeoutError) as error:
            logger.warning("%s: the API server does not answer: %s", self.ref, error or "not in time")
            return False
        if taken:
            self.until = start + RENEW_DEADLINE
        return taken

    async def release(self) -> None:
        """Give it back, so that the next one need not wait; without an answer the next one does."""
        self.until = 0.0
        try:
            async with asyncio.timeout(RELEASE_TIMEOUT):
                await self._look()
                if self.holder == self.identity:
                    spec = claim(self._record, self.identity, datetime.now(UTC))
                    await self._write(spec | {"holderIdentity": "", "leaseDurationSeconds": 1})
        except (Unavailable, Refused, TimeoutError) as error:
            logger.warning("%s could not be given back: %s", self.ref, error or "no answer in time")

    async def _look(self) -> None:
        before = self.holder
        found = await self._cluster.read_lease(self._metadata["namespace"], self._metadata["name"])
        self._remember(found)
        if self.holder not in (before, self.identity, ""):
            logger.info("%s is held by %s", self.ref, self.holder)

    async def _write(self, spec: dict[str, Any]) -> bool:
        lease = {"apiVersion": LEASE.api_version, "kind": "Lease", "metadata": self._metadata, "spec": spec}
        written = await self._cluster.write_lease(lease)
        if written is not None:
            self._remember(written)
        return written is not None

    def _remember(self, lease: dict[str, Any] | None) -> None:
        """What it says, and the version to replace."""
        self._metadata = {key: self._metadata[key] for key in ("namespace", "name")}
        if lease is None:
            self._record = None
            return
        self._metadata["resourceVersion"] = lease["metadata"]["resourceVersion"]
        self._record = observe(lease.get("spec") or {}, self._record, time.monotonic())


async def lead(lease: Lease | None, work: Callable[[], Awaitable[None]]) -> None:
    """Wait for the Lease, work while it is held, and give it back; without a Lease, just work.

    LeaseLost when it is held no more. The work is cancelled before the Lease can be anybody else's.
    """
    if lease is None:
        metrics.LEADER.set(1)
        return await work()
    await _acquire(lease)
    logger.info("%s is held: this operator leads", lease.ref)
    metrics.LEADER.set(1)
    working, keeping = asyncio.ensure_future(work()), asyncio.ensure_future(_keep(lease))
    try:
        await asyncio.wait({working, keeping}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        ended = [task for task in (keeping, working) if task.done()]
        working.cancel()
        keeping.cancel()
        await asyncio.wait({working, keeping})
        metrics.LEADER.set(0)
        if lease.held():
            await lease.release()
    for task in ended:
        await task
    return None


async def _acquire(lease: Lease) -> None:
    while not await lease.attempt():
        # Twice as often as it is renewed: it may have been given back.
        await lease.rest(pause() / 2)


async def _keep(lease: Lease) -> None:
    """Renew it until it is lost."""
    try:
        while True:
            async with asyncio.timeout_at(lease.until):
                await _renew(lease)
    except TimeoutError:
        raise LeaseLost(f"{lease.ref} could not be renewed for {RENEW_DEADLINE:.0f} s") from None


async def _renew(lease: Lease) -> None:
    await lease.rest(pause())
    while not await lease.attempt():
        if lease.holder not in ("", lease.identity):
            lease.until = 0.0
            raise LeaseLost(f"{lease.ref} was taken by {lease.holder}")
        await lease.rest(pause())
