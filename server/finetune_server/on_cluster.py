"""The API over a cluster: FineTuneJobs and Engines at its API server, files in a bucket or a claim, keys in a Secret.

`__main__` serves it; the tests serve it in their own process.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from finetune_operator.shell.connection import connect
from kubernetes.aio.client.api.custom_objects_api import CustomObjectsApi
from kubernetes.aio.client.api_client import ApiClient
from starlette.applications import Starlette

from finetune_server import app
from finetune_server.accounts import Accounts
from finetune_server.caller import Caller
from finetune_server.callers import ClusterCallers
from finetune_server.cluster import ClusterEngines, ClusterJobs
from finetune_server.files import Files, in_bucket, in_claim
from finetune_server.ground import Ground
from finetune_server.keys import Keys
from finetune_server.settings import ClusterSettings
from finetune_server.ui.api import KeyDoor
from finetune_server.ui.pages import Pages
from finetune_server.waking import EngineWaker


def application(settings: ClusterSettings) -> Starlette:
    """The server; it connects when it starts. Raises StageError where the bucket can't be asked."""
    keys = Keys(settings.keys)
    claim, jobs_claim = settings.claim, settings.jobs_claim
    files = Files(in_claim(claim, jobs_claim, settings.files) if claim else in_bucket(settings.bucket))

    @asynccontextmanager
    async def ground() -> AsyncIterator[Ground]:
        async with ApiClient(await connect()) as client:
            api = CustomObjectsApi(client)
            accounts = Accounts(client) if settings.cluster_tokens else None
            engines = ClusterEngines(api)
            yield ClusterGround(
                api=api,
                jobs=ClusterJobs(api),
                engines=engines,
                files=files,
                callers=ClusterCallers(keys, accounts, settings.limits),
                waking=EngineWaker(engines, settings.waiting, settings.wait_seconds),
            )

    return app.application(settings, ground, [Pages(KeyDoor(settings.cluster_tokens)).mount()])


@dataclass(frozen=True, kw_only=True)
class ClusterGround(Ground):
    """A cluster's."""

    api: CustomObjectsApi

    def of(self, caller: Caller) -> Ground:
        """What somebody with an account does in the cluster, their token does: it is refused what they may not, and
        the audit log names them.
        """
        if caller.account is None:
            return self
        token = caller.account.token
        return replace(self, jobs=ClusterJobs(self.api, token), engines=ClusterEngines(self.api, token))
