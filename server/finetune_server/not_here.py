"""The endpoints of OpenAI's that are not here, and why: told by `app` to who asks, and by docs/openai-endpoints.md."""

import re

# By the beginning of the path.
NOT_HERE = {
    "fine_tuning/checkpoints": "a model belongs to its namespace, and every key of that may ask it",
    "fine_tuning/alpha/graders": "they are reinforcement's, which is no method here",
    "chat/completions": "answers are not kept",
    "embeddings": "what is tuned here writes",
}
_PREFIX = re.compile("^/(openai/)?(v1/)?")


def why_not(path: str) -> str | None:
    """Why there is no such endpoint here; None for a path that is none of OpenAI's, either."""
    plain = _PREFIX.sub("", path)
    return next((why for start, why in NOT_HERE.items() if plain == start or plain.startswith(f"{start}/")), None)
