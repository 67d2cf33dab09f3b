"""What the desired objects are built for: one revision of one FineTuneJob. Made by `plan`, taken by every builder."""

from dataclasses import dataclass
from typing import Any

from finetune_operator.api.v1alpha1 import FineTuneJobSpec
from finetune_operator.settings import Settings

Manifest = dict[str, Any]


@dataclass(frozen=True)
class Target:
    """A revision of a FineTuneJob, the spec that it is built from, and the operator's settings."""

    name: str
    namespace: str
    uid: str
    spec: FineTuneJobSpec
    revision: str
    settings: Settings
