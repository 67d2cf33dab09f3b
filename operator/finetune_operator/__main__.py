"""The entry point: `python -m finetune_operator`, what the operator's image runs.

Reads the settings, connects to the API server (of the pod's service account, else of the kubeconfig), and runs kopf's
watches beside the queue's workers until it is told to stop, or until either of them can't go on.
"""

import asyncio
import logging
import sys
from contextlib import suppress
from functools import partial
from typing import Any

import httpx
import kopf
from kubernetes.aio import config
from kubernetes.aio.client.api_client import ApiClient
from prometheus_client import start_http_server

from finetune_operator.api.v1alpha1 import GROUP, PLURAL
from finetune_operator.settings import Settings
from finetune_operator.shell import handlers
from finetune_operator.shell.cluster import Cluster, Key
from finetune_operator.shell.errors import Unavailable
from finetune_operator.shell.reconcile import Reconciler, read_progress
from finetune_operator.shell.workqueue import Queue

# A stage pod answers at once or is not worth waiting for.
PROGRESS_TIMEOUT = 3.0
LOG_FORMATS = {"text": kopf.LogFormat.FULL, "json": kopf.LogFormat.JSON}


async def connect() -> None:
    """Load the API server's address and credentials."""
    try:
        config.load_incluster_config()
    except config.ConfigException:
        await config.load_kube_config()


async def serve(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT, which kopf waits for."""
    await connect()
    async with ApiClient() as client, httpx.AsyncClient(timeout=PROGRESS_TIMEOUT, trust_env=False) as pods:
        cluster = Cluster(client)
        await check(cluster)
        start_http_server(settings.metrics_port)
        queue: Queue[Key] = Queue(Reconciler(cluster, settings, partial(read_progress, pods)))
        await watch(settings, queue)


async def check(cluster: Cluster) -> None:
    """End with a sentence where there is nothing to watch; whoever started the operator starts it again."""
    try:
        known = await cluster.knows_finetunejobs()
    except Unavailable as error:
        sys.exit(f"The API server does not answer: {error}")
    if not known:
        sys.exit(f"The API server does not know {PLURAL}.{GROUP}: install the CustomResourceDefinition (crds/).")


async def watch(settings: Settings, queue: Queue[Key]) -> None:
    """Watch and work; without its workers the operator is of no use, so it ends with them."""
    stop = asyncio.Event()
    work = asyncio.create_task(queue.run())
    work.add_done_callback(lambda _: stop.set())
    registry = handlers.registry(queue)

    @kopf.on.cleanup(registry=registry)
    async def stop_workers(**_: Any) -> None:
        # Before kopf looks for tasks that are left, and gives them seconds to end by themselves.
        work.cancel()

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
        work.cancel()
        with suppress(asyncio.CancelledError):
            await work


def main() -> None:
    """Start the operator."""
    try:
        settings = Settings.from_environment()
    except ValueError as error:
        sys.exit(str(error))
    kopf.configure(log_format=LOG_FORMATS[settings.log_format])
    for chatty in ("aiohttp.access", "httpx", "kopf.objects"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    asyncio.run(serve(settings))


if __name__ == "__main__":
    main()
