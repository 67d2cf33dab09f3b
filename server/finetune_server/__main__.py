"""The entry point: `python -m finetune_server`, what the chart's Deployment of the API server runs."""

import logging
import sys

import uvicorn
from finetune_trainer.contract.outcome import StageError
from finetune_trainer.contract.redaction import guard_log

from finetune_server.on_cluster import application
from finetune_server.settings import ClusterSettings

# Connections beside those of questions that are answered or come.
_BESIDE = 64


def main() -> None:
    """Serve until SIGTERM; requests that are under way are answered first."""
    try:
        settings = ClusterSettings.from_environment()
        app = application(settings)
    except (ValueError, StageError) as error:
        sys.exit(str(error))
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    guard_log()
    # The address of each request to an engine or the API server says nothing that the access log doesn't.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    uvicorn.run(
        app,
        host="0.0.0.0",  # noqa: S104  (a pod's own address)
        port=settings.port,
        # Or it had handlers of its own, which nothing guards.
        log_config=None,
        server_header=False,
        # What all that come hold in memory until they have a turn stays bounded.
        limit_concurrency=2 * settings.requests + _BESIDE,
        timeout_graceful_shutdown=20,
    )


if __name__ == "__main__":
    main()
