"""What the desired objects are built for: one revision of one FineTuneJob. Made by `plan`, taken by every builder."""

from dataclasses import dataclass

from finetune_trainer.contract.config import Origin

from finetune_operator import names
from finetune_operator.api.v1alpha1 import API_VERSION, KIND, FineTuneJobSpec
from finetune_operator.finetunejob.record import InBucket
from finetune_operator.finetunejob.shared import EngineState
from finetune_operator.pods.metadata import Owner
from finetune_operator.settings import Settings


@dataclass(frozen=True)
class Target:
    """A revision of a FineTuneJob, the spec that it is built from, and the operator's settings."""

    name: str
    namespace: str
    uid: str
    spec: FineTuneJobSpec
    revision: str
    settings: Settings
    # Where its files lie when there is no cluster, as a URI.
    directory: str = ""
    # The artifact of another FineTuneJob that it starts from, once it is known which.
    origin: Origin | None = None
    # Where that is kept, if it has no volume.
    origin_bucket: InBucket | None = None
    # The URI of where its base model is kept for others, too.
    cache: str = ""
    # Where its files are kept in place of a volume.
    bucket: InBucket | None = None
    # The Engine that hosting.engine names, where it is there.
    engine: EngineState | None = None

    @property
    def owner(self) -> Owner:
        """The FineTuneJob."""
        return Owner(API_VERSION, KIND, self.name, self.namespace, self.uid)

    @property
    def revision_name(self) -> str:
        """What the revision's volume, record, candidate Deployment and Service are called."""
        return names.of_revision(self.name, self.revision)

    @property
    def files(self) -> str:
        """Where its files lie, as a URI: on its volume, or in a bucket."""
        if self.bucket:
            return self.bucket.uri
        return self.directory or f"pvc://{self.revision_name}"

    @property
    def together(self) -> dict[str, str] | None:
        """The labels of the revision's pods where its volume holds them on one node; None where they may spread."""
        if self.bucket or "ReadWriteMany" in self.spec.workspace.access_modes:
            return None
        return {names.JOB: self.name, names.REVISION: self.revision}
