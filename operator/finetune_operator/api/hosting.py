"""The manifest's `hosting`."""

from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field
from pydantic.alias_generators import to_snake

from finetune_operator.api.model import ApiKey
from finetune_operator.api.pods import Pod
from finetune_operator.api.resources import Resources
from finetune_operator.api.rules import ApiModel, Rule
from finetune_operator.api.values import MOST_TOKENS, Image, ServiceName


class Rollout(StrEnum):
    """How a new revision takes the place of the one that serves."""

    SURGE = "surge"
    RECREATE = "recreate"


class ServedAs(StrEnum):
    """What the engine is given of a LoRA adapter."""

    LOADED = "loaded"
    MERGED = "merged"


class EngineReference(ApiModel):
    """An Engine, by name."""

    name: Annotated[ServiceName, Field(max_length=63)]
    """Its name; it has to be in the same namespace."""


def _the_engines(field: str, absent: str, default: Any = None) -> Rule:
    """The rule that a field goes with an engine of one's own; `absent` is the CEL for that it isn't given."""
    name = to_snake(field)
    return Rule(
        f"!has(self.engine) || {absent}",
        "goes with an engine of one's own; of a shared one the Engine decides it: remove it, or hosting.engine",
        lambda hosting: (
            hosting.engine is None or name not in hosting.model_fields_set or getattr(hosting, name) == default
        ),
        field,
    )


class Hosting(ApiModel):
    """How the result is served."""

    enabled: bool = True
    """false: the job ends when the artifact is there, and evaluated."""
    engine: EngineReference | None = None
    """The Engine that serves the result beside others' results, as an adapter of its base model; it needs spec.lora.
    output.destination has to be set, since the Engine's pods read the artifact there. Left out: the FineTuneJob has an
    engine of its own, and the fields below say what it is like."""
    replicas: Annotated[int, Field(ge=1, le=100)] = 1
    """Serving pods. More than one need workspace.bucket, or a ReadWriteMany workspace."""
    resources: Resources = Resources()
    """The serving pod's resources; an accelerator among its limits selects the GPU image."""
    context_length: Annotated[int, Field(ge=16, le=MOST_TOKENS)] | None = None
    """The longest prompt and answer together, in tokens. Left out: chosen, see status.plan."""
    adapter: ServedAs | None = None
    """loaded: the engine has the base model and the adapter beside it, and answers as either. merged: the adapter is
    made a part of a copy of the base model, which takes as much of workspace.size once more and is served as fast as a
    base model; what is measured is that, beside an engine of the base model's own. A checkpoint, and an earlier
    revision that was not merged, are served loaded. Left out: loaded."""
    rollout: Rollout = Rollout.SURGE
    """surge: the old revision serves until the new one answers, which needs accelerators for both. recreate: the old
    one gives its accelerators to the new one's training and hosting, and comes back if that fails."""
    api_key: ApiKey | None = None
    """The key that clients have to send, and that evaluation sends. Left out: whoever reaches the endpoint may ask."""
    revision_history_limit: Annotated[int, Field(ge=0, le=9)] = 1
    """Earlier revisions whose volumes are kept, so that the annotation finetune.dev/promote: REVISION brings one back
    without training."""
    pod: Pod = Pod()
    """Settings of the serving pods."""
    image: Image | None = None
    """A vLLM image. Left out: the operator's."""

    rules = (
        _the_engines("replicas", "self.replicas == 1", 1),
        _the_engines("resources", "!has(self.resources)"),
        _the_engines("contextLength", "!has(self.contextLength)"),
        Rule(
            "!has(self.engine) || !has(self.adapter) || self.adapter == 'loaded'",
            "must be loaded with hosting.engine: a shared engine serves adapters beside its base model; remove it, or "
            "hosting.engine",
            lambda hosting: hosting.engine is None or hosting.adapter != ServedAs.MERGED,
            "adapter",
        ),
        _the_engines("rollout", "self.rollout == 'surge'", Rollout.SURGE),
        _the_engines("apiKey", "!has(self.apiKey)"),
        _the_engines("pod", "!has(self.pod)"),
        _the_engines("image", "!has(self.image)"),
    )
