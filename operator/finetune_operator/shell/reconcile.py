"""The thin shell around plan(): look at what is known, decide, act, say so. The queue's workers run it, key by key.

Killed between any two calls it changes nothing about where things end: the next call looks again.
"""

import logging
import random
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from finetune_operator.kinds.actions import Action, Adopt, Apply, Create, Delete, Id, Patch, Scale
from finetune_operator.kinds.adoption import adoptions
from finetune_operator.kinds.plan import Plan, Purpose, Refusal, in_the_way, refusal_of
from finetune_operator.kinds.snapshot import Snapshot
from finetune_operator.settings import Settings
from finetune_operator.shell import metrics
from finetune_operator.shell.cluster import Cluster
from finetune_operator.shell.errors import Gone, InTheWay, Refused, Unavailable
from finetune_operator.shell.kinds import KINDS
from finetune_operator.shell.progress import Poller
from finetune_operator.shell.resources import Key, NamespacedName
from finetune_operator.shell.store import Store

logger = logging.getLogger(__name__)

# Each round acts and looks at what came of it; a life's longest chain within one look is shorter.
ROUNDS = 12


@dataclass
class Tried:
    """What one look has tried so far. `named`: what was read; `unread`: why something could not be; `confirmed`: for
    which adoptions everything was read live; `unconfirmed`: that it could not be.
    """

    named: dict[Id, Any] = field(default_factory=dict)
    unread: str = ""
    confirmed: tuple[Adopt, ...] | None = None
    unconfirmed: bool = False
    tried: list[Action] = field(default_factory=list)
    refusals: list[tuple[Action, Refusal]] = field(default_factory=list)
    failure: Unavailable | None = None


