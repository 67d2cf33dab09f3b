"""How busy engines are, in status: an Engine's pods, and those of a FineTuneJob's own engine."""

from datetime import datetime
from typing import Annotated

from pydantic import Field

from finetune_operator.api.rules import ApiModel
from finetune_operator.api.values import KeyedBy

# Pods that are told one by one.
MOST = 100


class PodRequests(ApiModel):
    """How busy one of its pods is."""

    pod: str
    """Its name."""
    running: Annotated[int, Field(ge=0)] = 0
    """Requests that it computes."""
    waiting: Annotated[int, Field(ge=0)] = 0
    """Requests that wait for their turn."""
    cache_used: str | None = None
    """The share of its cache for conversations that is taken, from 0 to 1."""


class EngineRequests(ApiModel):
    """How busy its pods are, by vLLM's metrics; told anew every half a minute at most."""

    running: Annotated[int, Field(ge=0)] = 0
    """Requests that are computed."""
    waiting: Annotated[int, Field(ge=0)] = 0
    """Requests that wait for their turn."""
    cache_used: str | None = None
    """The share of the cache for conversations that is taken, from 0 to 1, in the pod that has least left."""
    pods: Annotated[list[PodRequests], KeyedBy("pod"), Field(max_length=MOST)] = []
    """The same of each pod that answers and has told."""
    at: datetime
    """When they were counted."""
