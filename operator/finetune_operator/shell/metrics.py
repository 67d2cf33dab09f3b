"""The operator's Prometheus metrics, served by the entry point. `workqueue` and `reconcile` count here."""

from collections import Counter
from typing import TYPE_CHECKING

from prometheus_client import Counter as PrometheusCounter
from prometheus_client import Gauge, Histogram

from finetune_operator.api.status import Phase

if TYPE_CHECKING:
    from finetune_operator.shell.resources import Key

RECONCILES = PrometheusCounter("finetune_reconciles", "Reconciles, by how they ended.", ["result"])
DURATION = Histogram("finetune_reconcile_duration_seconds", "How long a reconcile took.")
QUEUE = Gauge("finetune_queue_depth", "FineTuneJobs that wait for a reconcile.")
LEADER = Gauge("finetune_leader", "1 where this operator works, 0 where it waits for the Lease.")
JOBS = Gauge("finetune_jobs", "FineTuneJobs, by phase.", ["phase"])

_phases: dict["Key", str] = {}


def remember(key: "Key", phase: str) -> None:
    """Note a FineTuneJob's phase."""
    _phases[key] = phase
    _count()


def forget(key: "Key") -> None:
    """A FineTuneJob is gone."""
    _phases.pop(key, None)
    _count()


def _count() -> None:
    numbers = Counter(_phases.values())
    for phase in Phase:
        JOBS.labels(phase).set(numbers[phase])
