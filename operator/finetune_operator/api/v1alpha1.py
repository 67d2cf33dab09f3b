"""The FineTuneJob: the one source of the CRD, of `kubectl explain` and of what the local backend accepts.

Each section of the spec has a file of its own; `api.status` has the other half of the object, `api.crd` turns both into
the CustomResourceDefinition. Field docstrings are the sentences users read in `kubectl explain`. A field that nothing
acts on does not belong here.
"""

from typing import Literal

from finetune_trainer.contract.config import TrackerType
from finetune_trainer.contract.schemes import listed, remote
from pydantic import ConfigDict

from finetune_operator.api.dataset import Dataset
from finetune_operator.api.evaluation import Evaluation
from finetune_operator.api.hosting import Hosting, ServedAs
from finetune_operator.api.model import Model
from finetune_operator.api.output import Output
from finetune_operator.api.rating import rating_alone
from finetune_operator.api.rules import ApiModel, Rule
from finetune_operator.api.status import FineTuneJobStatus
from finetune_operator.api.training import Training
from finetune_operator.api.values import Duration, JobName
from finetune_operator.api.workspace import WorkspaceVolume

GROUP = "finetune.dev"
VERSION = "v1alpha1"
KIND = "FineTuneJob"
PLURAL = "finetunejobs"
API_VERSION = f"{GROUP}/{VERSION}"


