"""The ground of the tests of faults, findings and attacks: an API server with real controllers, nodes that are played.

One for the session (`conftest.ground`). Its own event loop runs in a thread, so that many namespaces live side by side
while the tests themselves wait in plain sentences.
"""

import asyncio
import itertools
import threading
import traceback
from collections.abc import AsyncIterator, Coroutine
from concurrent.futures import Future
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from api_client import Api, Mirror
from control_plane import ControlPlane, Kubectl
from controllers import Controllers
from fault_proxy import Decide, FaultProxy, harmless
from forked_operator import ForkedOperator
from node import Node
from ports import free_port

T = TypeVar("T")
# Until an operator finds by itself what no event told it.
RESYNC_SECONDS = 3


class Space:
    """A namespace with its node and an operator of its own, which reaches the API server through a proxy."""

    def __init__(self, ground: "Ground", name: str, user: str, node: type[Node] = Node, **settings: object) -> None:
        self.ground, self.name, self._user, self._settings = ground, name, user, settings
        self.api, self.mirror = ground.api, ground.mirror
        self.node = node(ground.api, ground.mirror, name)
        self.proxy = FaultProxy(ground.plane, self._crash)
        self.kubectl = ground.kubectl(name)
        self.crashes = 0

    async def open(self, decide: Decide) -> None:
        self.proxy.decide = decide
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.name}}
        await self.api.call("POST", "/api/v1/namespaces", namespace)
        address = await self.proxy.start()
        config = self.ground.plane.kubeconfig(self._user, self.name, through=address)
        ports = {"metrics_port": free_port(), "health_port": free_port()}
        settings = {"namespaces": self.name, "resync_seconds": RESYNC_SECONDS, **ports} | self._settings
        log = self.ground.directory / f"operator-{self.name}.log"
        self.operator = ForkedOperator(config, log, **settings)
        self._life = asyncio.create_task(self.node.run())

    async def close(self) -> None:
        self.operator.kill()
        self._life.cancel()
        await self.proxy.stop()
        with suppress(asyncio.CancelledError):
            await self._life

    def _crash(self) -> None:
        self.crashes += 1
        self.operator.kill()
        self.operator.start()


class Ground:
    """An API server, its controllers, a mirror of it, and a thread with an event loop."""

    def __init__(self, plane: ControlPlane, directory: Path, user: str) -> None:
        self.plane, self.directory, self._user = plane, directory, user
        self.controllers = Controllers(plane, directory)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._numbers = itertools.count(1)

    def __enter__(self) -> "Ground":
        self.controllers.start()
        self._thread.start()
        self.run(self._look())
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._watching.cancel)
        self.run(self.api.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self.controllers.stop()

    def kubectl(self, namespace: str = "default") -> Kubectl:
        """kubectl as the administrator."""
        return Kubectl(self.plane.kubeconfig(namespace=namespace))

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Have the event loop do something, and wait for it."""
        return self.submit(work).result()

    def submit(self, work: Coroutine[Any, Any, T]) -> "Future[T]":
        """Have the event loop do something meanwhile."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def _look(self) -> None:
        self.api = Api(self.plane)
        self.mirror = Mirror(self.api)
        self._watching = asyncio.create_task(self.mirror.run())
        self._watching.add_done_callback(_complain)

    @asynccontextmanager
    async def space(
        self, decide: Decide = harmless, node: type[Node] = Node, **settings: object
    ) -> AsyncIterator[Space]:
        """A new namespace and its operator, which is not started yet."""
        found = Space(self, f"ground-{next(self._numbers)}", self._user, node, **settings)
        await found.open(decide)
        try:
            yield found
        finally:
            await found.close()


def _complain(watching: "asyncio.Task[None]") -> None:
    """Nothing that waits for the mirror would ever be told."""
    if not watching.cancelled() and (error := watching.exception()):
        traceback.print_exception(error)
