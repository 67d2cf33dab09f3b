"""What of OpenAI's is not here, and why: endpoints, told by `app` to who asks and by docs/openai-endpoints.md; and what
a question may have that vLLM would pass over in silence, told by `incoming`.
"""

import re
from collections.abc import Mapping
from typing import Any

# By the beginning of the path.
NOT_HERE = {
    "fine_tuning/checkpoints": "a model belongs to its namespace, and every key of that may ask it",
    "fine_tuning/alpha/graders": "they are reinforcement's, which is no method here",
    "uploads": "a file comes whole, by POST /v1/files",
    "chat/completions": "answers are not kept",
    "embeddings": "what is tuned here writes",
}
# Parameters of questions: the values that ask for nothing beyond what is there, and why others are refused. What only
# says how OpenAI bills, caches or traces a question (prompt_cache_key, service_tier) changes no answer, and may stay.
NOT_ASKED: Mapping[str, tuple[tuple[Any, ...], str]] = {
    "audio": ((), "what is tuned here writes"),
    "best_of": ((1,), "as many answers are made as n asks for"),
    "function_call": ((), "it has become tool_choice"),
    "functions": ((), "they have become tools"),
    "modalities": ((["text"],), "what is tuned here writes"),
    "moderation": ((), "nothing here judges what is asked or answered"),
    "store": ((False,), "answers are not kept"),
    "verbosity": ((), "how much a model says is what it was trained on"),
    "web_search_options": ((), "a model here searches nothing"),
}
_PREFIX = re.compile("^/(openai/)?(v1/)?")


def why_not(path: str) -> str | None:
    """Why there is no such endpoint here; None for a path that is none of OpenAI's, either."""
    plain = _PREFIX.sub("", path)
    return next((why for start, why in NOT_HERE.items() if plain == start or plain.startswith(f"{start}/")), None)


def why_not_asked(question: Mapping[str, Any]) -> tuple[str, str] | None:
    """The first parameter of a question that nothing here acts on, and why; None where there is none."""
    for name, (nothing, why) in NOT_ASKED.items():
        if question.get(name) is not None and question[name] not in nothing:
            return name, why
    return None
