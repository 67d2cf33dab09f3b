"""publish: the artifact goes to output.destination, by a Job without an accelerator that alone has its credentials."""

from typing import Any

from finetune_trainer.contract.published import without_base
from finetune_trainer.contract.results import PublishResult

from finetune_operator import names
from finetune_operator.api.output import Output
from finetune_operator.api.status import ArtifactStatus, Phase
from finetune_operator.api.v1alpha1 import FineTuneJobSpec
from finetune_operator.conditions import Reason, Type
from finetune_operator.finetunejob.desired.credentials import output_credentials
from finetune_operator.finetunejob.desired.jobs import JobNeeds
from finetune_operator.finetunejob.observe import JobState
from finetune_operator.finetunejob.record import Record, published_key
from finetune_operator.finetunejob.stages.base import Context, Step
from finetune_operator.finetunejob.stages.job import JobStage
from finetune_operator.finetunejob.target import Target
from finetune_operator.kinds.plan import State
from finetune_operator.pods.sources import user_mounts


class Publish(JobStage):
    """The Job that copies the artifact."""

    name = "publish"
    condition = Type.PUBLISHED
    phase = Phase.PUBLISHING
    result = PublishResult
    unwanted = "output.destination is not set; the artifact stays in the workspace."

    def wanted(self, spec: FineTuneJobSpec) -> bool:
        """Where there is a destination."""
        return spec.output.destination is not None

    def needs(self, target: Target) -> JobNeeds:
        """It reads the volume, and writes what it finds there to the destination."""
        spec, written = target.spec, target.spec.output.destination or ""
        whole = spec.output.merge or spec.output.formats
        return JobNeeds(
            environment=output_credentials(spec),
            mounts=user_mounts([spec.model.source, target.cache] if whole else [], written),
            arguments=destination(spec.output, target.uid),
        )

    def made_from(self, context: Context) -> dict[str, Any]:
        """Beside what every Job gets, the destination and its credentials."""
        return super().made_from(context) | {"output": names.given(context.spec.output)}

    def entry(self, target: Target) -> str:
        """One for each destination, and what else is wanted there."""
        return published_key(target.spec.output)

    def recorded(self, context: Context) -> Step | None:
        """The artifact's address."""
        found = context.record.published(context.spec.output)
        if found is None:
            return None
        artifact = ArtifactStatus(uri=found.uri, **found.artifact.model_dump())
        merged = f" Merged with its base model it is {found.merged}." if found.merged else ""
        converted = f" As a GGUF file it is {found.gguf}." if found.gguf else ""
        lacking = f" {without_base(found.lineage)}" if found.lineage else ""
        told = f"The artifact is {found.uri}.{merged}{converted}{lacking}"
        return Step(State.SUCCEEDED, Reason.SUCCEEDED, told, status={"artifact": artifact})

    def _outdated(self, context: Context, job: JobState) -> bool:
        """A Job that published elsewhere says nothing, complete or not."""
        return True


def elsewhere(spec: FineTuneJobSpec, record: Record) -> bool:
    """Whether a revision can do without its volume: it is whole at the destination, and nothing serves from here."""
    here = spec.hosting.enabled and spec.hosting.engine is None
    return not here and record.published(spec.output) is not None


def destination(output: Output, owner: str) -> tuple[str, ...]:
    """The arguments that tell publish where to; none where nothing is published."""
    wanted = (*(("--sign",) if output.sign else ()), *(("--merge",) if output.merge else ()))
    told = ("--destination", output.destination, "--owner", owner, *wanted, *formats(output))
    return told if output.destination else ()


def formats(output: Output) -> tuple[str, ...]:
    """The arguments that tell publish what else the whole model becomes, and prepare, which asks whether it can."""
    return ("--formats", *output.formats) if output.formats else ()
