"""The thin shell around plan(): look at the world, decide, act, say so. Called by `workqueue`, one job at a time.

Killed between any two calls it changes nothing about where things end: the next call looks again.
"""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import httpx
from finetune_trainer.report import STATUS_PORT, Progress
from pydantic import ValidationError

from finetune_operator.finetunejob.plan import plan, poll_address, refused
from finetune_operator.finetunejob.stages.base import Action, Apply, Delete, Suspend
from finetune_operator.settings import Settings
from finetune_operator.shell import metrics
from finetune_operator.shell.cluster import Cluster, Key
from finetune_operator.shell.errors import Refused

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reconciler:
    """What a reconcile needs of the world outside."""

    cluster: Cluster
    settings: Settings
    progress: Callable[[str], Awaitable[Progress | None]]

    async def __call__(self, key: Key) -> float | None:
        """Bring one FineTuneJob a step closer; the seconds until the next look, or None to wait for an event."""
        snapshot = await self.cluster.snapshot(key)
        if snapshot is None:
            metrics.forget(key)
            return None
        if address := poll_address(snapshot):
            snapshot = replace(snapshot, progress=await self.progress(address))
        now = datetime.now(UTC)
        planned = plan(snapshot, self.settings, now)
        try:
            for action in planned.actions:
                await self._act(key, action)
        except Refused as error:
            planned = refused(snapshot, planned, error.what, error.sentence, now)
        for event in planned.events:
            logger.info("%s: %s: %s", key, event.reason, event.message)
            await self.cluster.post(snapshot.job, event)
        await self.cluster.apply_status(snapshot.job, planned.status)
        metrics.remember(key, planned.status.phase)
        return planned.again_after

    async def _act(self, key: Key, action: Action) -> None:
        match action:
            case Apply(manifest):
                await self.cluster.apply(manifest)
            case Suspend(ref, suspend):
                await self.cluster.suspend(key.namespace, ref, suspend)
            case Delete(ref):
                await self.cluster.delete(key.namespace, ref)


async def read_progress(client: httpx.AsyncClient, address: str) -> Progress | None:
    """A stage pod's progress; None when it does not answer (it has just started, or is about to end)."""
    host = f"[{address}]" if ":" in address else address
    try:
        response = await client.get(f"http://{host}:{STATUS_PORT}/status")
        response.raise_for_status()
        return Progress.model_validate_json(response.content)
    except (httpx.HTTPError, ValidationError):
        return None