@dataclass(frozen=True)
class Reconciler:
    """What a reconcile needs of the world outside. `bugs`: the last traceback of each of ours that has one."""

    cluster: Cluster
    store: Store
    poller: Poller
    settings: Settings
    bugs: dict[Key, str] = field(default_factory=dict)

    async def __call__(self, key: Key) -> float | None:
        """Bring one of ours closer to its end; the seconds until the next look even if nothing happens."""
        attempt, now = Tried(), datetime.now(UTC)
        found = await self._converge(key, attempt, now)
        if found is None:
            self.poller.follow(key, {})
            metrics.forget(key)
            return None
        snapshot, planned = found
        refusals = [refusal for action, refusal in attempt.refusals if action in planned.actions]
        if refusals:
            planned = KINDS[key.kind].refused(snapshot, planned, refusals, now)
        await self._tell(key, snapshot, planned, attempt)
        if attempt.failure:
            raise attempt.failure
        return planned.again_after or self.settings.resync_seconds * random.uniform(0.75, 1.25)  # noqa: S311 (no secret)

    async def _converge(self, key: Key, attempt: Tried, now: datetime) -> tuple[Snapshot, Plan[Any]] | None:
        """Act until nothing is left to do that has not been tried: how it looks then, and what there is to say."""
        for _ in range(ROUNDS):
            snapshot = self._look(key, attempt)
            if snapshot is None:
                return None
            planned = self._decide(key, snapshot, now)
            untried = _untried(planned, attempt)
            if planned.reads:
                await self._read(key, attempt, planned.reads)
            elif not untried:
                break
            elif planned.destroys and not attempt.unconfirmed and attempt.confirmed != planned.adopt:
                await self._confirm(key, attempt)
                attempt.confirmed = planned.adopt
            else:
                for purpose, action in untried:
                    await self._try(key, attempt, purpose, action)
        return (snapshot, planned) if snapshot else None

    def _look(self, key: Key, attempt: Tried) -> Snapshot | None:
        found = self.store.snapshot(key)
        return found and replace(found, named=attempt.named, unread=attempt.unread, answers=self.poller.last(key))

    def _decide(self, key: Key, snapshot: Snapshot, now: datetime) -> Plan[Any]:
        try:
            planned = KINDS[key.kind].plan(snapshot, self.settings, now)
        except Exception as bug:
            text = traceback.format_exc()
            if self.bugs.get(key) != text:
                self.bugs[key] = text
                logger.exception("%s: a fault in the operator", key)
            return KINDS[key.kind].broken(snapshot, f"{type(bug).__name__}: {bug}", now)
        self.bugs.pop(key, None)
        return replace(planned, adopt=adoptions(KINDS[key.kind], snapshot))

    async def _read(self, key: Key, attempt: Tried, wanted: frozenset[Id]) -> None:
        """Look up what has to be known before anything is decided: that it may not be is something to tell, too."""
        try:
            attempt.named |= await self.cluster.read(key.namespace, wanted)
        except Refused as error:
            attempt.unread = f"The API server refused {error}"

    async def _confirm(self, key: Key, attempt: Tried) -> None:
        """Read live what a deletion, or an adoption, is decided from; where that fails, there is neither."""
        try:
            await self._look_live(key)
        except Unavailable as error:
            attempt.unconfirmed, attempt.failure = True, attempt.failure or error
        except (Gone, Refused) as error:
            attempt.unconfirmed, attempt.failure = True, attempt.failure or Unavailable(str(error))

    async def _look_live(self, key: Key) -> None:
        ours, known = KINDS[key.kind], self.store.snapshot(key)
        subject = await self.cluster.get(ours.name, key.namespace, key.name)
        if subject is not None:
            self.store.put(ours.name, subject)
        elif known:
            self.store.drop(ours.name, key.place, known.subject["metadata"]["uid"])
        for kind in ours.owned:
            async for page, _ in self.cluster.list(kind, key.namespace, f"{ours.label}={key.name}"):
                for raw in page:
                    self.store.put(kind, raw)

    async def _try(self, key: Key, attempt: Tried, purpose: Purpose, action: Action) -> None:
        """Carry out one action, whatever became of the others, and note what came in its way."""
        attempt.tried.append(action)
        try:
            await self._act(key, action)
        except Refused as error:
            attempt.refusals.append((action, refusal_of(purpose, action, error.what, error.sentence)))
        except InTheWay as error:
            # One that no watch has told of yet may be there to be adopted.
            self.store.put_orphan(error.kind, error.raw)
            attempt.refusals.append((action, in_the_way(purpose, (key.kind, key.name), error.kind, error.raw)))
        except Unavailable as error:
            attempt.failure = attempt.failure or error

    async def _act(self, key: Key, action: Action) -> None:
        """One call; the store has its answer before any watch tells of it."""
        match action:
            case Create(manifest):
                self.store.put(manifest["kind"], await self.cluster.create(manifest))
            case Apply(manifest, uid):
                self.store.put(manifest["kind"], await self.cluster.apply(manifest, uid))
            case Patch(ref, body):
                found = await self.cluster.patch(key.namespace, ref, body)
                self._keep(key, action, found)
            case Scale(ref, version, replicas):
                # The answer is no object of that kind; a watch brings it.
                await self.cluster.scale(key.namespace, ref, version, replicas)
            case Delete(ref):
                found = await self.cluster.delete(key.namespace, ref)
                self._keep(key, action, found)
            case Adopt(ref, owner):
                logger.info("%s: adopts %s %s, which nobody controls", key, ref.kind, ref.name)
                self._keep(key, action, await self.cluster.adopt(key.namespace, ref, owner))

    def _keep(self, key: Key, action: Patch | Delete | Adopt, found: dict[str, Any] | None) -> None:
        ref = action.ref
        if found is None:
            self.store.drop(ref.kind, NamespacedName(key.namespace, ref.name), ref.uid)
        else:
            self.store.put(ref.kind, found)

    async def _tell(self, key: Key, snapshot: Snapshot, planned: Plan[Any], attempt: Tried) -> None:
        """Events before status: they are told from what changed in it."""
        for event in planned.events:
            logger.info("%s: %s: %s", key, event.reason, event.message)
            try:
                await self.cluster.post(key.kind, snapshot.subject, event)
            except Unavailable as error:
                attempt.failure = attempt.failure or error
        try:
            written = await self.cluster.apply_status(key.kind, snapshot.subject, planned.status)
        except Refused as error:
            logger.error("%s: %s", key, error)
            fallen_back = KINDS[key.kind].broken(
                snapshot, f"the API server refused its status: {error.sentence}", datetime.now(UTC)
            )
            written = await self.cluster.apply_status(key.kind, snapshot.subject, fallen_back.status)
        if written is not None:
            self.store.put(key.kind, written)
        self.poller.follow(key, planned.ask, planned.soon)
        metrics.remember(key, KINDS[key.kind].word(planned.status))


def _untried(planned: Plan[Any], attempt: Tried) -> list[tuple[Purpose, Action]]:
    """What there is to do now: while something is to be adopted, no more than that.

    Where that failed, or could not be confirmed, a part may be missing of what is decided from: a record without its
    volume would be deleted.
    """
    adopt = () if attempt.unconfirmed else planned.adopt
    adopting: list[tuple[Purpose, Action]] = [("work", each) for each in adopt if each not in attempt.tried]
    rest = [found for found in _ordered(planned) if found[1] not in attempt.tried]
    keeps = planned.adopt or attempt.unconfirmed
    return adopting or [found for found in rest if not (keeps and isinstance(found[1], Delete))]


def _ordered(planned: Plan[Any]) -> Iterator[tuple[Purpose, Action]]:
    """What serves first, then what is given back, then what is new."""
    purposes: tuple[tuple[Purpose, tuple[Action, ...]], ...] = (
        ("serve", planned.serve),
        ("release", planned.release),
        ("work", planned.work),
    )
    return ((purpose, action) for purpose, actions in purposes for action in actions)
