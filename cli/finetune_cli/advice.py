"""What a user can do next about a job, in sentences with the line to type: the end of `finetune describe`. Pure.

Only what follows from where the job is; what went wrong, and how to mend it, its conditions say themselves.
"""

from collections.abc import Callable, Iterator

from finetune_operator.api.status import Phase
from finetune_operator.conditions import Reason, Type
from finetune_trainer.contract.asked import rates

from finetune_cli.jobs import Job

REMOTE = ("s3://", "gs://", "abfs://", "hf://", "oci://")


def advice(job: Job) -> list[str]:
    """What to type next, the most useful line first."""
    return list(_BY_PHASE.get(job.status.phase, _under_way)(job))


def _under_way(job: Job) -> Iterator[str]:
    yield f"`finetune logs {job.name} --follow` shows what {job.current} writes; `finetune wait {job.name}` waits."


def _failed(job: Job) -> Iterator[str]:
    if job.idle:
        yield f"Mend what Why says; {job.resumes} goes on then."
    else:
        yield f"Mend what Why says, and apply the manifest; `finetune retry {job.name}` where the fault lay elsewhere."
    yield f"`finetune logs {job.name}` has what {job.current} wrote."


def _invalid(job: Job) -> Iterator[str]:
    yield "Mend the manifest, or make what it names, and apply it again."


def _blocked(job: Job) -> Iterator[str]:
    yield "Mend what Why says; it goes on by itself then."


def _suspended(job: Job) -> Iterator[str]:
    yield f"{job.resumes} goes on."


def _rejected(job: Job) -> Iterator[str]:
    yield f"`finetune report {job.name}` says what it lacks, and what to try."
    if not job.idle:
        yield f"`finetune promote {job.name}` serves it all the same."


def _serving(job: Job) -> Iterator[str]:
    ready = job.condition(Type.READY)
    if job.promote and ready and ready.reason == Reason.PINNED:
        yield f"{job.promote} serves because a person said so; `finetune promote {job.name} --unpin` ends that."
    endpoint = job.status.endpoint
    if endpoint and rates(endpoint.url):
        yield f"A whole chat that is posted to {endpoint.url} is rated: docs/methods.md shows how."
    else:
        yield f"`finetune chat {job.name}` asks it."
    yield from _worth(job)


def _succeeded(job: Job) -> Iterator[str]:
    if job.status.artifact and job.status.artifact.uri.startswith(REMOTE):
        yield f"`finetune fetch {job.name}` brings the artifact here."
    yield from _worth(job)


def _worth(job: Job) -> Iterator[str]:
    if job.status.evaluation:
        yield f"`finetune report {job.name}` tells whether it was worth it."


_BY_PHASE: dict[Phase, Callable[[Job], Iterator[str]]] = {
    Phase.FAILED: _failed,
    Phase.INVALID: _invalid,
    Phase.BLOCKED: _blocked,
    Phase.SUSPENDED: _suspended,
    Phase.REJECTED: _rejected,
    Phase.SERVING: _serving,
    Phase.SUCCEEDED: _succeeded,
}
