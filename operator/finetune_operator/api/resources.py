"""A container's resources in the manifest, with the API server's rules for them; `pods.resources` acts on it."""

import re
from typing import Annotated

from pydantic import Field

from finetune_operator.api.rules import ApiModel, Rule
from finetune_operator.api.values import QUALIFIED, SUBDOMAIN, Quantity, quantity

_NAME = f"cpu|memory|ephemeral-storage|hugepages-[1-9][0-9]*[KMGT]i|{SUBDOMAIN}/{QUALIFIED}"
_WHOLE = "[0-9]+([KMGTPE]i|[kMGTPE])?"
# Quantities in CEL; what is none is refused by the value's own rule.
_KNOWN = "isQuantity(string(self.requests[name])) && isQuantity(string(self.limits[name]))"
_COMPARED = "quantity(string(self.requests[name])).compareTo(quantity(string(self.limits[name])))"


def _is_device(name: str) -> bool:
    return "/" in name and "kubernetes.io/" not in name


def _whole_pages(name: str, value: Quantity) -> bool:
    return quantity(value) > 0 and quantity(value) % quantity(name.removeprefix("hugepages-")) == 0


_DEVICE = "name.contains('/') && !name.contains('kubernetes.io/')"
_NOT_SHARED = f"({_DEVICE}) || name.startsWith('hugepages-')"

Quantities = Annotated[
    dict[str, Quantity],
    Field(max_length=16),
    Rule(
        f"self.all(name, name.matches('^({_NAME})$') && !name.startsWith('requests.'))",
        "a resource must be cpu, memory, ephemeral-storage, hugepages-SIZE or a device's DOMAIN/NAME, such as "
        "nvidia.com/gpu",
        lambda found: all(re.fullmatch(_NAME, name) and not name.startswith("requests.") for name in found),
    ),
    Rule(
        f"self.all(name, !({_DEVICE}) || string(self[name]).matches('^({_WHOLE})$'))",
        "a device such as nvidia.com/gpu is given out whole: ask for 1 or more, without a fraction",
        lambda found: all(
            not _is_device(name) or re.fullmatch(_WHOLE, str(value)) is not None for name, value in found.items()
        ),
    ),
    Rule(
        "self.all(name, !name.matches('^hugepages-[1-9][0-9]*[KMGT]i$') || !isQuantity(string(self[name])) || "
        "(quantity(string(self[name])).isInteger() && quantity(string(self[name])).asInteger() > 0 && "
        "quantity(string(self[name])).asInteger() % quantity(name.substring(10)).asInteger() == 0))",
        "huge pages are given out whole: ask for a multiple of their size, such as hugepages-2Mi: 512Mi",
        lambda found: all(_whole_pages(name, value) for name, value in found.items() if name.startswith("hugepages-")),
    ),
    Rule(
        "!('memory' in self) || !isQuantity(string(self['memory'])) || "
        "quantity(string(self['memory'])).compareTo(quantity('1Mi')) >= 0",
        "memory must be at least 1Mi, such as 16Gi: a number without a unit counts bytes",
        lambda found: "memory" not in found or quantity(found["memory"]) >= quantity("1Mi"),
    ),
]


class Resources(ApiModel):
    """A container's resources, as in a Pod."""

    limits: Quantities = {}
    """The most the container may use, for example {nvidia.com/gpu: 1}."""
    requests: Quantities = {}
    """What the node must have free for it. Left out: the limits."""

    rules = (
        Rule(
            f"!has(self.requests) || !has(self.limits) || "
            f"self.requests.all(name, !(name in self.limits) || !({_KNOWN}) || {_COMPARED} <= 0)",
            "must not exceed limits: lower the request, or raise the limit",
            lambda found: all(
                quantity(value) <= quantity(found.limits.get(name, value)) for name, value in found.requests.items()
            ),
            "requests",
        ),
        Rule(
            f"!has(self.requests) || self.requests.all(name, !({_NOT_SHARED}) || "
            f"(has(self.limits) && name in self.limits && (!({_KNOWN}) || {_COMPARED} == 0)))",
            "of devices and huge pages must equal limits, since they are not shared: give the limit alone",
            lambda found: all(
                quantity(value) == quantity(found.limits.get(name, -1))
                for name, value in found.requests.items()
                if _is_device(name) or name.startswith("hugepages-")
            ),
            "requests",
        ),
        Rule(
            "!has(self.limits) || !self.limits.exists(name, name.startsWith('hugepages-')) || "
            "'cpu' in self.limits || 'memory' in self.limits || "
            "(has(self.requests) && ('cpu' in self.requests || 'memory' in self.requests))",
            "has huge pages, which need cpu or memory beside them: add memory",
            lambda found: (
                not any(name.startswith("hugepages-") for name in found.limits)
                or bool({"cpu", "memory"} & {*found.limits, *found.requests})
            ),
            "limits",
        ),
    )
