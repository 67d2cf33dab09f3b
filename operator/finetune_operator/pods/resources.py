"""Container resources, and which of them are accelerators. Used by the builders of stage and hosting pods."""

import re
from collections.abc import Mapping
from typing import Any

from finetune_operator.api.pods import Pod
from finetune_operator.api.resources import Resources
from finetune_operator.api.values import Quantity

# Device plugins name a GPU VENDOR/gpu (gpu.shared) or, for a slice of one, VENDOR/mig-PROFILE. Network cards and the
# like (rdma/hca, vpc.amazonaws.com/efa) are extended resources too, but no reason for one more training process.
_ACCELERATOR = re.compile(r"[^/]+/(gpu|mig-)")
# A slice's name has its gigabytes.
_SLICE = re.compile(r"/mig-.*\.(\d+)gb")


def resources(wanted: Resources) -> dict[str, Any]:
    """ResourceRequirements, without empty halves."""
    halves = {"limits": _strings(wanted.limits), "requests": _strings(wanted.requests)}
    return {half: quantities for half, quantities in halves.items() if quantities}


def without_devices(wanted: Resources) -> Resources:
    """The same CPU and memory, and none of the devices."""
    return Resources(
        limits={name: value for name, value in wanted.limits.items() if "/" not in name},
        requests={name: value for name, value in wanted.requests.items() if "/" not in name},
    )


def devices(wanted: Resources) -> list[str]:
    """The extended resources that the limits grant: accelerators, network cards."""
    return sorted(name for name, value in wanted.limits.items() if "/" in name and _count(value))


def accelerators(wanted: Resources) -> int:
    """How many GPUs the limits give a container."""
    return sum(_count(value) for name, value in wanted.limits.items() if _ACCELERATOR.match(name))


def accelerator_memory(wanted: Resources, settings: Pod, known: Mapping[str, int]) -> int | None:
    """Bytes that each GPU of the limits has, as far as that is `known`; None where it is not."""
    names = [name for name, value in wanted.limits.items() if _ACCELERATOR.match(name) and _count(value)]
    slices = [int(found[1]) * 10**9 for name in names if (found := _SLICE.search(name))]
    told = [known[name] for name in (*settings.node_selector.values(), *names) if name in known]
    return next(iter((*slices, *told)), None)


def _count(value: Quantity) -> int:
    """How many devices; the API server takes whole numbers only, and refuses the pod that asks for anything else."""
    return int(value) if str(value).isdecimal() else 1


def _strings(quantities: dict[str, Quantity]) -> dict[str, str]:
    return {name: str(value) for name, value in sorted(quantities.items())}
