"""The operator's settings: read once from the environment by the entry point, passed down as a value.

The chart sets them; `docs/settings.md` is generated from here.
"""

from dataclasses import dataclass, fields
from os import environ
from typing import Any

PREFIX = "FINETUNE_"


@dataclass(frozen=True)
class Settings:
    """Every setting with its default; the variable is FINETUNE_ and the field's name in capitals."""

    trainer_image: str = "finetune.dev/trainer:0.1.0"
    hosting_image: str = "vllm/vllm-openai:v0.32.0"
    hosting_cpu_image: str = "finetune.dev/vllm-cpu:0.1.0"
    image_pull_policy: str = "IfNotPresent"
    namespaces: tuple[str, ...] = ()
    metrics_port: int = 9090
    health_port: int = 8080
    progress_seconds: float = 10.0

    @classmethod
    def from_environment(cls, variables: Any = environ) -> "Settings":
        """Read every FINETUNE_* variable that is set; ValueError for a number that isn't one."""
        values = {field.name: variables.get(PREFIX + field.name.upper()) for field in fields(cls)}
        return cls(**{name: _parse(name, value, getattr(cls, name)) for name, value in values.items() if value})


def _parse(name: str, value: str, default: Any) -> Any:
    if isinstance(default, tuple):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    try:
        return type(default)(value)
    except ValueError as error:
        raise ValueError(f"{PREFIX}{name.upper()} must be a number, not {value!r}") from error
