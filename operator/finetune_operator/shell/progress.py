"""What pods tell, stages how far they are and engines what they have and do, asked beside the work on them.

A pod that drips, floods, redirects or is mute costs nobody else anything, and a thousand mute engines keep no stage
from being heard. `reconcile` says whom to ask and reads the last answers.
"""

import asyncio
import random
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx

from finetune_operator.kinds.questions import Question, Topic
from finetune_operator.shell.resources import Key

# A pod answers at once, or is not worth waiting for.
DEADLINE_SECONDS = 2.0
# A pod that has just started may not listen yet, and another one is about to have news.
SOON_SECONDS = 2.0
AT_ONCE = 32


@dataclass
class Followed:
    """One question: whether it is asked more often, and the last answer."""

    question: Question
    soon: bool
    task: "asyncio.Task[None]"
    answer: Any = None
    asked: bool = False


class Poller:
    """Asks the pods that it is told to follow, in rounds of `seconds`. `changed`: there is something new that people
    see.
    """

    def __init__(self, client: httpx.AsyncClient, seconds: float, changed: Callable[[Key], None]) -> None:
        self._client = client
        self._seconds = seconds
        self._changed = changed
        self._followed: dict[Key, dict[str, Followed]] = {}
        self._slots: dict[Topic, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(AT_ONCE))

    def follow(self, key: Key, questions: Mapping[str, Question], soon: bool = False) -> None:
        """Ask these from now on, by name, and no others."""
        before, followed = self._followed.pop(key, {}), {}
        for name, found in before.items():
            if (found.question, found.soon) == (questions.get(name), soon):
                followed[name] = found
            else:
                found.task.cancel()
        for name, question in questions.items():
            if name not in followed:
                known = before.get(name)
                task = asyncio.create_task(self._ask_again_and_again(key, name, question))
                followed[name] = Followed(question, soon, task)
                if known and known.question == question:
                    followed[name] = Followed(question, soon, task, known.answer, known.asked)
        if followed:
            self._followed[key] = followed

    def last(self, key: Key) -> dict[str, Any]:
        """The last answer of each that has been asked; None of one that never gave any."""
        return {name: found.answer for name, found in self._followed.get(key, {}).items() if found.asked}

    async def aclose(self) -> None:
        """Ask nobody any more; nothing is on its way afterwards."""
        tasks = [found.task for followed in self._followed.values() for found in followed.values()]
        for key in list(self._followed):
            self.follow(key, {})
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _ask_again_and_again(self, key: Key, name: str, question: Question) -> None:
        # An operator that starts follows thousands at once.
        await asyncio.sleep(random.uniform(0, self._seconds * (question.every - 1)))  # noqa: S311 (no secret)
        while True:
            async with self._slots[question.topic]:
                found = self._followed[key][name]
                answer = await ask(self._client, question, found.answer)
            if answer is not None or not found.asked:
                self._heed(key, found, answer)
            soon = question.every == 1 and (found.soon or found.answer is None)
            await asyncio.sleep(min(SOON_SECONDS, self._seconds) if soon else self._seconds * question.every)

    def _heed(self, key: Key, found: Followed, answer: Any) -> None:
        before, found.answer, found.asked = found.answer, answer, True
        topic = found.question.topic
        if (answer is None and topic.silence) or _shown(topic, answer) != _shown(topic, before):
            self._changed(key)


def _shown(topic: Topic, answer: Any) -> Any:
    return None if answer is None else topic.shown(answer)


async def ask(client: httpx.AsyncClient, question: Question, before: Any = None) -> Any:
    """What a pod tells that told `before`; None when it gives no sensible answer: it has just started, or ends."""
    address, topic = question.address, question.topic
    host = f"[{address}]" if ":" in address else address
    try:
        async with (
            asyncio.timeout(DEADLINE_SECONDS),
            client.stream("GET", f"http://{host}:{topic.port}{topic.path}", follow_redirects=False) as response,
        ):
            response.raise_for_status()
            text = b""
            async for chunk in response.aiter_raw():
                text += chunk
                if len(text) > topic.most:
                    return None
        return topic.read(text, before, datetime.now(UTC))
    except (httpx.HTTPError, ValueError, TimeoutError):
        return None
