"""What a manifest may say about pods, in Kubernetes' own words; `pods.template` acts on it."""

import re
from typing import Annotated, Literal

from pydantic import Field

from finetune_operator.api.env import EnvVar
from finetune_operator.api.rules import ApiModel, Rule
from finetune_operator.api.values import (
    LABEL_KEY,
    LABEL_KEY_SENTENCE,
    KeyedBy,
    LabelValue,
    ObjectName,
    Opaque,
    label_keys,
)

# The operator's labels, and those that the controllers of Jobs and Deployments tell their pods apart by.
_TAKEN_LABELS = (
    "finetune[.]dev/.*|app[.]kubernetes[.]io/managed-by|pod-template-hash|"
    "(batch[.]kubernetes[.]io/)?(job-name|controller-uid)|batch[.]kubernetes[.]io/job-completion-index"
)
_TAKEN_ANNOTATIONS = "finetune[.]dev/.*"


def _not_taken(taken: str, sentence: str) -> Rule:
    return Rule(
        f"!self.exists(key, key.matches('^({taken})$'))",
        sentence,
        lambda found: not any(re.fullmatch(taken, key) for key in found),
    )


class LocalObject(ApiModel):
    """A reference to an object of the FineTuneJob's own namespace."""

    name: ObjectName
    """The object's name."""


class Toleration(ApiModel):
    """A Pod's toleration."""

    key: (
        Annotated[
            str,
            Field(max_length=317),
            Rule(
                f"self == '' || self.matches('^({LABEL_KEY})$')",
                LABEL_KEY_SENTENCE,
                lambda key: re.fullmatch(f"({LABEL_KEY})?", key) is not None,
            ),
        ]
        | None
    ) = None
    """The taint's key. Left out, with operator Exists: every taint."""
    operator: Literal["Exists", "Equal"] | None = None
    """Exists, or Equal, which compares the value. Left out: Equal."""
    value: LabelValue | None = None
    """The taint's value."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """The taint's effect; left out: all effects."""
    toleration_seconds: Annotated[int, Field(le=2147483647)] | None = None
    """How long a NoExecute taint is tolerated."""

    rules = (
        Rule(
            "(has(self.key) && self.key != '') || (has(self.operator) && self.operator == 'Exists')",
            "is required, but for operator Exists, which without a key tolerates every taint",
            lambda toleration: bool(toleration.key) or toleration.operator == "Exists",
            "key",
        ),
        Rule(
            "!has(self.value) || self.value == '' || !has(self.operator) || self.operator == 'Equal'",
            "goes with operator Equal only: remove it, or choose Equal",
            lambda toleration: not toleration.value or toleration.operator != "Exists",
            "value",
        ),
        Rule(
            "!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')",
            "goes with effect NoExecute only: remove it, or choose that effect",
            lambda toleration: toleration.toleration_seconds is None or toleration.effect == "NoExecute",
            "tolerationSeconds",
        ),
    )


Terms = Annotated[list[Opaque], Field(max_length=64)]


class NodeAffinity(ApiModel):
    """Which nodes the pods may, or had better, run on."""

    required_during_scheduling_ignored_during_execution: Opaque | None = None
    """A NodeSelector, as in a Pod."""
    preferred_during_scheduling_ignored_during_execution: Terms = []
    """Weighted terms, as in a Pod."""


class PodAffinity(ApiModel):
    """Which pods these pods must, or had better, be near to, or far from."""

    required_during_scheduling_ignored_during_execution: Terms = []
    """Terms, as in a Pod."""
    preferred_during_scheduling_ignored_during_execution: Terms = []
    """Weighted terms, as in a Pod."""


class Affinity(ApiModel):
    """A Pod's affinity; what stands in the terms is the API server's to check."""

    node_affinity: NodeAffinity | None = None
    """To nodes."""
    pod_affinity: PodAffinity | None = None
    """To other pods."""
    pod_anti_affinity: PodAffinity | None = None
    """Away from other pods."""


class Pod(ApiModel):
    """What the cluster's owner may want to say about the pods; the rest of the PodSpec is the operator's."""

    node_selector: Annotated[dict[str, LabelValue], Field(max_length=32), label_keys()] = {}
    """Labels of the nodes the pods may run on."""
    tolerations: Annotated[list[Toleration], Field(max_length=64)] = []
    """Taints the pods tolerate."""
    affinity: Affinity = Affinity()
    """Affinity, as in a Pod."""
    service_account_name: ObjectName | None = None
    """The pods' service account; its token is not mounted."""
    image_pull_secrets: Annotated[list[LocalObject], Field(max_length=16), KeyedBy("name")] = []
    """Secrets for the image registry."""
    priority_class_name: ObjectName | None = None
    """The pods' priority class."""
    labels: Annotated[
        dict[str, LabelValue],
        Field(max_length=32),
        label_keys(),
        _not_taken(
            _TAKEN_LABELS,
            "finetune.dev/…, app.kubernetes.io/managed-by and the labels of Jobs and Deployments are set by their "
            "controllers: remove them",
        ),
    ] = {}
    """Labels added to the pods; training's also to the Jobs, where Kueue looks for kueue.x-k8s.io/priority-class."""
    annotations: Annotated[
        dict[str, Annotated[str, Field(max_length=8192)]],
        Field(max_length=24),
        label_keys(),
        _not_taken(_TAKEN_ANNOTATIONS, "finetune.dev/… is the operator's own domain: remove what is in it"),
    ] = {}
    """Annotations added to the pods; training's also to the Jobs."""
    env: Annotated[list[EnvVar], Field(max_length=64), KeyedBy("name")] = []
    """Environment variables added to the main container; not those that the operator sets or that another field is for.
    """
