"""prepare: the model and the rows are fetched, checked, split and counted, before an accelerator is held."""

from dataclasses import replace
from typing import Any

from finetune_trainer.contract.config import OnSensitive
from finetune_trainer.contract.results import Plan, PrepareResult

from finetune_operator import names
from finetune_operator.api.dataset import Dataset
from finetune_operator.api.status import DatasetStatus, ModelStatus, Phase, PlanStatus
from finetune_operator.conditions import Reason, Type
from finetune_operator.finetunejob.desired import bucket, tracking
from finetune_operator.finetunejob.desired.credentials import credentials, endpoint_keys, endpoint_secrets
from finetune_operator.finetunejob.desired.evaluation import evaluation_id, tasks_uris
from finetune_operator.finetunejob.desired.jobs import JobNeeds, sharding
from finetune_operator.finetunejob.desired.run_config import data_uris
from finetune_operator.finetunejob.record import PREPARED, dump
from finetune_operator.finetunejob.stages import origin
from finetune_operator.finetunejob.stages.base import Context, Step
from finetune_operator.finetunejob.stages.job import JobStage
from finetune_operator.finetunejob.stages.pace import Pace, pace, too_long
from finetune_operator.finetunejob.stages.publish import formats
from finetune_operator.finetunejob.stages.train import Train
from finetune_operator.finetunejob.target import Target
from finetune_operator.kinds.plan import State
from finetune_operator.pods.resources import accelerator_memory, accelerators
from finetune_operator.pods.sources import user_mounts

GIBIBYTE = 2**30


class Prepare(JobStage):
    """The Job that checks the data."""

    name = "prepare"
    condition = Type.DATA_READY
    phase = Phase.PREPARING
    result = PrepareResult

    def needs(self, target: Target) -> JobNeeds:
        """It fetches the model and the rows, asks whether judge and endpoints answer, and gets credentials for that.

        It plans for the devices to come.
        """
        spec = target.spec
        sources = [spec.model.source, *data_uris(spec.dataset), *tasks_uris(spec.evaluation), *_copied(target)]
        return JobNeeds(
            measured=True,
            near=_holders(target),
            environment=[
                *credentials(target.spec),
                *bucket.keys(target.origin_bucket, bucket.ORIGIN),
                *endpoint_keys(target.spec),
            ],
            mounts=user_mounts(sources, target.cache),
            arguments=(
                *("--devices", str(accelerators(spec.training.resources))),
                *(("--nodes", str(spec.training.nodes)) if spec.training.nodes > 1 else ()),
                *_memory(target),
                *on_sensitive(target.spec.dataset),
                *sharding(spec.training),
                *tracking.arguments(spec.training),
                *formats(spec.output),
            ),
        )

    def made_from(self, context: Context) -> dict[str, Any]:
        """Beside what every Job gets, the credentials, what is measured, and what is told of the rows."""
        spec = context.spec
        told = (
            *_memory(context.target),
            *on_sensitive(spec.dataset),
            *sharding(spec.training),
            *formats(spec.output),
        )
        nodes = spec.training.nodes
        own = {
            "credentials": [names.given(part.credentials) for part in (spec.model, spec.dataset)],
            "evaluation": evaluation_id(context.target),
            **({"arguments": told} if told else {}),
            **({"nodes": nodes} if nodes > 1 else {}),
            **({"origin": dump(source)} if (source := context.target.origin_bucket) else {}),
        }
        asked = endpoint_secrets(spec) | tracking.made_from(spec.training)
        return super().made_from(context) | own | asked

    def waits(self, context: Context) -> Step | None:
        """What is copied has to be there when its pod starts; while that has it, Kubernetes keeps it."""
        found = context.target.origin
        return origin.lost(found, context.world) if found and not context.job(self.name) else None

    def step(self, context: Context) -> Step:
        """As of every Job; of a pod that does not start it may be known that its volume is elsewhere."""
        found, step = context.target.origin, super().step(context)
        if found is None or step.reason != Reason.STARTING:
            return step
        return replace(step, message=step.message + origin.shared(found, context.world))

    def entry(self, target: Target) -> str:
        """One for each revision."""
        return PREPARED

    def recorded(self, context: Context) -> Step | None:
        """How many rows there are, and the plan; or that this is more than its budget."""
        found = context.record.prepared
        if found is None:
            return None
        foreseen, told = pace(context), _told(found)
        told = _foreseen(told, foreseen) if foreseen else told
        # A training that has begun is left to its budget.
        refused = None if context.job(Train.name) else too_long(context, foreseen)
        return replace(refused, status=told.status) if refused else told


def _copied(target: Target) -> tuple[str, ...]:
    """The volume with what it starts from, and those of its base model where the user gave any."""
    found = target.origin
    if found is None:
        return ()
    volume = () if found.bucket else (f"pvc://{origin.claim(found)}/",)
    return (*volume, found.base.uri, found.cache.uri if found.cache else "")


def _holders(target: Target) -> dict[str, str] | None:
    """The pods that may hold that volume on their node."""
    on_volume = target.origin if target.origin and not target.origin.bucket else None
    wanted = on_volume and origin.job_and_address(on_volume.lineage[0])
    return {names.JOB: wanted[0], names.REVISION: names.revision_and_step(wanted[1])[0]} if wanted else None


def on_sensitive(dataset: Dataset) -> tuple[str, ...]:
    """The argument that tells prepare of dataset.onSensitive; none for the default.

    The run config can't: a revision's is written once, and this is no part of the revision.
    """
    wanted = dataset.on_sensitive
    return () if wanted == OnSensitive.WARN else ("--on-sensitive", wanted.value)


def _memory(target: Target) -> tuple[str, ...]:
    """The argument that tells what memory each accelerator has, where the operator's settings do."""
    training = target.spec.training
    found = accelerator_memory(training.resources, training.pod, target.settings.memory_of)
    return () if found is None else ("--device-memory", str(found))


def _foreseen(step: Step, foreseen: Pace) -> Step:
    """With status.plan's time."""
    plan: PlanStatus = step.status["plan"]
    reasons = {**plan.reasons, "estimatedSeconds": foreseen.reason}
    told = plan.model_copy(update={"estimated_seconds": round(foreseen.seconds), "reasons": reasons})
    return replace(step, status={**step.status, "plan": told})


def _told(result: PrepareResult) -> Step:
    """Fill status.model, status.dataset and status.plan."""
    rows = result.dataset.rows
    told = f"{rows.train} rows to train on, {rows.validation} to validate, {rows.test} set aside."
    return Step(
        State.SUCCEEDED,
        Reason.SUCCEEDED,
        " ".join((told, *result.warnings)),
        status={
            "model": ModelStatus(**result.model.model_dump()),
            "dataset": DatasetStatus(**result.dataset.model_dump(mode="json")),
            "plan": planned(result.plan),
        },
    )


def planned(plan: Plan) -> PlanStatus:
    """What prepare has chosen, as status tells it."""
    return PlanStatus(
        **plan.model_dump(exclude={"learning_rate", "estimated_memory_bytes"}),
        learning_rate=f"{plan.learning_rate:g}",
        estimated_memory=f"{plan.estimated_memory_bytes / GIBIBYTE:.1f}Gi",
    )
