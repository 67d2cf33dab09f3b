"""kopf's part: it watches the FineTuneJobs, which people write, and every change becomes a key in the queue.

The only module besides the entry point that knows kopf. No handler changes an object, so kopf puts no finalizer and no
annotation on any. What is made for a FineTuneJob is followed by `informer`.
"""

from typing import Any

import kopf

from finetune_operator.api.v1alpha1 import GROUP, KIND, PLURAL, VERSION
from finetune_operator.shell.resources import Key
from finetune_operator.shell.store import Store
from finetune_operator.shell.workqueue import Queue


def registry(store: Store, queue: Queue[Key]) -> kopf.OperatorRegistry:
    """A handler that keeps FineTuneJobs in `store` and adds those that there is news of to `queue`.

    A coroutine: kopf calls plain functions in threads, and the queue belongs to the event loop.
    """
    found = kopf.OperatorRegistry()

    @kopf.on.login(registry=found)
    async def login(**kwargs: Any) -> kopf.ConnectionInfo | None:
        return kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)

    @kopf.on.event(GROUP, VERSION, PLURAL, registry=found)
    async def job_changed(event: kopf.RawEvent, **_: Any) -> None:
        raw = event["object"]
        metadata = raw["metadata"]
        key = Key(metadata["namespace"], metadata["name"])
        news = store.drop(KIND, key, metadata["uid"]) if event["type"] == "DELETED" else store.put(KIND, raw)
        if news:
            queue.add(key)

    return found


def settings() -> kopf.OperatorSettings:
    """kopf's settings: write nothing, and never trust a silent connection."""
    found = kopf.OperatorSettings()
    found.posting.enabled = False
    found.peering.standalone = True
    # Looking for CRDs and namespaces that come and go needs rights on the whole cluster.
    found.scanning.disabled = True
    found.networking.request_timeout = 30
    # The API server closes a watch after this long; kopf's own inactivity timeout finds the ones that die silently.
    found.watching.server_timeout = 300
    found.watching.connect_timeout = 10
    return found
