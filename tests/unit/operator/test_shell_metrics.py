"""finetune_jobs: how many FineTuneJobs are in each phase, as they move and go."""

from finetune_operator.api.status import Phase
from finetune_operator.api.v1alpha1 import KIND
from finetune_operator.shell import metrics
from finetune_operator.shell.resources import Key
from prometheus_client import REGISTRY

FIRST, SECOND = Key(KIND, "kitchen", "first"), Key(KIND, "kitchen", "second")


def jobs() -> dict[Phase, float]:
    return {phase: REGISTRY.get_sample_value("finetune_jobs", {"phase": phase}) or 0.0 for phase in Phase}


def test_they_are_counted_where_they_are_and_nowhere_else() -> None:
    before = jobs()
    for key in (FIRST, SECOND, FIRST):
        metrics.remember(key, Phase.TRAINING)
    assert jobs() == before | {Phase.TRAINING: before[Phase.TRAINING] + 2}
    metrics.remember(FIRST, Phase.SERVING)
    moved = {Phase.TRAINING: before[Phase.TRAINING] + 1, Phase.SERVING: before[Phase.SERVING] + 1}
    assert jobs() == before | moved
    for key in (FIRST, FIRST, SECOND):
        metrics.forget(key)
    assert jobs() == before


def test_a_phase_of_nobody_is_told_as_nought() -> None:
    assert all(REGISTRY.get_sample_value("finetune_jobs", {"phase": phase}) is not None for phase in Phase)
