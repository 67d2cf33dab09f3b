"""The operator's settings: read once from the environment by the entry point, passed down as a value.

The chart sets them; `docs/settings.md` is generated from here.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from importlib.metadata import version
from os import environ
from typing import Any

from finetune_operator.api.values import quantity

PREFIX = "FINETUNE_"
# A release's images have the tag of its package.
_VERSION = version("finetune-operator")
_MEMORY = re.compile(r"[^=\s]+=[1-9][0-9]*([KMGT]i|[kMGT])?")


def _setting(default: Any, meaning: str, choices: tuple[str, ...] = ()) -> Any:
    return field(default=default, metadata={"meaning": meaning, "choices": choices})


@dataclass(frozen=True)
class Settings:
    """Every setting with its default; the variable is FINETUNE_ and the field's name in capitals."""

    trainer_image: str = _setting(
        f"finetune.dev/trainer:{_VERSION}",
        "The image of every stage's pods, and of the containers that fetch and load.",
    )
    hosting_image: str = _setting("vllm/vllm-openai:v0.32.0", "The engine's image where hosting asks for accelerators.")
    hosting_cpu_image: str = _setting(f"finetune.dev/vllm-cpu:{_VERSION}", "The engine's image where it asks for none.")
    image_pull_policy: str = _setting(
        "IfNotPresent", "When the kubelet pulls these images.", ("Always", "IfNotPresent", "Never")
    )
    namespaces: tuple[str, ...] = _setting(
        (), "The namespaces whose FineTuneJobs are taken care of, separated by commas; all when empty."
    )
    lease_namespace: str = _setting(
        "",
        "The operator's own namespace, in which the Lease says which of several operators works; where it is empty, "
        "there may be no second one.",
    )
    lease_name: str = _setting("finetune-operator", "The Lease's name: the same for all that take each other's place.")
    accelerator_memory: tuple[str, ...] = _setting(
        (),
        "What memory an accelerator has, NAME=QUANTITY separated by commas. The name is its resource's "
        "(nvidia.com/gpu=80Gi), or a value that training.pod.nodeSelector chooses nodes by (NVIDIA-L4=24Gi). "
        "What a MIG slice has, its own name says. Where it is known, prepare refuses what can't fit.",
    )
    engine_clients: str = _setting(
        "everyone",
        "Who may reach the pods of engines, of Engines and FineTuneJobs alike, at the engine's port alone: everyone, "
        "the pods of the same namespace, or none but what evaluates and those whom NetworkPolicies of yours add; with "
        "the last two, also the operator's own namespace, where finetune-api is.",
        ("everyone", "namespace", "none"),
    )
    metrics_port: int = _setting(9090, "The port of Prometheus metrics, `/metrics`.")
    health_port: int = _setting(8080, "The port of the health check, `/healthz`.")
    progress_seconds: float = _setting(15.0, "Seconds between two looks at a running stage.")
    resync_seconds: float = _setting(
        600.0, "Seconds, about, after which everything is listed and looked at anew, whether it has changed or not."
    )
    price_currency: str = _setting("USD", "The currency of the prices that evaluation reports reckon with.")
    price_accelerator_hour: float | None = _setting(None, "What an hour of one accelerator costs.")
    price_million_prompt_tokens: float | None = _setting(None, "What a million prompt tokens cost.")
    price_million_completion_tokens: float | None = _setting(None, "What a million tokens of answers cost.")
    price_million_cached_tokens: float | None = _setting(
        None, "What a million prompt tokens from the prefix cache cost; left out, as much as others."
    )
    log_format: str = _setting("text", "One line of text or one JSON object for each record.", ("text", "json"))

    @classmethod
    def from_environment(cls, variables: Mapping[str, str] = environ) -> "Settings":
        """Read every FINETUNE_* variable that is set; ValueError with a sentence for a value that can't be."""
        texts = {known.name: variables.get(variable(known.name)) for known in fields(cls)}
        values = {name: _parse(name, text, getattr(cls, name)) for name, text in texts.items() if text}
        for known in fields(cls):
            choices = known.metadata["choices"]
            if choices and values.get(known.name, known.default) not in choices:
                raise ValueError(f"{variable(known.name)} must be {' or '.join(choices)}, not {values[known.name]!r}")
        for entry in values.get("accelerator_memory", ()):
            if not _MEMORY.fullmatch(entry):
                name = variable("accelerator_memory")
                raise ValueError(f"{name} must have entries such as nvidia.com/gpu=80Gi, not {entry!r}")
        return cls(**values)

    @property
    def memory_of(self) -> dict[str, int]:
        """`accelerator_memory` as bytes by name."""
        pairs = (entry.split("=") for entry in self.accelerator_memory)
        return {name: int(quantity(size)) for name, size in pairs}


def variable(name: str) -> str:
    """The environment variable of a setting."""
    return PREFIX + name.upper()


def _parse(name: str, text: str, default: Any) -> Any:
    if isinstance(default, str):
        return text
    if isinstance(default, tuple):
        return tuple(part.strip() for part in text.split(",") if part.strip())
    try:
        number = (float if default is None else type(default))(text)
    except ValueError:
        number = 0
    if number <= 0:
        raise ValueError(f"{variable(name)} must be a number above zero, not {text!r}")
    return number
