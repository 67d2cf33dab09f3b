"""Those who have accounts in the cluster: their token is the key, and the API server says who and what they may do.

Each question goes to the API server with that token, so it is asked, and answered, as if kubectl did: the server's own
rights are no part of it. FineTuneJobs are made and changed with the token, too (`on_cluster`); what lies in the
bucket, and who may ask models, is decided by what they may do with objects of the cluster. `callers` asks.
"""

from dataclasses import dataclass
from typing import Any, cast

from anyio import CapacityLimiter
from finetune_operator.api.v1alpha1 import GROUP, PLURAL
from kubernetes.aio.client.api.authentication_v1_api import AuthenticationV1Api
from kubernetes.aio.client.api.authorization_v1_api import AuthorizationV1Api
from kubernetes.aio.client.api_client import ApiClient

from finetune_server.cluster import SECONDS, Unknown, answered, by
from finetune_server.errors import Problem
from finetune_server.keys import Right

# Verb, group, resource and subresource that stand for a right. Who may make FineTuneJobs can have rows read by them; a
# model is asked through the API server by a POST to its Service's proxy.
_STANDS_FOR = {
    Right.READ: ("list", GROUP, PLURAL, ""),
    Right.WRITE: ("create", GROUP, PLURAL, ""),
    Right.ASK: ("create", "", "services", "proxy"),
}
# Whoever sends any text as a key makes the API server look at it: so many at a time.
_AT_A_TIME = 16


class Accounts:
    """What the API server knows of tokens."""

    def __init__(self, client: ApiClient) -> None:
        if client.configuration.cert_file:
            # The API server would take its owner for whoever asks.
            raise ValueError(
                "FINETUNE_API_CLUSTER_TOKENS can't be had with a client certificate in the kubeconfig: give the server "
                "a token there."
            )
        self._authentication, self._authorization = AuthenticationV1Api(client), AuthorizationV1Api(client)
        self._turns = CapacityLimiter(_AT_A_TIME)

    async def find(self, token: str) -> "ClusterAccount | None":
        """Whose token it is; None where the API server knows nobody by it."""
        body: Any = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
        async with self._turns:
            try:
                found = await answered(
                    self._authentication.create_self_subject_review(body, _request_timeout=SECONDS, **by(token))
                )
            except Unknown:
                return None
        return ClusterAccount(str(cast(Any, found).status.user_info.username), token, self)

    async def may(self, token: str, namespace: str, right: Right) -> bool:
        """Whether the token's owner may do what stands for a right."""
        verb, group, resource, subresource = _STANDS_FOR[right]
        what = {"verb": verb, "group": group, "resource": resource, "namespace": namespace}
        body: Any = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": what | ({"subresource": subresource} if subresource else {})},
        }
        async with self._turns:
            found = await answered(
                self._authorization.create_self_subject_access_review(body, _request_timeout=SECONDS, **by(token))
            )
        return bool(cast(Any, found).status.allowed)


@dataclass(frozen=True)
class ClusterAccount:
    """Somebody with an account; `name` as the API server says it."""

    name: str
    token: str
    accounts: Accounts

    @property
    def home(self) -> str:
        """The namespace that kubectl would take: a ServiceAccount's own, or default."""
        kind, *parts = self.name.removeprefix("system:").split(":")
        return parts[0] if kind == "serviceaccount" and len(parts) == 2 else "default"

    async def need(self, right: Right, namespace: str) -> None:
        """Raises Problem where they may not."""
        if not await self.accounts.may(self.token, namespace, right):
            verb, _, resource, subresource = _STANDS_FOR[right]
            what = "/".join(filter(None, (resource, subresource)))
            raise Problem(
                403,
                f"{self.name} may not {verb} {what} in namespace {namespace}, which is what it takes to {right} here: "
                "ask for that right, or name another namespace.",
                code="right",
                client="project",
            )
