"""The manifest's `workspace`."""

from typing import Annotated, Literal

from pydantic import Field

from finetune_operator.api.rules import ApiModel, Rule
from finetune_operator.api.values import CacheUri, Size, StorageClassName, distinct

AccessMode = Literal["ReadWriteOnce", "ReadWriteMany"]


class WorkspaceVolume(ApiModel):
    """The volume that each revision gets for the base model, its rows, checkpoints and artifact."""

    size: Size = "20Gi"
    """Its size. A larger one makes the volume grow before the next stage or try, where its class allows that; otherwise
    a change acts on the next revision."""
    storage_class_name: StorageClassName | None = None
    """Its storage class. Left out: the cluster's default. A change acts on the next revision."""
    access_modes: Annotated[
        list[AccessMode],
        Field(min_length=1, max_length=2),
        Rule("self.all(a, self.exists_one(b, a == b))", "names a mode twice", distinct),
    ] = ["ReadWriteOnce"]
    """ReadWriteOnce keeps a revision's pods on one node; ReadWriteMany lets them spread. A change acts on the next
    revision."""
    cache: CacheUri | None = None
    """pvc://CLAIM/PATH. Where base models that have to be fetched are kept for every revision and every FineTuneJob of
    the namespace that names it, in place of a copy on each one's volume. The claim is yours, and the operator never
    deletes from it: a pod that lies on another node needs it to be ReadWriteMany. A change acts on the next
    revision."""
