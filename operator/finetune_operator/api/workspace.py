"""The manifest's `workspace`."""

from typing import Annotated, Literal

from pydantic import Field

from finetune_operator.api.model import Credentials
from finetune_operator.api.rules import ApiModel, Rule
from finetune_operator.api.values import BucketUri, CacheUri, Size, StorageClassName, distinct

AccessMode = Literal["ReadWriteOnce", "ReadWriteMany"]


class WorkspaceVolume(ApiModel):
    """The volume that each revision gets for the base model, its rows, checkpoints and artifact; or the bucket that
    these are kept in, and each pod's own volume."""

    size: Size = "20Gi"
    """Its size. A larger one makes the volume grow before the next stage or try, where its class allows that; otherwise
    a change acts on the next revision. With workspace.bucket: that of each pod's."""
    storage_class_name: StorageClassName | None = None
    """Its storage class. Left out: the cluster's default. A change acts on the next revision. With workspace.bucket:
    that of each pod's volume, which goes with the pod; left out: its node's disk."""
    access_modes: Annotated[
        list[AccessMode],
        Field(min_length=1, max_length=2),
        Rule("self.all(a, self.exists_one(b, a == b))", "names a mode twice", distinct),
    ] = ["ReadWriteOnce"]
    """ReadWriteOnce keeps a revision's pods on one node; ReadWriteMany lets them spread. A change acts on the next
    revision."""
    bucket: BucketUri | None = None
    """s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or abfs://CONTAINER/PREFIX. In place of one volume for all pods of a
    revision, each has one of its own: it brings what it needs from there, verified, and puts there what it makes. So
    replicas need no ReadWriteMany, and a training goes on in another zone. A revision has a directory of its
    own, PREFIX/NAMESPACE/UID/NAME-REVISION, which stays when it goes. A change acts on the next revision."""
    credentials: Credentials | None = None
    """For the bucket: they may read, list, write and delete there."""
    cache: CacheUri | None = None
    """pvc://CLAIM/PATH. Where base models that have to be fetched are kept for every revision and every FineTuneJob of
    the namespace that names it, in place of a copy on each one's volume. The claim is yours, and the operator never
    deletes from it: a pod that lies on another node needs it to be ReadWriteMany. A change acts on the next
    revision."""

    @property
    def spreads(self) -> bool:
        """Whether a revision's pods can be on several nodes."""
        return self.bucket is not None or "ReadWriteMany" in self.access_modes

    rules = (
        Rule(
            "!has(self.credentials) || has(self.bucket)",
            "goes with workspace.bucket: set it, or remove the credentials",
            lambda workspace: workspace.credentials is None or workspace.bucket is not None,
            "credentials",
        ),
        Rule(
            "!has(self.bucket) || self.accessModes == ['ReadWriteOnce']",
            "goes with a volume that pods share, and with workspace.bucket each has its own: remove it, or the bucket",
            lambda workspace: workspace.bucket is None or workspace.access_modes == ["ReadWriteOnce"],
            "accessModes",
        ),
    )
