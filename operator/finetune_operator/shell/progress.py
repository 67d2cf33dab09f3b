"""How far the running stages are, asked of their pods beside the work on FineTuneJobs.

A pod that drips, floods, redirects or is mute costs nobody else anything. `reconcile` says whom to ask and reads the
last answer.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import httpx
from finetune_trainer.contract.report import STATUS_PORT, Progress
from pydantic import ValidationError

from finetune_operator.finetunejob.summary import progress_status
from finetune_operator.shell.resources import Key

# A stage pod answers at once, in a few hundred bytes, or is not worth waiting for.
DEADLINE_SECONDS = 2.0
LONGEST_ANSWER = 64 * 1024
# A pod that has just started may not listen yet.
FIRST_SECONDS = 2.0
AT_ONCE = 32


@dataclass
class Followed:
    """One running stage: its pod's address, and its last answer."""

    address: str
    task: "asyncio.Task[None]"
    progress: Progress | None = None


class Poller:
    """Asks the pods that it is told to follow, every `seconds`. `changed`: there is something new that people see."""

    def __init__(self, client: httpx.AsyncClient, seconds: float, changed: Callable[[Key], None]) -> None:
        self._client = client
        self._seconds = seconds
        self._changed = changed
        self._followed: dict[Key, Followed] = {}
        self._slots = asyncio.Semaphore(AT_ONCE)

    def follow(self, key: Key, address: str | None) -> None:
        """Ask this address from now on; nobody, with None."""
        before = self._followed.get(key)
        if before and before.address == address:
            return
        if before:
            before.task.cancel()
            del self._followed[key]
        if address:
            self._followed[key] = Followed(address, asyncio.create_task(self._ask_again_and_again(key, address)))

    def last(self, key: Key) -> Progress | None:
        """The last answer."""
        found = self._followed.get(key)
        return found.progress if found else None

    def close(self) -> None:
        """Ask nobody any more."""
        for key in list(self._followed):
            self.follow(key, None)

    async def _ask_again_and_again(self, key: Key, address: str) -> None:
        while True:
            async with self._slots:
                answer = await ask(self._client, address)
            if answer:
                self._heed(key, answer)
            known = self._followed[key].progress is not None
            await asyncio.sleep(self._seconds if known else min(FIRST_SECONDS, self._seconds))

    def _heed(self, key: Key, answer: Progress) -> None:
        found = self._followed[key]
        before, found.progress = found.progress, answer
        if before is None or progress_status(answer) != progress_status(before):
            self._changed(key)


async def ask(client: httpx.AsyncClient, address: str) -> Progress | None:
    """A stage pod's progress; None when it gives no sensible answer (it has just started, or is about to end)."""
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
        return Progress.model_validate_json(text)
    except (httpx.HTTPError, ValidationError, TimeoutError):
        return None
