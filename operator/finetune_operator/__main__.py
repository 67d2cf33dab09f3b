"""The entry point: `python -m finetune_operator`, what the operator's image runs.

Reads the settings, connects to the API server (of the pod's service account, else of the kubeconfig), and runs kopf's
watches beside the queue's workers until it is told to stop.
"""

import asyncio
import logging
import signal
from functools import partial

import httpx
import kopf
from kubernetes.aio import config
from kubernetes.aio.client.api_client import ApiClient
from prometheus_client import start_http_server

from finetune_operator import handlers
from finetune_operator.cluster import Cluster, Key
from finetune_operator.reconcile import Reconciler, read_progress
from finetune_operator.settings import Settings
from finetune_operator.workqueue import Queue

# A stage pod answers at once or is not worth waiting for.
PROGRESS_TIMEOUT = 3.0


async def connect() -> None:
    """Load the API server's address and credentials."""
    try:
        config.load_incluster_config()
    except config.ConfigException:
        await config.load_kube_config()


async def serve(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await connect()
    start_http_server(settings.metrics_port)
    async with ApiClient() as client, httpx.AsyncClient(timeout=PROGRESS_TIMEOUT, trust_env=False) as pods:
        reconciler = Reconciler(Cluster(client), settings, partial(read_progress, pods))
        queue: Queue[Key] = Queue(reconciler)
        work = asyncio.create_task(queue.run())
        try:
            await kopf.operator(
                registry=handlers.registry(queue),
                settings=handlers.settings(),
                standalone=True,
                clusterwide=not settings.namespaces,
                namespaces=settings.namespaces,
                liveness_endpoint=f"http://0.0.0.0:{settings.health_port}/healthz",
                stop_flag=stop,
            )
        finally:
            work.cancel()


def main() -> None:
    """Start the operator."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for chatty in ("httpx", "kopf.objects"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    asyncio.run(serve(Settings.from_environment()))


if __name__ == "__main__":
    main()
