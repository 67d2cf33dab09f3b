"""Where a training starts that goes on from another FineTuneJob's artifact (model.source ftj://NAME[/REVISION]).

What NAME stands for is decided once, when the revision's record is made, and is in its run config from then on. `plan`
puts it into the target, `walk` and `stages.prepare` tell what is missing, `shell.store` asks who waits for whom.
"""

from collections.abc import Mapping
from typing import Any

from finetune_trainer.contract.config import ModelConfig, Origin
from finetune_trainer.contract.schemes import CLAIMS

from finetune_operator import names
from finetune_operator.conditions import Objection, Reason, Type
from finetune_operator.finetunejob.desired.volumes import ORIGIN
from finetune_operator.finetunejob.observe import World
from finetune_operator.finetunejob.record import InBucket, Record
from finetune_operator.finetunejob.stages.base import Step
from finetune_operator.finetunejob.target import Target
from finetune_operator.kinds.plan import State

SCHEME = "ftj://"
_SHARED = {"ReadWriteMany", "ReadOnlyMany"}


def source_named_in(spec: Mapping[str, Any]) -> str | None:
    """The FineTuneJob that a manifest starts from, as far as it can be read; None where it starts from none."""
    source = (spec.get("model") or {}).get("source")
    found = job_and_address(source) if isinstance(source, str) else None
    return found and found[0]


def job_and_address(uri: str) -> tuple[str, str] | None:
    """The FineTuneJob and the address of its revision in an ftj:// URI; the address may be left out."""
    if not uri.startswith(SCHEME):
        return None
    name, _, address = uri.removeprefix(SCHEME).partition("/")
    return name, address


def origin(target: Target, world: World) -> Origin | None:
    """What a revision starts from: as its record has it, or else as it is found now; None while there is nothing."""
    config = world.record(target.revision).run_config
    if config is not None:
        return config.model.origin
    wanted, source = job_and_address(target.spec.model.source), world.source
    if wanted is None or source is None:
        return None
    address = _chosen(source, wanted[1])
    return _found(source, address) if address else None


def missing(target: Target, world: World) -> Objection | None:
    """What of the manifest has to be mended before it can start from anything."""
    wanted = job_and_address(target.spec.model.source)
    if wanted is None or target.origin is not None:
        return None
    if world.source is None:
        return Reason.OBJECT_NOT_FOUND, (
            f"Not in namespace {world.namespace}: FineTuneJob {wanted[0]}. Create it, or correct model.source."
        )
    if circle := _circle(world):
        return Reason.INVALID, (
            f"model.source: {' starts from '.join(circle)}, and none of them is trained, so that none can begin. Let "
            "one of them start from another model."
        )
    return None


def waits(target: Target, world: World) -> Step | None:
    """What it waits for before its first object is made; None once it is known what it starts from."""
    wanted, source = job_and_address(target.spec.model.source), world.source
    if wanted is None or source is None or target.origin is not None:
        return None
    name, address = wanted
    revision, _ = names.revision_and_step(address)
    if address and (revision != source.status.revision or source.record(revision).trained):
        kept = ", ".join(sorted(found for found in source.records if _usable(source, found))) or "none"
        return Step(
            State.BLOCKED,
            Reason.OBJECT_NOT_FOUND,
            f"FineTuneJob {name} has no {address} that was trained and is kept; its revisions that are: {kept}. Name "
            "one of those in model.source, or none for the one that it serves.",
        )
    if source.record(source.status.revision or "").trained:
        return Step(
            State.BLOCKED,
            Reason.OBJECT_NOT_FOUND,
            f"FineTuneJob {name}, which it starts from, keeps the files of no revision that it has trained: their "
            "workspaces are gone (ttlAfterFinished). Name its artifact in model.source, where that is published and "
            f"whole, or have {name} trained again, by another training.seed.",
        )
    if failed := _failed(source):
        return Step(
            State.BLOCKED,
            Reason.SOURCE_FAILED,
            f"FineTuneJob {name}, which it starts from, has no trained revision. {failed} The work begins by itself "
            "once it has one.",
        )
    return Step(
        State.RUNNING,
        Reason.SOURCE_NOT_TRAINED,
        f"FineTuneJob {name}, which it starts from, is not trained yet ({source.status.phase or 'Pending'}); the work "
        "begins once it is.",
    )


def address(origin: Origin) -> str:
    """The address of the revision that it starts from."""
    return origin.lineage[0].rpartition("/")[2]


