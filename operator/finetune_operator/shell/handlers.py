"""kopf's part: it watches FineTuneJobs and what was made for them, and every change becomes a key in the queue.

The only module besides the entry point that knows kopf. No handler changes an object, so kopf puts no finalizer and no
annotation on any.
"""

from typing import Any

import kopf

from finetune_operator import names
from finetune_operator.api.v1alpha1 import GROUP, PLURAL, VERSION
from finetune_operator.shell.cluster import CHILDREN, RESOURCES, Key
from finetune_operator.shell.workqueue import Queue


def registry(queue: Queue[Key]) -> kopf.OperatorRegistry:
    """Handlers that add to `queue`: of the FineTuneJobs, and of every kind that is made for them.

    All are coroutines: kopf calls plain functions in threads, and the queue belongs to the event loop.
    """
    found = kopf.OperatorRegistry()

    @kopf.on.login(registry=found)
    async def login(**kwargs: Any) -> kopf.ConnectionInfo | None:
        return kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)

    @kopf.on.event(GROUP, VERSION, PLURAL, registry=found)
    async def job_changed(namespace: str | None, name: str, **_: Any) -> None:
        queue.add(Key(namespace or "", name))

    async def child_changed(namespace: str | None, labels: kopf.Labels, **_: Any) -> None:
        queue.add(Key(namespace or "", labels[names.JOB]))

    for kind in CHILDREN:
        group, _, version = RESOURCES[kind].api_version.rpartition("/")
        kopf.on.event(group, version, RESOURCES[kind].plural, registry=found, labels={names.JOB: kopf.PRESENT})(
            child_changed
        )
    return found


def settings() -> kopf.OperatorSettings:
    """kopf's settings: watch only what is ours, write nothing, and never trust a silent connection."""
    found = kopf.OperatorSettings()
    found.posting.enabled = False
    found.peering.standalone = True
    # Looking for CRDs and namespaces that come and go needs rights on the whole cluster.
    found.scanning.disabled = True
    found.networking.request_timeout = 30
    # The API server closes a watch after this long; kopf's own inactivity timeout finds the ones that die silently.
    found.watching.server_timeout = 300
    found.watching.connect_timeout = 10
    for kind in CHILDREN:
        group, _, version = RESOURCES[kind].api_version.rpartition("/")
        found.watching.label_selectors[group, version, RESOURCES[kind].plural] = names.JOB
    return found