class FineTuneJobSpec(ApiModel):
    """What the user wants: a base model, a dataset, and how the one learns from the other and is served."""

    model: Model
    """What to start from."""
    dataset: Dataset
    """What to learn from."""
    training: Training = Training()
    """How the model learns."""
    evaluation: Evaluation = Evaluation()
    """Whether it was worth it. Left out: measured, and nothing demanded."""
    hosting: Hosting = Hosting()
    """How the result is served."""
    output: Output = Output()
    """Where the artifact goes, beside the workspace."""
    workspace: WorkspaceVolume = WorkspaceVolume()
    """The volume that each revision gets, or the bucket in place of it."""
    suspend: bool = False
    """true stops the work on a revision; what serves goes on serving. false resumes it from its last checkpoint."""
    ttl_after_finished: Duration | None = None
    """How long Jobs stay once there is nothing left to do, whether it succeeded or failed. Then they go with their pods
    and logs, and so does the workspace where the artifact is whole at output.destination, nothing is served
    from here (hosting.enabled is false, or hosting.engine is set) and no FineTuneJob starts from it; a change that
    needs it trains anew. Left out: they stay as long as the FineTuneJob."""

    rules = (
        Rule(
            "self.hosting.replicas <= 1 || 'ReadWriteMany' in self.workspace.accessModes || has(self.workspace.bucket)",
            "above 1 needs workspace.bucket, or workspace.accessModes [ReadWriteMany]: "
            "a ReadWriteOnce volume holds all replicas on one node",
            lambda spec: spec.hosting.replicas == 1 or spec.workspace.spreads,
            "hosting.replicas",
        ),
        Rule(
            "!has(self.training) || !has(self.training.nodes) || self.training.nodes <= 1 || "
            "'ReadWriteMany' in self.workspace.accessModes || has(self.workspace.bucket)",
            "above 1 needs workspace.accessModes [ReadWriteMany] (and a storage class that has it): "
            "a ReadWriteOnce volume holds all pods on one node",
            lambda spec: spec.training.nodes == 1 or spec.workspace.spreads,
            "training.nodes",
        ),
        Rule(
            "!has(self.training) || !has(self.training.nodes) || self.training.nodes <= 1 || "
            "!has(self.workspace.bucket)",
            "can't be above 1 with workspace.bucket: pods that train together go on from one checkpoint, on a volume "
            "that they share; set it to 1, or share a volume (workspace.accessModes [ReadWriteMany])",
            lambda spec: spec.training.nodes == 1 or spec.workspace.bucket is None,
            "training.nodes",
        ),
        Rule(
            "!has(self.hosting.engine) || (has(self.output) && has(self.output.destination))",
            "needs output.destination: the pods of the Engine read the artifact there",
            lambda spec: spec.hosting.engine is None or spec.output.destination is not None,
            "hosting.engine",
        ),
        Rule(
            "!has(self.hosting.engine) || !has(self.output) || !has(self.output.destination) || "
            "!self.output.destination.startsWith('pvc://')",
            f"must be {listed(remote('output'))} with hosting.engine: its pods, which run already, can't mount another "
            "volume",
            lambda spec: spec.hosting.engine is None or not (spec.output.destination or "").startswith("pvc://"),
            "output.destination",
        ),
        Rule(
            "!has(self.hosting.engine) || !has(self.training) || !has(self.training.adapter) || "
            "self.training.adapter.type in ['lora', 'qlora']",
            "must be lora or qlora with hosting.engine: vLLM loads no other adapters beside a base model",
            lambda spec: spec.hosting.engine is None or spec.training.adapter.type.beside_base,
            "training.adapter.type",
        ),
        Rule(
            "!has(self.hosting.engine) || !has(self.training) || !has(self.training.adapter) || "
            "!has(self.training.adapter.modulesToSave)",
            "can't be served with hosting.engine: vLLM loads no adapter that brings whole modules beside a base model; "
            "remove it, or hosting.engine, since an engine of one's own serves the whole model",
            lambda spec: spec.hosting.engine is None or spec.training.adapter.modules_to_save is None,
            "training.adapter.modulesToSave",
        ),
        Rule(
            "!has(self.hosting.engine) || !self.model.source.startsWith('ftj://')",
            "can't be ftj:// with hosting.engine: no Engine serves what another FineTuneJob made, and an adapter fits "
            "the model that it was trained on",
            lambda spec: spec.hosting.engine is None or not spec.model.source.startswith("ftj://"),
            "model.source",
        ),
        *rating_alone(),
        Rule(
            "!has(self.hosting.adapter) || !has(self.training) || !has(self.training.adapter) || "
            "self.training.adapter.type in ['lora', 'qlora']",
            "goes with training.adapter.type lora or qlora: of others the whole model is served; remove it",
            lambda spec: spec.hosting.adapter is None or spec.training.adapter.type.beside_base,
            "hosting.adapter",
        ),
        Rule(
            "!has(self.hosting.adapter) || self.hosting.adapter != 'loaded' || !has(self.training) || "
            "!has(self.training.adapter) || !has(self.training.adapter.modulesToSave)",
            "can't be loaded with training.adapter.modulesToSave: vLLM loads no adapter that brings whole modules; set "
            "merged, or leave it out, which comes to the same",
            lambda spec: spec.hosting.adapter != ServedAs.LOADED or spec.training.adapter.modules_to_save is None,
            "hosting.adapter",
        ),
        Rule(
            "!has(self.training) || !has(self.training.sweep) || self.training.sweep.parallel <= 1 || "
            "'ReadWriteMany' in self.workspace.accessModes || has(self.workspace.bucket)",
            "above 1 needs workspace.accessModes [ReadWriteMany] (and a storage class that has it): "
            "a ReadWriteOnce volume holds all pods on one node",
            lambda spec: spec.training.sweep is None or spec.training.sweep.parallel == 1 or spec.workspace.spreads,
            "training.sweep.parallel",
        ),
        Rule(
            "!has(self.training) || !has(self.training.tracking) || self.training.tracking.type != 'tensorboard' || "
            "!has(self.workspace.bucket)",
            "can't be tensorboard with workspace.bucket: TensorBoard reads its files on a volume that outlasts the "
            "pod; choose mlflow, or remove tracking",
            lambda spec: (
                spec.training.tracking is None
                or spec.training.tracking.type != TrackerType.TENSORBOARD
                or spec.workspace.bucket is None
            ),
            "training.tracking.type",
        ),
        Rule(
            "!has(self.training) || !has(self.training.sweep) || self.training.sweep.parallel <= 1 || "
            "!has(self.workspace.bucket)",
            "can't be above 1 with workspace.bucket: trials that run at the same time tell one another by files on one "
            "volume how they stand; set it to 1, or share a volume (workspace.accessModes [ReadWriteMany])",
            lambda spec: (
                spec.training.sweep is None or spec.training.sweep.parallel == 1 or spec.workspace.bucket is None
            ),
            "training.sweep.parallel",
        ),
    )


class Metadata(ApiModel):
    """The part of an object's metadata that the local backend reads; the API server checks the rest."""

    model_config = ConfigDict(extra="ignore")

    name: JobName
    """The FineTuneJob's name, and the served model's."""
    namespace: str | None = None
    """Its namespace."""
    labels: dict[str, str] = {}
    """Its labels."""
    annotations: dict[str, str] = {}
    """Its annotations."""


class FineTuneJob(ApiModel):
    """A base model and a dataset, and what becomes of them: a fine-tuned model that is served."""

    api_version: Literal["finetune.dev/v1alpha1"]
    """finetune.dev/v1alpha1."""
    kind: Literal["FineTuneJob"]
    """FineTuneJob."""
    metadata: Metadata
    """Standard object metadata."""
    spec: FineTuneJobSpec
    """What the user wants."""
    status: FineTuneJobStatus | None = None
    """What the operator tells."""
