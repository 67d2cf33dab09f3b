"""The operator's Prometheus metrics, served by the entry point. `workqueue` and `reconcile` count here."""

from typing import TYPE_CHECKING

from prometheus_client import Counter, Gauge, Histogram

from finetune_operator.api.status import Phase

if TYPE_CHECKING:
    from finetune_operator.shell.resources import Key

RECONCILES = Counter("finetune_reconciles", "Reconciles, by how they ended.", ["result"])
DURATION = Histogram("finetune_reconcile_duration_seconds", "How long a reconcile took.")
QUEUE = Gauge("finetune_queue_depth", "FineTuneJobs that wait for a reconcile.")
LEADER = Gauge("finetune_leader", "1 where this operator works, 0 where it waits for the Lease.")
JOBS = Gauge("finetune_jobs", "FineTuneJobs, by phase.", ["phase"])

# A phase that no FineTuneJob is in is told as 0.
for _phase in Phase:
    JOBS.labels(_phase)

_phases: dict["Key", str] = {}


def remember(key: "Key", phase: str) -> None:
    """Note a FineTuneJob's phase."""
    if _phases.get(key) != phase:
        forget(key)
        _phases[key] = phase
        JOBS.labels(phase).inc()


def forget(key: "Key") -> None:
    """A FineTuneJob is gone."""
    if phase := _phases.pop(key, None):
        JOBS.labels(phase).dec()
