"""In which words an endpoint of somebody else's wants to be asked.

Called by `judge` and `remote`, which ask it something easy before anything else. OpenAI's reasoning models refuse
max_tokens, and every temperature but their own, and think at the cost of max_completion_tokens; servers of other makers
may know max_tokens alone.
"""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import openai

logger = logging.getLogger(__name__)

# For what a model thinks before it answers.
THOUGHT_TOKENS = 8192
REFUSED = (openai.BadRequestError, openai.UnprocessableEntityError)


@dataclass(frozen=True)
class Manner:
    """How to ask for an answer of so many tokens: at temperature 0, or with room for thoughts before it."""

    thinks: bool = False

    def options(self, tokens: int) -> dict[str, Any]:
        """What the request says."""
        if self.thinks:
            return {"max_completion_tokens": THOUGHT_TOKENS + tokens}
        return {"max_tokens": tokens, "temperature": 0}


BRIEF, THINKING = Manner(), Manner(thinks=True)


async def understood(name: str, ask: Callable[[Manner], Awaitable[bool]]) -> Manner:
    """The manner that `name` understands. `ask`: something easy, and whether the answer to it could be used."""
    try:
        if await ask(BRIEF):
            return BRIEF
    except REFUSED:
        logger.info("%s refuses max_tokens or temperature.", name)
        await ask(THINKING)
        return THINKING
    try:
        return THINKING if await ask(THINKING) else BRIEF
    except REFUSED:
        return BRIEF
