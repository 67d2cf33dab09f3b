"""The manifest's `hosting`."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from finetune_operator.api.pods import Pod
from finetune_operator.api.resources import Resources
from finetune_operator.api.rules import ApiModel
from finetune_operator.api.values import MOST_TOKENS, Image


class Rollout(StrEnum):
    """How a new revision takes the place of the one that serves."""

    SURGE = "surge"
    RECREATE = "recreate"


class Hosting(ApiModel):
    """How the result is served."""

    enabled: bool = True
    """false: the job ends when the artifact is there, and evaluated."""
    replicas: Annotated[int, Field(ge=1, le=100)] = 1
    """Serving pods. More than one need a ReadWriteMany workspace."""
    resources: Resources = Resources()
    """The serving pod's resources; an accelerator among its limits selects the GPU image."""
    context_length: Annotated[int, Field(ge=16, le=MOST_TOKENS)] | None = None
    """The longest prompt and answer together, in tokens. Left out: chosen, see status.plan."""
    rollout: Rollout = Rollout.SURGE
    """surge: the old revision serves until the new one answers, which needs accelerators for both. recreate: the old
    one gives its accelerators to the new one's training and hosting, and comes back if that fails."""
    revision_history_limit: Annotated[int, Field(ge=0, le=9)] = 1
    """Earlier revisions whose volumes are kept, so that the annotation finetune.dev/promote: REVISION brings one back
    without training."""
    pod: Pod = Pod()
    """Settings of the serving pods."""
    image: Image | None = None
    """A vLLM image. Left out: the operator's."""
