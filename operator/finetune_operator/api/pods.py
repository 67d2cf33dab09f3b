"""What a manifest may say about pods, in Kubernetes' own words; `desired.pods` acts on it."""

from typing import Annotated, Literal

from pydantic import Field

from finetune_operator.api.rules import ApiModel, Rule
from finetune_operator.api.values import Opaque, Quantity, keyed_by


class LocalObject(ApiModel):
    """A reference to an object of the FineTuneJob's own namespace."""

    name: Annotated[str, Field(min_length=1, max_length=253)]
    """The object's name."""


class Resources(ApiModel):
    """A container's resources, as in a Pod."""

    limits: Annotated[dict[str, Quantity], Field(max_length=16)] = {}
    """The most the container may use, for example {nvidia.com/gpu: 1}."""
    requests: Annotated[dict[str, Quantity], Field(max_length=16)] = {}
    """What the node must have free for it."""


class Toleration(ApiModel):
    """A Pod's toleration."""

    key: str | None = None
    """The taint's key."""
    operator: Literal["Exists", "Equal"] | None = None
    """Exists or Equal."""
    value: str | None = None
    """The taint's value."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """The taint's effect; left out: all effects."""
    toleration_seconds: int | None = None
    """How long a NoExecute taint is tolerated."""


class SecretKey(ApiModel):
    """A key of a Secret."""

    name: Annotated[str, Field(min_length=1)]
    """The Secret's name."""
    key: Annotated[str, Field(min_length=1)]
    """The key in it."""


class ValueFrom(ApiModel):
    """Where an environment variable's value comes from."""

    secret_key_ref: SecretKey
    """A key of a Secret."""


class EnvVar(ApiModel):
    """An environment variable."""

    name: Annotated[str, Field(min_length=1)]
    """The variable's name."""
    value: str | None = None
    """Its value."""
    value_from: ValueFrom | None = None
    """Where its value comes from, in place of value."""

    rules = (
        Rule(
            "has(self.value) != has(self.valueFrom)",
            "needs either value or valueFrom, and not both",
            lambda env: (env.value is None) != (env.value_from is None),
        ),
    )


class Pod(ApiModel):
    """What the cluster's owner may want to say about the pods; the rest of the PodSpec is the operator's."""

    node_selector: dict[str, str] = {}
    """Labels of the nodes the pods may run on."""
    tolerations: list[Toleration] = []
    """Taints the pods tolerate."""
    affinity: Opaque = {}
    """Affinity, as in a Pod."""
    service_account_name: str | None = None
    """The pods' service account; its token is not mounted."""
    image_pull_secrets: Annotated[list[LocalObject], keyed_by("name")] = []
    """Secrets for the image registry."""
    priority_class_name: str | None = None
    """The pods' priority class."""
    labels: dict[str, str] = {}
    """Labels added to the pods."""
    annotations: dict[str, str] = {}
    """Annotations added to the pods."""
    env: Annotated[list[EnvVar], keyed_by("name")] = []
    """Environment variables added to the main container."""
