"""Where an engine is asked: what operator, command line and trainer agree on, who each know it by another address."""

from finetune_trainer.contract.config import Method

OPENAI, CLASSIFY = "/v1", "/classify"


def rates(url: str) -> bool:
    """Whether what answers there is a reward model."""
    return url.endswith(CLASSIFY)


def asked_at(url: str, method: Method) -> str:
    """Where a client asks for what a model of this method makes, of an engine whose OpenAI API is at `url`.

    vLLM rates answers beside that API, since OpenAI's has no such thing.
    """
    return url if method.writes else f"{url.removesuffix(OPENAI)}{CLASSIFY}"
