"""Where a job starts that goes on from another job of this directory (model.source ftj://NAME[/REVISION]).

`trainer` writes it into the run config. What NAME stands for is decided once for a revision, as in a cluster, and by
the same rules: `.finetune/NAME/` is told as a cluster would look in which that job had been trained.
"""

from pathlib import Path

from finetune_operator.finetunejob.observe import ClaimState, RecordState, World
from finetune_operator.finetunejob.record import PREPARED, RUN_CONFIG, TRAINED, Record
from finetune_operator.finetunejob.stages import origin
from finetune_operator.finetunejob.target import Target
from finetune_operator.kinds.actions import Ref
from finetune_operator.names import of_revision, revision_and_step
from finetune_operator.settings import Settings
from finetune_trainer.contract.config import Origin

from finetune_cli.errors import ExitCode, UserError
from finetune_cli.job import LocalJob
from finetune_cli.store import Store


def found(job: LocalJob, store: Store) -> Origin | None:
    """What the job starts from; None where that is a model. UserError where it is not trained yet."""
    wanted = origin.job_and_address(job.spec.model.source)
    if wanted is None:
        return None
    name, address = wanted
    source = Store(name, store.directory.parent)
    world = World(name=job.name, namespace="", uid="", records=_records(store), source=_world(source))
    target = Target(job.name, "", "", job.spec, job.revision, Settings())
    if there := origin.origin(target, world):
        revision, _ = revision_and_step(origin.address(there))
        return there.model_copy(update={"files": source.workspace(revision).root})
    known = ", ".join(sorted(revision for revision in _trained(source) if revision != job.revision)) or "none"
    what = f"revision {address} of {name}" if address else name
    raise UserError(
        f"model.source: {what} was not trained in this directory (trained revisions: {known}); train it first, with "
        "`finetune run` of its manifest.",
        ExitCode.USAGE,
    )


def _world(source: Store) -> World:
    status = source.read()
    trained = _trained(source)
    return World(
        name=source.name,
        namespace="",
        uid="",
        records=_records(source),
        served_revision=status.served_revision if status else None,
        claims={
            name: ClaimState(Ref("PersistentVolumeClaim", name, "", revision), "Bound", "")
            for revision in trained
            if (name := of_revision(source.name, revision))
        },
    )


def _trained(source: Store) -> dict[str, Path]:
    """The revisions that have an artifact."""
    found = (path.parent.parent for path in source.directory.glob("*/artifact/artifact.json"))
    return {root.name: root for root in found}


def _records(source: Store) -> dict[str, RecordState]:
    """What the records of all its revisions would say."""
    roots = (path.parent for path in source.directory.glob(f"*/{RUN_CONFIG}"))
    return {root.name: _record(source, root.name) for root in roots}


def _record(source: Store, revision: str) -> RecordState:
    workspace = source.workspace(revision)
    files = {RUN_CONFIG: workspace.root / RUN_CONFIG, PREPARED: workspace.prepared, TRAINED: workspace.trained}
    entries = {key: path.read_text() for key, path in files.items() if path.exists()}
    trained = workspace.trained
    made = f"{trained.stat().st_mtime_ns:020}" if trained.exists() else ""
    ref = Ref("ConfigMap", of_revision(source.name, revision), "", revision)
    return RecordState(ref, "", Record(revision, made, entries))
