"""How far pods are, stages and those that load adapters, asked beside the work on what they were made for.

A pod that drips, floods, redirects or is mute costs nobody else anything. `reconcile` says whom to ask and reads the
last answers.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx
from finetune_trainer.contract.config import Contract
from finetune_trainer.contract.report import STATUS_PORT
from pydantic import ValidationError

from finetune_operator.shell.kinds import KINDS
from finetune_operator.shell.resources import Key

C = TypeVar("C", bound=Contract)

# A pod answers at once and in little, or is not worth waiting for.
DEADLINE_SECONDS = 2.0
LONGEST_ANSWER = 256 * 1024
# A pod that has just started may not listen yet, and another one is about to have news.
SOON_SECONDS = 2.0
AT_ONCE = 32


@dataclass
class Followed:
    """One pod: its address, whether it is asked more often, and its last answer."""

    address: str
    soon: bool
    task: "asyncio.Task[None]"
    answer: Any = None


class Poller:
    """Asks the pods that it is told to follow, every `seconds`. `changed`: there is something new that people see."""

    def __init__(self, client: httpx.AsyncClient, seconds: float, changed: Callable[[Key], None]) -> None:
        self._client = client
        self._seconds = seconds
        self._changed = changed
        self._followed: dict[Key, dict[str, Followed]] = {}
        self._slots = asyncio.Semaphore(AT_ONCE)

    def follow(self, key: Key, pods: Mapping[str, str], soon: bool = False) -> None:
        """Ask these from now on, by name and address, and no others."""
        before, followed = self._followed.pop(key, {}), {}
        for name, found in before.items():
            if (found.address, found.soon) == (pods.get(name), soon):
                followed[name] = found
            else:
                found.task.cancel()
        for name, address in pods.items():
            if name not in followed:
                known = before.get(name)
                answer = known.answer if known and known.address == address else None
                task = asyncio.create_task(self._ask_again_and_again(key, name, address))
                followed[name] = Followed(address, soon, task, answer)
        if followed:
            self._followed[key] = followed

    def last(self, key: Key) -> dict[str, Any]:
        """The last answers of those that gave one."""
        return {name: found.answer for name, found in self._followed.get(key, {}).items() if found.answer is not None}

    async def aclose(self) -> None:
        """Ask nobody any more; nothing is on its way afterwards."""
        tasks = [found.task for followed in self._followed.values() for found in followed.values()]
        for key in list(self._followed):
            self.follow(key, {})
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _ask_again_and_again(self, key: Key, name: str, address: str) -> None:
        while True:
            async with self._slots:
                answer = await ask(self._client, address, KINDS[key.kind].answer)
            found = self._followed[key][name]
            if answer is not None:
                self._heed(key, found, answer)
            soon = found.soon or found.answer is None
            await asyncio.sleep(min(SOON_SECONDS, self._seconds) if soon else self._seconds)

    def _heed(self, key: Key, found: Followed, answer: Contract) -> None:
        before, found.answer = found.answer, answer
        shown = KINDS[key.kind].shown
        if before is None or shown(answer) != shown(before):
            self._changed(key)


async def ask(client: httpx.AsyncClient, address: str, kind: type[C]) -> C | None:
    """What a pod tells; None when it gives no sensible answer (it has just started, or is about to end)."""
    host = f"[{address}]" if ":" in address else address
    try:
        async with (
            asyncio.timeout(DEADLINE_SECONDS),
            client.stream("GET", f"http://{host}:{STATUS_PORT}/status", follow_redirects=False) as response,
        ):
            response.raise_for_status()
            text = b""
            async for chunk in response.aiter_raw():
                text += chunk
                if len(text) > LONGEST_ANSWER:
                    return None
        # A pod may be of a later version.
        return kind.model_validate_json(text, extra="ignore")
    except (httpx.HTTPError, ValidationError, TimeoutError):
        return None
