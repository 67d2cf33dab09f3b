"""The entry point: `python -m finetune_operator`, what the operator's image runs.

Reads the settings, connects to the API server (of the pod's service account, else of the kubeconfig), and runs
informers and the queue's workers under kopf's process until it is told to stop, or until either of them can't go on. Of
several operators all watch, and the one that holds the Lease works.
"""

import asyncio
import gc
import logging
import sys
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import aclosing, suppress
from functools import partial
from typing import Any

import httpx
import kopf
from kubernetes.aio.client.api_client import ApiClient
from prometheus_client import start_http_server

from finetune_operator.api.v1alpha1 import GROUP
from finetune_operator.settings import Settings, variable
from finetune_operator.shell import handlers
from finetune_operator.shell.cluster import Cluster
from finetune_operator.shell.connection import connect
from finetune_operator.shell.errors import Refused, Unavailable
from finetune_operator.shell.informer import Informer
from finetune_operator.shell.kinds import KINDS
from finetune_operator.shell.leases import Lease, LeaseLost, lead
from finetune_operator.shell.progress import Poller
from finetune_operator.shell.reconcile import Reconciler
from finetune_operator.shell.resources import RESOURCES, Key
from finetune_operator.shell.store import Store
from finetune_operator.shell.workqueue import Queue

logger = logging.getLogger(__name__)
Work = Callable[[], Awaitable[None]]
# Informers that list at a time: one reads a page while the API server writes another's.
LISTING = 2
# New objects until the interpreter looks for cycles among them. What is read from the API server has none, and a page
# is 300,000 of them: with the default, some hundreds, that search takes a quarter of a restart.
COLLECT_AFTER = 50_000
LOG_FORMATS = {"text": kopf.LogFormat.FULL, "json": kopf.LogFormat.JSON}


async def serve(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT, which kopf waits for."""
    configuration = await connect()
    async with ApiClient(configuration) as client, ApiClient(configuration) as lease_client:
        await check(Cluster(client))
        start_http_server(settings.metrics_port)
        # A client of its own: a renewal neither waits for a connection nor gets one that others found dead.
        lease = lease_of(settings, Cluster(lease_client))
        cluster = Cluster(client, lease.held) if lease else Cluster(client)
        await watch(settings, handlers.registry(), work(settings, cluster, lease))


async def work(settings: Settings, cluster: Cluster, lease: Lease | None) -> None:
    """Follow what there is and work on it until cancelled; nothing of that runs on afterwards."""
    queue: Queue[Key] = Queue()
    store = Store(queue.add)
    turns = asyncio.Semaphore(LISTING)
    informers = [
        Informer(cluster, store, kind, namespace, queue.add, settings.resync_seconds, turns)
        for kind in RESOURCES
        for namespace in settings.namespaces or [None]
    ]
    async with (
        httpx.AsyncClient(trust_env=False) as pods,
        aclosing(Poller(pods, settings.progress_seconds, queue.add)) as poller,
    ):
        reconciler = Reconciler(cluster, store, poller, settings)
        await follow(informers, lease, partial(queue.run, reconciler))


async def follow(informers: Sequence[Informer], lease: Lease | None, work: Work) -> None:
    """Follow what there is, leading or not, so that whoever takes over knows it; once all is known, lead and work."""

    async def lead_once_known() -> None:
        for informer in informers:
            await informer.listed.wait()
        await lead(lease, work)

    tasks = [asyncio.ensure_future(lead_once_known()), *(asyncio.ensure_future(each.run()) for each in informers)]
    try:
        ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in ended:
            await task
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


def lease_of(settings: Settings, cluster: Cluster) -> Lease | None:
    """The Lease to work under; None where the settings name none."""
    if settings.lease_namespace:
        return Lease(cluster, settings.lease_namespace, settings.lease_name)
    logger.warning("%s is empty: no other operator may run beside this one", variable("lease_namespace"))
    return None


async def check(cluster: Cluster) -> None:
    """End with a sentence where there is nothing to watch; whoever started the operator starts it again."""
    try:
        lacking = await cluster.lacks(kind.plural for kind in KINDS.values())
    except Unavailable as error:
        sys.exit(f"The API server does not answer: {error}")
    if lacking:
        them = ", ".join(f"{plural}.{GROUP}" for plural in lacking)
        sys.exit(f"The API server does not know {them}: install the CustomResourceDefinitions (crds/).")


async def watch(settings: Settings, registry: kopf.OperatorRegistry, work: Coroutine[Any, Any, None]) -> None:
    """Watch and work; without its workers the operator is of no use, so it ends with them."""
    stop = asyncio.Event()
    working = asyncio.create_task(work)
    working.add_done_callback(lambda _: stop.set())

    @kopf.on.cleanup(registry=registry)
    async def stop_workers(**_: Any) -> None:
        # Before kopf looks for tasks that are left, and gives them seconds to end by themselves.
        working.cancel()
        await asyncio.wait({working})

    try:
        await kopf.operator(
            registry=registry,
            settings=handlers.settings(),
            standalone=True,
            clusterwide=not settings.namespaces,
            namespaces=settings.namespaces,
            liveness_endpoint=f"http://0.0.0.0:{settings.health_port}/healthz",
            stop_flag=stop,
        )
    finally:
        working.cancel()
        with suppress(asyncio.CancelledError):
            await working


def main() -> None:
    """Start the operator."""
    gc.set_threshold(COLLECT_AFTER)
    try:
        settings = Settings.from_environment()
    except ValueError as error:
        sys.exit(str(error))
    kopf.configure(log_format=LOG_FORMATS[settings.log_format])
    for chatty in ("aiohttp.access", "httpx", "kopf.objects"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    try:
        asyncio.run(serve(settings))
    except LeaseLost as error:
        sys.exit(f"{error}: another operator may lead, so this one ends.")
    except Refused as error:
        sys.exit(f"The API server refused {error}")


if __name__ == "__main__":
    main()
