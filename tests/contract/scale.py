"""The operator with many FineTuneJobs on a simulated cluster, and what the API server was asked for meanwhile.

Used by `test_scale` and by `make benchmark-operator`: the steps that both measure.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import chart
from control_plane import User
from many import Many
from operator_process import OperatorProcess
from simulated import SimulatedCluster
from tally import AuditLog, Tally

# The API server's flow control puts a ServiceAccount's requests into these groups' queues.
GROUPS = ("system:serviceaccounts",)
# Seconds: looks that nothing calls for would be counted with those that something does.
NEVER = 86_400
OPERATOR = User("operator", GROUPS)
BARE = User("bare", GROUPS)


@dataclass
class Ground:
    """A simulated cluster, the operator on it, and its account of what the operator asked for."""

    cluster: SimulatedCluster
    operator: OperatorProcess
    log: AuditLog

    def touch(self, many: Many, numbers: range, seconds: float) -> tuple[float, Tally]:
        """Have the operator look at each once more for nothing: how many looks it took, and what it asked for."""
        self.operator.settle()
        before = self.operator.reconciles()
        self.log.since()
        many.touch(numbers, str(time.monotonic()))
        self.operator.within(seconds, lambda: self.operator.reconciles() >= before + len(numbers))
        self.operator.settle()
        return self.operator.reconciles() - before, self.log.since()

    def first_look(self, count: int, seconds: float) -> float:
        """Start the operator; the seconds until it has looked at all, as many as are there."""
        began = time.monotonic()
        self.operator.start()
        # Asked seldom: what answers /metrics is the process that is measured.
        self.operator.within(seconds, lambda: self._looked_at_all(count), every=0.25)
        return time.monotonic() - began

    def restart(self, count: int, seconds: float) -> Tally:
        """Stop the operator and start it again: what it asks for until it has looked at all."""
        self.operator.stop()
        self.log.since()
        self.first_look(count, seconds)
        self.operator.settle()
        return self.log.since()

    def second_looks(self, count: int, every: float, seconds: float) -> tuple[float, Tally]:
        """Have it look at all anew by itself, so often: how many looks it took, and what it asked for."""
        self.operator.stop()
        self.operator.configure(resync_seconds=every)
        self.first_look(count, seconds)
        self.log.since()
        before = self.operator.reconciles()
        self.operator.within(seconds, lambda: self.operator.reconciles() >= before + count)
        self.operator.configure(resync_seconds=NEVER)
        return self.operator.reconciles() - before, self.log.since()

    def _looked_at_all(self, count: int) -> bool:
        return self.operator.known() >= count and self.operator.metric("finetune_queue_depth") == 0


@contextmanager
def ground(directory: Path) -> Iterator[Ground]:
    """A cluster of its own; the operator has the chart's rights and isn't started yet."""
    directory.mkdir()
    cluster = SimulatedCluster(directory, OPERATOR, BARE)
    kubeconfig, log = cluster.kubeconfig(OPERATOR.name), directory / "operator.log"
    operator = OperatorProcess(kubeconfig, log, debug=False, progress_seconds=15, resync_seconds=NEVER)
    try:
        cluster.start()
        cluster.admin("create", "namespace", chart.SYSTEM)
        chart.give(cluster, cluster.admin, chart.rights(OPERATOR.name, BARE.name))
        yield Ground(cluster, operator, AuditLog(cluster.audit, OPERATOR.name))
    finally:
        operator.kill()
        cluster.stop()