def in_bucket(target: Target, world: World) -> InBucket | None:
    """Where the files are that it starts from; None where they are on a volume."""
    found = target.origin
    if found is None or found.bucket is None:
        return None
    revision, _ = names.revision_and_step(address(found))
    kept = world.source.record(revision).bucket if world.source else None
    return kept if kept and kept.uri == found.bucket else InBucket(uri=found.bucket)


def claim(origin: Origin) -> str:
    """The volume of the revision that it starts from."""
    return origin.files.name


def lost(origin: Origin, world: World) -> Step | None:
    """That the volume is gone before anything was copied from it; None while it is there, or where there is none."""
    if origin.bucket:
        return None
    found = world.source.claims.get(claim(origin)) if world.source else None
    if found and not found.ref.deleting:
        return None
    return Step(
        State.BLOCKED,
        Reason.OBJECT_NOT_FOUND,
        f"PersistentVolumeClaim {claim(origin)}, which has {origin.lineage[0]}, was deleted before that was copied; "
        "name another revision in model.source.",
    )


def shared(origin: Origin, world: World) -> str:
    """A sentence for a volume that only one node may have, while somebody else has it."""
    if origin.bucket:
        return ""
    source = world.source
    found = source.claims.get(claim(origin)) if source else None
    if source is None or found is None or _SHARED & set(found.access_modes):
        return ""
    holder = next((pod.name for pod in source.pods if pod.live and claim(origin) in pod.claims), None)
    if holder is None:
        return ""
    return (
        f" It copies from PersistentVolumeClaim {claim(origin)}, which is {', '.join(found.access_modes)}: while Pod "
        f"{holder} uses that, both have to be on one node."
    )


def _chosen(source: World, address: str) -> str | None:
    """The address that is meant: without one what the FineTuneJob serves, or else the newest that it has trained."""
    newest = sorted(source.records.values(), key=lambda found: (found.record.created, found.record.revision))
    trained = (found.record.revision for found in reversed(newest))
    wanted = [address] if address else [source.served_revision or "", *trained]
    return next((found for found in wanted if _usable(source, found)), None)


def _usable(source: World, address: str) -> bool:
    revision, _ = names.revision_and_step(address)
    volume = source.claims.get(names.of_revision(source.name, revision))
    readable = source.record(revision).run_config is not None
    going = volume is not None and volume.ref.deleting
    return source.has(address) and readable and source.keeps(revision) and not going


def _found(source: World, address: str) -> Origin | None:
    revision, step = names.revision_and_step(address)
    record = source.record(revision)
    if record.run_config is None or record.trained is None:
        return None
    checkpoints = {found.step: found.digest for found in record.trained.checkpoints}
    model = record.run_config.model
    return Origin(
        digest=record.trained.artifact.digest if step is None else checkpoints[step],
        files=ORIGIN if record.bucket else CLAIMS / names.of_revision(source.name, revision),
        bucket=record.bucket.uri if record.bucket else None,
        step=step,
        base=model.source,
        cache=model.cache,
        lineage=(f"{SCHEME}{source.name}/{address}", *lineage(model, record)),
    )


def lineage(model: ModelConfig, record: Record) -> tuple[str, ...]:
    """What a base model goes back to, itself first."""
    if model.origin:
        return model.origin.lineage
    commit = record.prepared.model.commit if record.prepared else None
    uri = model.source.uri
    # Where it lies on a laptop is nobody's business.
    place = model.name if uri.startswith("file://") else uri
    return (f"{place}@{commit}" if commit else place,)


def _circle(world: World) -> list[str]:
    """The FineTuneJobs that start from one another, none of which has begun; empty where there is no such circle."""
    told, here = [world.name], world
    while here.source and (after := source_named_in(here.spec)):
        told.append(after)
        if after == world.name:
            return told
        here = here.source
        if _begins(here):
            return []
    return []


def _begins(world: World) -> bool:
    """Whether a FineTuneJob knows what it starts from, or is about to."""
    wanted = job_and_address(str((world.spec.get("model") or {}).get("source")))
    if wanted is None or world.source is None or world.status.revision in world.records:
        return True
    return _chosen(world.source, wanted[1]) is not None


def _failed(source: World) -> str:
    """Why it is not getting anywhere, in its own words; empty while it may."""
    earliest = (Type.ACCEPTED, Type.DATA_READY, Type.TRAINED)
    found = next((each for each in source.status.conditions if each.type in earliest and each.status == "False"), None)
    return f"Its {found.type} is False ({found.reason}): {found.message}" if found else ""
