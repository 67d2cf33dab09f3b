"""What the API stands on: where jobs, engines and files are, who may come, and what wakes a model that sleeps.

Its routes (`app`) know nothing else of it. `on_cluster` makes that of a cluster, `finetune serve` that of a laptop's
directory.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from starlette.datastructures import Headers

from finetune_server.caller import Caller
from finetune_server.files import Files
from finetune_server.routing import ModelRoute
from finetune_server.settings import Raw

T = TypeVar("T")


class Jobs(Protocol):
    """FineTuneJobs. Every method raises Problem where it can't be done."""

    async def all(self, namespace: str, selector: str = "") -> list[Raw]:
        """All in a namespace, or those that have a label, the newest first."""

    async def get(self, namespace: str, name: str) -> Raw | None:
        """The FineTuneJob of a name; None where there is none."""

    async def create(self, manifest: Raw) -> Raw:
        """Make a FineTuneJob, and return it as it was made."""

    async def patch(self, raw: Raw, body: Raw) -> Raw:
        """Change a FineTuneJob by a merge patch, if it still is as it was read."""


class Engines(Protocol):
    """Engines that are nobody's own. Every method raises Problem where it can't be done."""

    async def all(self, namespace: str) -> list[Raw]:
        """All in a namespace."""

    async def get(self, namespace: str, name: str) -> Raw | None:
        """The Engine of a name; None where there is none."""


class Callers(Protocol):
    """All who may come."""

    async def find(self, headers: Headers, namespace: str | None = None) -> Caller:
        """Whose request it is; `namespace` is what its path names. Raises Problem."""


class Waking(Protocol):
    """What sleeps until it is asked."""

    async def asked(self, namespace: str, route: ModelRoute, ask: Callable[[str], Awaitable[T]]) -> T:
        """Ask at a base URL, once there is somebody to answer. Raises Problem, or what `ask` raises."""


@dataclass(frozen=True)
class Ground:
    """All that the routes know of where jobs, files and engines are, and of who may come."""

    jobs: Jobs
    engines: Engines
    files: Files
    callers: Callers
    waking: Waking

    def of(self, caller: Caller) -> "Ground":
        """The same, as somebody may touch it."""
        return self
