"""Kueue, as far as a decision needs it: the Workload that it makes of a Job, and what that waits for, in Kueue's words.

`observe` reads Workloads, `desired.jobs` names the queue, `stages.job` tells. Kueue alone lets a queued Job go on, and
stops it again: nothing here writes a Job's spec.suspend after it is made.
"""

from dataclasses import dataclass

from finetune_operator import names
from finetune_operator.pods.metadata import Raw
from finetune_operator.pods.state import conditions, holds

WORKLOAD_CONDITIONS = ("QuotaReserved", "Admitted", "Evicted")
# Reasons of QuotaReserved that no waiting mends: the first is Kueue's up to 0.18, the others came after.
_REFUSED = frozenset({"Inadmissible", "Misconfigured", "NoMatchingFlavor", "ExceedsMaxQuota", "Suspended"})


@dataclass(frozen=True)
class WorkloadState:
    """What Kueue says of a Job. `refused`: what `pending` says is for somebody to mend. `evicted`: why it was stopped.

    `checks`: the admission checks that are not ready, once there is quota.
    """

    queue: str
    active: bool = True
    admitted: bool = False
    reserved: bool = False
    refused: bool = False
    pending: str = ""
    evicted: str = ""
    checks: tuple[str, ...] = ()


def workload_state(raw: Raw) -> WorkloadState:
    """Read a Workload."""
    found, status = conditions(raw), raw.get("status") or {}
    quota, evicted = found.get("QuotaReserved"), found.get("Evicted")
    spec = raw.get("spec") or {}
    return WorkloadState(
        queue=spec.get("queueName", ""),
        active=spec.get("active", True),
        admitted=holds(found.get("Admitted")),
        reserved=holds(quota),
        refused=quota is not None and quota.get("reason") in _REFUSED,
        pending=quota.get("message", "") if quota and not holds(quota) else "",
        evicted=evicted.get("message", "") if evicted and holds(evicted) else "",
        checks=tuple(
            f"{check['name']}: {check.get('message') or check['state']}"
            for check in status.get("admissionChecks") or []
            if check["state"] != "Ready"
        ),
    )


def made_for(raw: Raw) -> str | None:
    """The FineTuneJob that a Workload's pods say they are of: Kueue copies a Job's pod template, not its labels."""
    templates = (found.get("template") or {} for found in (raw.get("spec") or {}).get("podSets") or [])
    labels = ((found.get("metadata") or {}).get("labels") or {} for found in templates)
    return next((found[names.JOB] for found in labels if names.JOB in found), None)


def waits_for(job: str, queue: str, workload: WorkloadState | None) -> tuple[bool, str]:
    """Whether somebody has to mend something before Kueue lets a Job go on, and the sentence for it."""
    if workload is None:
        return False, (
            f"Job {job} waits in LocalQueue {queue}, and Kueue has not taken it up yet. If that lasts, look whether "
            "Kueue is installed, has the integration batch/job, and manages this namespace."
        )
    queue = workload.queue or queue
    stopped = ""
    if workload.evicted:
        stopped = f"Kueue stopped it ({_sentence(workload.evicted)}); it goes on from where it was. "
    if not workload.active:
        return True, (
            f"Job {job} is kept out of LocalQueue {queue}: its Workload is deactivated. {stopped}"
            "Set spec.active of the Workload to true, and it waits for quota again."
        )
    if workload.reserved:
        checks = f" Kueue waits for {'; '.join(workload.checks)}." if workload.checks else ""
        return False, f"Job {job} has quota of LocalQueue {queue} and is about to be admitted.{checks}"
    words = f"{stopped}Kueue says: {_sentence(workload.pending) or 'nothing yet'}."
    if workload.refused:
        return True, (
            f"Job {job} can't be admitted to LocalQueue {queue}. {words} Mend the queue, or name another one in "
            "training.queue."
        )
    return False, f"Job {job} waits for quota of LocalQueue {queue}. {words}"


def _sentence(text: str) -> str:
    return text.strip().removesuffix(".")
